"""The page of a run: one HTML file that says what was decided and on what grounds, and needs nothing from elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sbr_tasks.clicks.catalog import ClickCatalog, DayState
from sbr_tasks.days import day_in_words, describe_days
from sbr_tasks.errors import DamagedError, RegistryError, TrackingError
from sbr_tasks.evaluation.metrics import KNOWLEDGE, METRICS, metric_title
from sbr_tasks.evaluation.slices import LENGTHS
from sbr_tasks.registry.gate import COMPARED, Metrics, share_of_resamples
from sbr_tasks.registry.log import Decision, Entry, PromotionLog, Rollback
from sbr_tasks.registry.mlflow_projection import MlflowProjection, version_url
from sbr_tasks.registry.staleness import staleness
from sbr_tasks.registry.versions import load_version, parameters_of
from sbr_tasks.report.changes import Facts, changes_between, previous_run
from sbr_tasks.report.figures import curve_figures, differences_figure, scores_figures
from sbr_tasks.report.profile.build import Profile, cleansing_rows, inline_plots, key_numbers, profile_of_window
from sbr_tasks.report.words import OUTCOMES, headline, instant_in_words
from sbr_tasks.settings import Settings
from sbr_tasks.store import Json, Store
from sbr_tasks.window.coverage import describe_cleansing
from sbr_tasks.window.record import PARTS, Window, window_record

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Report:
    """A page that was written.

    Attributes:
        key: Its key in the store.
        promotion: The decision that it shows.
        mlflow_version: MLflow's number of the version, whose run has the page among its files; None where MLflow can't show it.
        mlflow_url: Where MLflow's server shows the version; None where MLflow is no server.
    """

    key: str
    promotion: Decision
    mlflow_version: str | None
    mlflow_url: str | None

    def as_dict(self, store: Store) -> Json:
        """The report as the step and the command line return it."""
        return {
            "day": str(self.promotion.as_of),
            "report": store.where(self.key),
            "model_version": self.promotion.version,
            "outcome": self.promotion.outcome.value,
            "log_entry": self.promotion.number,
            "mlflow_version": self.mlflow_version,
            "mlflow_url": self.mlflow_url,
        }


def write_report(store: Store, settings: Settings, as_of: date, promotion: Decision | None = None) -> Report:
    """Writes the page of a decision, and adds it to the version in MLflow.

    Args:
        store: Has the records, and takes the page.
        settings: Say where MLflow is.
        as_of: The day of the run.
        promotion: The decision, or the verdict of a run that wasn't to promote (`promotion.judge`); None: the day's last one.

    Raises:
        RegistryError: Nothing was decided for that day.
        TrackingError: MLflow can't be used; the page was written to the store anyway.
    """
    entries = PromotionLog(store).entries()
    decided = [entry for entry in entries if isinstance(entry, Decision) and entry.as_of == as_of]
    promotion = promotion or (decided[-1] if decided else None)
    if promotion is None:
        raise RegistryError(_nothing_decided(as_of, ClickCatalog(store).days().get(as_of, DayState())))
    number, fault = None, None
    try:
        projection = MlflowProjection(store, settings)
        number = projection.number_of(promotion.version)
    except TrackingError as error:
        fault = error
    report = Report(promotion.page, promotion, number, version_url(settings, number) if number else None)
    store.replace(report.key, _render(store, settings, entries, report).encode())
    where = store.where(report.key)
    if fault:
        raise TrackingError(f"The page was written to {where}, but adding it to MLflow failed: {fault}") from fault
    projection.show_page(promotion)
    return report


def _nothing_decided(as_of: date, state: DayState) -> str:
    """That there is nothing to report, and what is known of the day."""
    known = ""
    if state.quarantined:
        known = f" Its clicks are in quarantine (`sbr quarantine show {as_of}`): {'; '.join(state.failures)}."
    elif state.empty:
        known = " The source had no clicks on that day."
    return (
        f"There is no decision for {as_of} yet, so there is nothing to report.{known.replace('..', '.')} "
        f"Run `sbr retrain --as-of {as_of}`."
    )


def _render(store: Store, settings: Settings, entries: Sequence[Entry], report: Report) -> str:
    promotion = report.promotion
    version = load_version(store, promotion.version)
    window = window_record(store, promotion.as_of, promotion.window)
    environment = Environment(loader=PackageLoader("sbr_tasks.report"), autoescape=True, undefined=StrictUndefined)
    days = ClickCatalog(store).days()
    revisions = window.inputs.revisions
    warnings = {str(day): found for day, state in days.items() if (found := state.warnings_of(revisions.get(day, "")))}
    stale = staleness(store, [version.name], days)[version.name]
    profile = _profile(store, window)
    before = previous_run(entries, promotion)
    ledger = ClickCatalog(store).ledger_of(promotion.as_of)
    now = Facts(promotion, window, version)
    return environment.get_template("run.html").render(
        promotion=promotion,
        headline=headline(promotion),
        label_of=lambda decision: OUTCOMES[decision.outcome].label.lower(),
        in_words=day_in_words,
        instant=instant_in_words,
        share_of_resamples=share_of_resamples,
        passed=promotion.outcome.passed,
        later=_later(entries, promotion),
        champion_now=entries[-1].champion if entries else None,
        report=report,
        model_name=settings.mlflow.model_name,
        version=version,
        parameters=parameters_of(version),
        window=window,
        parts=PARTS,
        metrics=METRICS,
        knowledge=KNOWLEDGE,
        named=metric_title,
        key_metrics=COMPARED,
        compared=list(promotion.scored.items()),
        by_length=_by_length(promotion),
        curve=version.curve,
        scores=_marked(scores_figures(promotion)),
        differences=_marked([differences_figure(promotion)]),
        epochs=_marked(curve_figures(version.curve, version.best_epoch)),
        before=before,
        changes=changes_between(_facts_of(store, before), now) if before else None,
        warnings=warnings,
        ledger=ledger if ledger and ledger.is_worth_showing else None,
        stored={day: state.last.rows for day, state in days.items() if state.last},
        stale=describe_days(stale.days),
        stale_ancestors={name: describe_days(of_ancestor) for name, of_ancestor in stale.ancestors.items()},
        cleansing=describe_cleansing(window),
        too_long=window.cleansing.too_long,
        validation_day=None if window.validation_day == window.as_of - timedelta(days=1) else window.validation_day,
        key_numbers=key_numbers(profile.numbers) if profile else {},
        cleansing_rows=cleansing_rows(profile.numbers) if profile else [],
        plots=[(title, Markup(svg)) for title, svg in inline_plots(store, profile)] if profile else [],  # noqa: S704
        timezone=settings.timezone,
    )


def _marked(figures: Sequence[str]) -> list[Markup]:
    """Figures that the page takes as they are: they are drawn here, of numbers."""
    return [Markup(svg) for svg in figures if svg]  # noqa: S704


def _later(entries: Sequence[Entry], promotion: Decision) -> list[str]:
    """What people did with the version after the decision, in sentences."""
    found = []
    for entry in entries[promotion.number or len(entries) :]:
        if isinstance(entry, Rollback) and promotion.version in (entry.before, entry.version):
            what = (
                f"Retired: rolled back to {entry.version}"
                if entry.before == promotion.version
                else f"Champion again: rolled back from {entry.before}"
            )
            at = instant_in_words(entry.at)
            found.append(f"{what} (log entry {entry.number}, {at}, by {entry.run}). Reason: {entry.reason}")
    return found


def _facts_of(store: Store, promotion: Decision) -> Facts:
    """What is still known of an earlier run, whose records may be lost or removed."""
    window, version = None, None
    try:
        window = window_record(store, promotion.as_of, promotion.window)
        version = load_version(store, promotion.version)
    except (DamagedError, RegistryError) as error:
        logger.warning("Some of what changed since the run of %s is unknown: %s", promotion.as_of, error)
    return Facts(promotion, window, version)


def _profile(store: Store, window: Window) -> Profile | None:
    """The profile of the window's clicks; None where they are gone, as may be of an old run."""
    try:
        return profile_of_window(store, window)
    except DamagedError as error:
        logger.warning("The page of %s has no profile of the data: %s", window.as_of, error)
        return None


def _by_length(promotion: Decision) -> list[tuple[str, list[tuple[str, Metrics]]]]:
    """For each length of session, what challenger and champion scored, by column."""
    columns = [("challenger", promotion.version), ("champion", promotion.opponent or "")]
    scored = [(label, promotion.by_length[name]) for label, name in columns if name in promotion.by_length]
    return [(length, [(label, found[length]) for label, found in scored if length in found]) for length in LENGTHS]
