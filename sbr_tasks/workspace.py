"""The workspace: settings and store, opened once, and a method for each step of a run.

Tasks, the command line, web pages and notebooks all call these methods.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from sbr_tasks.clicks import ingest, preview
from sbr_tasks.clicks.catalog import ClickCatalog, DayState
from sbr_tasks.clicks.commits import Revision
from sbr_tasks.clicks.ingest import Ingested
from sbr_tasks.clicks.rejects import Rejects
from sbr_tasks.days import as_day, window_days
from sbr_tasks.errors import DamagedError, DayError, NotArrivedError, StoreError
from sbr_tasks.experiments import offline, search
from sbr_tasks.registry import listing, promotion, recommend
from sbr_tasks.registry.exclusions import next_items_rule, served_rule
from sbr_tasks.registry.log import Decision, PromotionLog
from sbr_tasks.registry.mlflow_projection import MlflowProjection, version_url
from sbr_tasks.registry.recommend import Recommendation
from sbr_tasks.registry.versions import train_version
from sbr_tasks.report import page, plots, runs
from sbr_tasks.report.estimate import seconds_per_day
from sbr_tasks.report.profile import build as profiles
from sbr_tasks.results import (
    Announcement,
    BuiltWindow,
    ChampionEvent,
    Decided,
    IngestedDay,
    Pinned,
    Preview,
    PublishedItems,
    Retrained,
    RolledBack,
    Scores,
    TrainedVersion,
    Tuned,
    ValidatedDay,
)
from sbr_tasks.settings import Settings, absolute_place, is_url, load_settings, settings_file
from sbr_tasks.store import Json, Store
from sbr_tasks.upkeep import check, clear, copy
from sbr_tasks.validation import closing, quarantine, required, validate_days
from sbr_tasks.window import build as windows
from sbr_tasks.window.record import Window, load_window
from sbr_tasks.wish import Wish, current_user

logger = logging.getLogger(__name__)

_OF_THE_MODEL = ("window", "model", "training", "recommend", "gate")
"""Sections of the settings that a model and the decision on it depend on."""


class Workspace:
    """Settings and the store that they name, with a method for each step of a run.

    Days are given as dates or as `YYYY-MM-DD`; windows and versions by their names, as earlier steps return them.

    Examples:
        >>> from sbr_tasks.workspace import Workspace
        >>> workspace = Workspace.open({"source.path": "var/clicks.dat", "source.format": "yoochoose", "model.n_epochs": 3})
        >>> workspace.ingest_clicks("2014-09-30")
        >>> workspace.validate_clicks("2014-09-30")
        >>> window = workspace.build_window("2014-09-30")
        >>> version = workspace.train_gru4rec("2014-09-30", window.window)
        >>> names = "2014-09-30", window.window, version.model_version
        >>> print(workspace.evaluate_models(*names))
        >>> decision = workspace.promote_if_better(*names)
        >>> decision.outcome, decision.champion
        >>> workspace.recommend(["214604259", "214604526"], k=20).items

        `workspace.retrain("2014-09-30")` does all of it.

    Attributes:
        settings: The current settings.
        overrides: Those that were passed to `open`, by dotted name.
    """

    def __init__(self, settings: Settings, store: Store | None = None, overrides: Mapping[str, Any] | None = None) -> None:
        """Most callers use `open`; `store` is the one that the settings name, if it is open already."""
        self.settings = settings
        self.overrides = dict(overrides or {})
        if store is not None:
            self.store = store

    @classmethod
    def open(cls, overrides: Mapping[str, Any] | None = None) -> Workspace:
        """The workspace of the working folder's settings.

        Args:
            overrides: Settings that win over file and environment, as `{"model.n_epochs": 3}`. Decisions name those that a
                model depends on.

        Raises:
            SettingsError: A setting is unknown, or its value is out of bounds.
        """
        return cls(load_settings(overrides), overrides=overrides)

    @cached_property
    def store(self) -> Store:
        """The store, opened when it is first needed.

        Raises:
            StoreError: It can't be opened, or another release wrote it.
        """
        return Store.open(self.settings)

    @cached_property
    def catalog(self) -> ClickCatalog:
        """The days of clicks."""
        return ClickCatalog(self.store)

    @cached_property
    def log(self) -> PromotionLog:
        """The promotion log."""
        return PromotionLog(self.store)

    # The steps of a run

    def ingest_clicks(self, day: date | str, *, holds_back: bool = True) -> IngestedDay:
        """Ingests the days of the window that the store doesn't hold, in one pass over the source.

        Args:
            day: The day of the run.
            holds_back: Whether files that may be half written (`source.settle_seconds`) aren't read yet.

        Raises:
            NotArrivedError: There is no source, it has no clicks of `day`, or it may be half written.
            DayError: `day` is closed, or the window needs days that were removed, and the source no longer holds them.
        """
        day = as_day(day)
        closing.require_open(day, self.catalog.days().get(day, DayState()))
        ingested = ingest.ingest_missing(self.store, self.settings, day, holds_back=holds_back)
        days = self.catalog.days()
        window = window_days(day, self.settings.window.days)
        if removed := [each for each in window if each in days and days[each].status == "removed"]:
            absent = ingest.removed_and_absent(removed, self.settings)
            raise DayError(f"The window of {day} would have holes. {absent}")
        state = days.get(day)
        if state is None or state.incoming is None:
            raise NotArrivedError(ingest.no_clicks_of(day, self.catalog.days_of_source(day), self.settings))
        if ingested is None:
            return IngestedDay(day=day, clicks=state.incoming.rows)
        return IngestedDay(
            day=day,
            clicks=state.incoming.rows,
            ingested=ingested.days,
            empty=ingested.empty,
            rows=ingested.rows,
            rejected=ingested.rejected,
            ledger=ingested.ledger,
            warnings=ingested.warnings,
        )

    def validate_clicks(self, day: date | str) -> ValidatedDay:
        """Validates the pending days of the window in day order, and checks that the window can be built.

        Raises:
            DayError: `day` is empty, closed or in quarantine, or too many days are missing.
        """
        day = as_day(day)
        validated = validate_days.validate_pending(self.store, self.settings, window_days(day, self.settings.window.days))
        validate_days.log_validated(validated)
        days = required.require_days(self.catalog.days(), self.settings, day)
        return ValidatedDay(
            day=day,
            accepted=validated.accepted,
            quarantined=validated.quarantined,
            missing=tuple(days.missing),
            validation_day=days.validation_day,
            warnings=tuple(validated.warnings.get(day, ())),
        )

    def build_window(self, day: date | str) -> BuiltWindow:
        """Builds the window that ends with `day`, or finds it; see `sbr_tasks.window.build`.

        Raises:
            DayError: A day of the window is bad, or too many are missing.
            WindowError: Cleansing leaves nothing to train or to test on.
        """
        window = windows.window_for_day(self.store, self.settings, as_day(day))
        return BuiltWindow(
            day=window.day,
            window=window.fingerprint,
            clicks=window.part_clicks,
            items=window.n_items,
            **{name: part.clicks for name, part in window.parts.items()},
            validation_day=window.validation_day,
            record=window,
            text=windows.window_table(window),
        )

    def train_gru4rec(self, day: date | str, window: str) -> TrainedVersion:
        """Trains GRU4Rec on a window, or finds the version, and shows it in MLflow.

        Raises:
            TrainingError: The loss is no longer finite.
        """
        version = train_version(self.store, self.settings, self._window(day, window))
        number = MlflowProjection(self.store, self.settings).show_version(version)
        last = version.curve[version.choice.n_epochs - 1]
        return TrainedVersion(
            day=as_day(day),
            window=window,
            model_version=version.name,
            mlflow_version=number,
            mlflow_url=version_url(self.settings, number),
            n_epochs=version.choice.n_epochs,
            chosen_on=version.choice.day,
            events_per_second=round(last.events_per_second),
            validation_recall_at_20=last.validation_recall_at_20,
            took_s=version.took_s,
        )

    def evaluate_models(self, day: date | str, window: str, model_version: str) -> Scores:
        """Scores the challenger, its opponent and the baselines on the same events of `day`.

        An opponent that can't be used is left out; `promote_if_better` decides what follows from that.
        """
        opponent = self.log.state().opponent_for(as_day(day))
        challenger = self._window(day, window), model_version
        scores, _ = promotion.score_contenders(self.store, self.settings, *challenger, opponent)
        kept = ("recall_at_20", "mrr_at_20", "n_events")
        metrics = {name: {metric: score.metrics.get(metric) for metric in kept} for name, score in scores.items()}
        return Scores(day=as_day(day), scores=metrics)

    def promote_if_better(self, day: date | str, window: str, model_version: str, wish: Wish | None = None) -> Decided:
        """Lets the gate decide, records the decision, and updates MLflow and the serving copy.

        Args:
            day: The day of the run.
            window: Fingerprint of the window that ends with it.
            model_version: The challenger.
            wish: Who decides, and whether the gate does. If nothing is to be promoted, the gate's verdict is returned and
                nothing is recorded.

        Raises:
            RegistryError: Nothing can be decided, or a retired version is forced.
        """
        wish = wish or Wish()
        challenger = self._window(day, window), model_version
        if wish.promote == "never":
            decision, is_new = self._preview_decision(*challenger, wish), False
            logger.info("%s: %s. %s", model_version, decision.outcome, " ".join(decision.reasons))
        else:
            decision, is_new = promotion.commit_decision(
                self.store, self.settings, *challenger, wish, overridden=self._overridden
            )
        state = self.log.state()
        is_own = wish.promote != "never" and (is_new or decision.actor == wish.actor)
        return Decided(
            day=as_day(day),
            model_version=model_version,
            outcome=decision.outcome,
            reasons=decision.reasons,
            champion=state.champion,
            log_entry=decision.number or None,
            promoted=is_own and state.champion_entry == decision.number,
        )

    def champion_event(self, decision: Decided | Json) -> Announcement:
        """What there is to announce of a decision now, which may be long after it was made."""
        decided = Decided.model_validate(decision)
        if not decided.promoted:
            return Announcement(event=None, why=f"{decided.outcome}: the champion stays {decided.champion}.")
        version, entry, live = decided.model_version, decided.log_entry, self.log.state().champion_entry
        if entry is None or live != entry:
            why = f"{version} became champion with log entry {entry}, but is no longer: log entry {live} replaced it."
            return Announcement(event=None, why=why)
        event = ChampionEvent(model_version=version, day=decided.day, log_entry=entry)
        return Announcement(event=event, why=f"{version} is the champion (log entry {entry}).")

    def write_report(
        self, day: date | str, window: str | None = None, model_version: str | None = None, wish: Wish | None = None
    ) -> page.WrittenReport:
        """Writes the page of the day's run and keeps it with the version in MLflow.

        Args:
            day: The day of the run.
            window: Fingerprint of the window that ends with it; given with `model_version`.
            model_version: The version that the page is about, decided on or not; None: that of the day's last decision.
            wish: What the run was started for, which the page of a version without a decision says.

        Raises:
            RegistryError: Nothing was decided for that day.
        """
        decision = None
        if window and model_version:
            decision = self._preview_decision(self._window(day, window), model_version, wish or Wish())
        return page.publish_page(self.store, self.settings, as_day(day), decision)

    def retrain(self, day: date | str, wish: Wish | None = None, *, holds_back: bool = True) -> Retrained:
        """The whole chain: ingest, validate, window, train, evaluate, promote, report.

        Args:
            day: The day whose clicks are new.
            wish: Whether the version is to be promoted, and who says so.
            holds_back: See `ingest_clicks`.
        """
        ingested = self.ingest_clicks(day, holds_back=holds_back)
        validated = self.validate_clicks(day)
        window = self.build_window(day)
        logger.info("%s", window)
        trained = self.train_gru4rec(day, window.window)
        names = (day, window.window, trained.model_version)
        scores = self.evaluate_models(*names)
        decision = self.promote_if_better(*names, wish)
        report = self.write_report(*names, wish)
        logger.info("Report: %s", report.report)
        return Retrained(
            **dict(decision),
            ingest_clicks=ingested,
            validate_clicks=validated,
            build_window=window,
            train_gru4rec=trained,
            evaluate_models=scores,
            report=report.report,
        )

    # The champion

    def roll_back(self, to: str, reason: str, *, pin: bool = False, actor: str | None = None) -> RolledBack:
        """Makes an earlier champion the champion again, and retires the present one; see `promotion.commit_rollback`.

        Args:
            to: The version.
            reason: Why, for the promotion log.
            pin: Whether to pin it, too.
            actor: Who or which run; None: the person at the command line.
        """
        done = promotion.commit_rollback(self.store, self.settings, to, reason=reason, actor=actor or current_user(), pin=pin)
        return RolledBack(model_version=done.version, day=done.day, log_entry=done.number, retired=done.before, pinned=done.pin)

    def pin(self, reason: str, *, actor: str | None = None) -> Pinned:
        """Keeps the champion whatever the gate says, until `unpin`; see `promotion.commit_pin`."""
        entry = promotion.commit_pin(self.store, reason=reason, actor=actor or current_user())
        champion = str(self.log.state().champion)  # a rollback may have moved a pin
        return Pinned(model_version=champion, log_entry=entry.number, pinned=True, reason=entry.reason)

    def unpin(self, reason: str = "", *, actor: str | None = None) -> Pinned:
        """Lets decisions move the champion again, from the next one on."""
        entry = promotion.commit_unpin(self.store, reason=reason, actor=actor or current_user())
        return Pinned(model_version=entry.version, log_entry=entry.number, pinned=False, reason=entry.reason)

    def repair(self) -> promotion.Repaired:
        """Rebuilds MLflow and the serving copy from the store; see `promotion.repair_projections`."""
        return promotion.repair_projections(self.store, self.settings)

    def recommend(self, session: Sequence[str], *, k: int = 20, model: str | None = None) -> Recommendation:
        """The next items of a session, from the champion or another version; see `sbr_tasks.registry.recommend`.

        Raises:
            SettingsError: The list of excluded items can't be read.
        """
        return recommend.recommend_items(self.store, list(session), k=k, name=model, rule=served_rule(self.settings))

    def publish_next_items(self) -> PublishedItems:
        """Writes the champion's best next items after every item: never the item itself, unless the settings allow it.

        Raises:
            SettingsError: The list of excluded items can't be read.
        """
        version, file = recommend.write_next_items(self.store, next_items_rule(self.settings))
        return PublishedItems(model_version=version, file=self.store.where(file.key))

    # Lists and details

    def list_runs(self, days: Sequence[date | str] | None = None) -> list[runs.RunRow]:
        """A row a day, oldest first; without `days`, every day that a decision was made on."""
        return runs.run_rows(self.store, None if days is None else [as_day(day) for day in days])

    def list_models(self) -> list[listing.ModelRow]:
        """A row a version, oldest day first; see `listing.model_rows`."""
        return listing.model_rows(self.store)

    def show_model(self, version: str) -> listing.VersionDetails:
        """All that is known of a version: settings, learning curve, lineage, decisions."""
        return listing.describe_version(self.store, version)

    def diff_models(self, first: str, second: str) -> dict[str, tuple[Any, Any]]:
        """What differs between two versions, by dotted name."""
        return listing.version_differences(self.store, first, second)

    def list_decisions(self) -> list[listing.LogRow]:
        """A row an entry of the promotion log, in order."""
        return listing.log_rows(self.store)

    def show_pin(self) -> listing.LogRow | None:
        """The entry that pinned the champion; None where it isn't pinned."""
        return listing.pin_row(self.store)

    def profile(self, day: date | str, out: Path | None = None) -> tuple[profiles.Profile, list[Path]]:
        """The profile of the clicks of a day's window before cleansing.

        Args:
            day: The last day of the window.
            out: A folder that gets the numbers and plots as files.

        Returns:
            The profile, and the files.
        """
        profile = profiles.profile_window(self.store, self.settings, as_day(day))
        return profile, plots.write_files(profile, out) if out else []

    # Clicks and days

    def ingest(self, days: Sequence[date | str] | None = None, *, holds_back: bool = True) -> Ingested:
        """Reads clicks into the store, all days of the source at once or only some; see `sbr_tasks.clicks.ingest`."""
        selected = None if days is None else [as_day(day) for day in days]
        return ingest.ingest(self.store, self.settings, days=selected, holds_back=holds_back)

    def validate(self) -> validate_days.Validated:
        """Validates every ingested day that has no verdict yet."""
        return validate_days.validate_pending(self.store, self.settings)

    def preview(self, days: int = 3) -> Preview:
        """Checks that the source can be read, and how long a run takes.

        Args:
            days: How many days to check, counted back from the last one.

        Raises:
            SourceError: It can't be read.
            DayError: A window that ends with one of these days has too few days with clicks.
        """
        rejects = Rejects(self.settings.ingest.max_rejected)
        counts = preview.clicks_by_day(self.settings, rejects)
        last = list(counts)[-days:]
        largest = preview.require_windows(counts, self.catalog.days(), last, self.settings)
        return Preview(
            lines=rejects.lines,
            clicks=sum(counts.values()),
            rejected=rejects.rejected,
            filtered=rejects.filtered,
            first_day=next(iter(counts)),
            last_days=tuple(last),
            window_clicks=largest,
            seconds_per_day=round(seconds_per_day(largest, self.settings)),
        )

    def list_quarantine(self) -> list[quarantine.QuarantinedDay]:
        """The days in quarantine, each with its failures."""
        return quarantine.quarantine_rows(self.store)

    def show_quarantine(self, day: date | str) -> quarantine.QuarantineDetails:
        """What failed on a day in quarantine, with examples."""
        return quarantine.describe_quarantined(self.store, as_day(day))

    def release(self, day: date | str, reason: str, *, actor: str | None = None) -> Revision:
        """Accepts a quarantined day anyway; see `quarantine.commit_release`."""
        return quarantine.commit_release(self.store, self.settings, as_day(day), reason=reason, actor=actor or current_user())

    def list_days(self) -> list[closing.DayRow]:
        """The days that the store knows."""
        return closing.day_rows(self.store)

    def close_day(self, day: date | str, reason: str, *, actor: str | None = None) -> None:
        """Marks a day that will never have clicks."""
        closing.commit_closing(self.store, as_day(day), reason=reason, actor=actor or current_user(), now=datetime.now(UTC))

    def open_day(self, day: date | str, reason: str, *, actor: str | None = None) -> None:
        """Opens a closed day again."""
        closing.commit_opening(self.store, as_day(day), reason=reason, actor=actor or current_user(), now=datetime.now(UTC))

    def forget_day(self, day: date | str, reason: str) -> Sequence[str]:
        """Removes a day's clicks, and returns the keys of their files."""
        return clear.remove_day(self.store, as_day(day), reason=reason, now=datetime.now(UTC))

    # The store

    def find_faults(self) -> check.Checked:
        """Verifies every file that a record of the store names."""
        return check.verify_store(self.store)

    def check_store(self) -> check.Checked:
        """As `find_faults`, for a run that must not continue on a damaged store.

        Raises:
            DamagedError: Something is missing or damaged; the log names each file and says what to do.
        """
        checked = self.find_faults()
        checked = checked.model_copy(update={"text": f"{self.store.url}\n{checked}"})
        if checked.faults:
            logger.error("%s", checked)
            raise DamagedError(
                f"{len(checked.faults)} files of {self.store.url} are missing or damaged, such as {checked.faults[0].key}. "
                "The lines above, and `sbr store check`, name each and say what to do."
            )
        return checked

    def clear_store(self, keep_days: int | None = None, *, dry_run: bool = False, is_confirmed: bool = False) -> clear.Cleared:
        """Removes what no retained run and no log entry needs.

        Args:
            keep_days: Days before the newest decided one that are kept; None: the setting `upkeep.keep_days`.
            dry_run: Whether only to report what would be removed.
            is_confirmed: Whether a person agrees to the removal of more than half of the accepted days.

        Raises:
            DayError: More than half of the accepted days would be removed, and nobody confirmed that (`sbr store gc --yes`).
        """
        days = self.settings.upkeep.keep_days if keep_days is None else keep_days
        now = datetime.now(UTC)
        return clear.remove_unneeded(
            self.store, self.settings, keep_days=days, now=now, dry_run=dry_run, is_confirmed=is_confirmed
        )

    def copy_store(self, to: str, *, source: str | None = None, options: Mapping[str, str] | None = None) -> copy.Copied:
        """Copies a store with its history to another folder or bucket, or brings such a copy up to date.

        Args:
            to: A folder or URL.
            source: The store to copy; None: that of the settings.
            options: Of the object store of `to`; None: the setting `store_options`.

        Raises:
            StoreError: There is no store, or one of them is out of reach.
            FormatError: Another release wrote one of them.
        """
        source, target = (absolute_place(place, Path.cwd()) for place in (source or self.settings.store, to))
        if not is_url(source) and not Path(source).is_dir():
            raise StoreError(f"Expected a store in {source}, found no such folder. Nothing was copied.")
        own_options = self.settings.store_options
        stores = Store(source, own_options), Store(target, own_options if options is None else options)
        for store in stores:
            store.require_format()
        return copy.copy_objects(*stores)

    # Experiments

    def evaluate(self, train: str, test: Sequence[str]) -> offline.Comparison:
        """Compares GRU4Rec and the baselines under the protocol of papers: train on one file, test on others."""
        return offline.compare_offline(train, test, self.settings)

    def tune(
        self,
        day: date | str,
        out: Path,
        *,
        minutes: float = 30,
        trials: int | None = None,
        max_units: int = 512,
        judging_days: int = 7,
    ) -> Tuned:
        """Searches for better hyperparameters on a day's window; the same search again continues.

        Args:
            day: The day that the window ends with.
            out: The settings file to write; `FILE.trials` keeps all trials.
            minutes: Time limit.
            trials: Maximum number of trials; None: no limit.
            max_units: Maximum units of the layer.
            judging_days: Days before `day` that judge the settings; they aren't trained on.
        """
        base = settings_file()
        search.require_beside(out, base)
        window = windows.window_for_day(self.store, self.settings, as_day(day))
        result = search.search(
            windows.split_for_judging(self.store, self.settings, window, judging_days),
            window,
            self.settings,
            journal=out.with_name(f"{out.name}.trials"),
            minutes=minutes,
            n_trials=trials,
            max_units=max_units,
            judging_days=judging_days,
        )
        best, start = result.best, result.start
        measured = f"Recall@20 {best.recall_at_20:.4f}, MRR@20 {best.mrr_at_20:.4f} on the {judging_days} days before {day}"
        search.write_settings(out, best.model, base=base, comment=f"sbr tune, {result.n_trials} trials: {measured}")
        lines = [
            search.search_table(result),
            f"Trials: {result.n_trials}, {result.n_pruned} of them stopped early. Written to {out}.",
            *([f"None beat the current settings, so {out} repeats them."] if best.is_start else []),
        ]
        return Tuned(
            file=str(out),
            trials=result.n_trials,
            pruned=result.n_pruned,
            present={"recall_at_20": start.recall_at_20, "mrr_at_20": start.mrr_at_20},
            best={"recall_at_20": best.recall_at_20, "mrr_at_20": best.mrr_at_20},
            changes=search.changes(start.model, best.model),
            text="\n".join(lines),
        )

    def _window(self, day: date | str, fingerprint: str) -> Window:
        return load_window(self.store, as_day(day), fingerprint)

    def _preview_decision(self, window: Window, model_version: str, wish: Wish) -> Decision:
        return promotion.preview_decision(self.store, self.settings, window, model_version, wish, overridden=self._overridden)

    @property
    def _overridden(self) -> tuple[str, ...]:
        """The overrides that a model and the decision on it depend on, as the log names them."""
        of_the_model = {key: value for key, value in self.overrides.items() if key.partition(".")[0] in _OF_THE_MODEL}
        return tuple(f"{key}={json.dumps(value)}" for key, value in of_the_model.items())
