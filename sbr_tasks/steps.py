"""The steps of a daily run, as the DAG's tasks and `sbr retrain` call them.

Each takes plain values, derives everything else from the day and the settings, and returns a small summary. Packages that
take seconds to import are imported inside the step that needs them.
"""

from __future__ import annotations

import getpass
import logging
import os
import socket
from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from sbr_tasks.days import parse_day, resolve_as_of
from sbr_tasks.errors import DamagedError, DayError, NotArrivedError
from sbr_tasks.settings import Settings, load_settings

if TYPE_CHECKING:
    from sbr_tasks.store import Json, Store
    from sbr_tasks.window.record import Window

logger = logging.getLogger(__name__)


def resolve_day(day: str | None, run_type: str, interval_start: datetime | None) -> str:
    """The day of a run, as `YYYY-MM-DD`; see `sbr_tasks.days.resolve_as_of` for what decides and for the errors."""
    zone = load_settings().zone
    return str(resolve_as_of(day=day, run_type=run_type, interval_start=interval_start, zone=zone))


def ingest_clicks(day: str, *, holds_back: bool = True, overrides: Iterable[str] = ()) -> Json:
    """Ingests the days of the window that the store doesn't hold; see `sbr_tasks.clicks.ingest.ingest_missing`.

    Args:
        day: The day of the run.
        holds_back: Whether files that may be half written (`source.settle_seconds`) aren't read yet.
        overrides: Settings, as on the command line.

    Raises:
        NotArrivedError: There is no source, it has no clicks of `day`, or it may be half written.
        DayError: `day` is closed, or the window needs days that were removed, and the source no longer holds them.
    """
    from sbr_tasks.clicks.catalog import ClickCatalog, DayState
    from sbr_tasks.clicks.ingest import ingest_missing, no_clicks_of, removed_and_absent
    from sbr_tasks.days import window_days
    from sbr_tasks.validation.closing import require_open

    as_of, store, settings = _open(day, overrides)
    require_open(as_of, ClickCatalog(store).days().get(as_of, DayState()))
    ingested = ingest_missing(store, settings, as_of, holds_back=holds_back)
    days = ClickCatalog(store).days()
    window = window_days(as_of, settings.window.days)
    if removed := [one for one in window if one in days and days[one].status == "removed"]:
        raise DayError(f"The window of {as_of} would have holes. {removed_and_absent(removed, settings)}")
    state = days.get(as_of)
    if state is None or state.incoming is None:
        raise NotArrivedError(no_clicks_of(as_of, ClickCatalog(store).days_of_source(as_of), settings))
    return {
        "day": day,
        "clicks": state.incoming.rows,
        "ingested": [str(found) for found in ingested.days] if ingested else [],
        "empty": [str(found) for found in ingested.empty] if ingested else [],
        "rows": ingested.rows if ingested else 0,
        "rejected": ingested.rejected if ingested else 0,
        "ledger": ingested.ledger.model_dump(mode="json") if ingested else None,
        "warnings": list(ingested.warnings) if ingested else [],
    }


def ingest_clicks_once_there(day: str, *, overrides: Iterable[str] = ()) -> Json | None:
    """As `ingest_clicks`; None where the clicks of `day` haven't arrived and the settings let a run wait for them."""
    source = load_settings(overrides).source
    try:
        return ingest_clicks(day, overrides=overrides)
    except NotArrivedError as error:
        if not source.wait_minutes:
            raise
        logger.warning(
            "Waiting for the clicks of %s: %s Looking again every %g minutes, for up to %d minutes after the first try.",
            day, error, source.check_every_minutes, source.wait_minutes,
        )  # fmt: skip
        return None


def validate_clicks(day: str, *, overrides: Iterable[str] = ()) -> Json:
    """Validates the pending days of the window in day order, and checks that the window can be built.

    Raises:
        DayError: `day` is empty, closed or in quarantine, or too many days are missing.
    """
    from sbr_tasks.clicks.catalog import ClickCatalog
    from sbr_tasks.days import window_days
    from sbr_tasks.validation.checkpoint import log_validated, require_days, validate_pending

    as_of, store, settings = _open(day, overrides)
    validated = validate_pending(store, settings, window_days(as_of, settings.window.days))
    log_validated(validated)
    days = require_days(ClickCatalog(store).days(), settings, as_of)
    return {
        "day": day,
        "accepted": [str(found) for found in validated.accepted],
        "quarantined": [str(found) for found in validated.quarantined],
        "missing": [str(found) for found in days.missing],
        "validation_day": str(days.validation_day),
        "warnings": validated.warnings.get(as_of, []),
    }


def build_window(day: str, *, overrides: Iterable[str] = ()) -> Json:
    """Builds the window that ends with `day`; see `sbr_tasks.window.build.build_window`."""
    from sbr_tasks.window.build import build_window as build
    from sbr_tasks.window.build import window_table

    as_of, store, settings = _open(day, overrides)
    window = build(store, settings, as_of)
    logger.info("%s", window_table(window))
    parts = {name: part.clicks for name, part in window.parts.items()}
    return {
        "day": day,
        "window": window.fingerprint,
        "clicks": window.part_clicks,
        "items": window.n_items,
        **parts,
        "validation_day": str(window.validation_day),
    }


def train_gru4rec(day: str, window: str, *, overrides: Iterable[str] = ()) -> Json:
    """Trains GRU4Rec on a window and shows the version in MLflow."""
    from sbr_tasks.registry.mlflow_projection import MlflowProjection, version_url
    from sbr_tasks.registry.versions import train_version

    as_of, store, settings = _open(day, overrides)
    version = train_version(store, settings, _window(store, as_of, window))
    number = MlflowProjection(store, settings).show_version(version)
    best = version.curve[version.best_epoch - 1]
    return {
        "day": day,
        "window": window,
        "model_version": version.name,
        "mlflow_version": number,
        "mlflow_url": version_url(settings, number),
        "best_epoch": version.best_epoch,
        "epochs": len(version.curve),
        "events_per_second": round(best.events_per_second),
        "validation_recall_at_20": best.validation_recall_at_20,
        "took_s": version.took_s,
    }


def evaluate_models(day: str, window: str, model_version: str, *, overrides: Iterable[str] = ()) -> Json:
    """Scores the challenger, its opponent and the baselines on the same events of `day`.

    An opponent that can't be used is left out: what follows from that is decided by `promote_if_better`.
    """
    from sbr_tasks.registry.log import PromotionLog
    from sbr_tasks.registry.promotion import score_contenders

    as_of, store, settings = _open(day, overrides)
    opponent = PromotionLog(store).state().opponent_for(as_of)
    scores, _ = score_contenders(store, settings, _window(store, as_of, window), model_version, opponent)
    kept = ("recall_at_20", "mrr_at_20", "n_events")
    return {"day": day, **{name: {metric: score.metrics.get(metric) for metric in kept} for name, score in scores.items()}}


def promote_if_better(
    day: str,
    window: str,
    model_version: str,
    *,
    run: str | None = None,
    force: str | None = None,
    is_asked: bool = True,
    overrides: Iterable[str] = (),
) -> Json:
    """Lets the gate decide and records the decision; see `sbr_tasks.registry.promotion.promote_if_better`.

    Args:
        day: The day of the run.
        window: Fingerprint of the window that ends with it.
        model_version: The challenger.
        run: The run that decides, the same in all its attempts; None where a person does.
        force: Why the challenger is to be champion whatever its metrics.
        is_asked: Whether anything may be promoted; if not, the gate's verdict is returned and nothing is recorded.
        overrides: Settings, as on the command line.

    Returns:
        The decision on the challenger, old or new, with the `champion` as of now, and whether this run `promoted` the
        challenger to it.
    """
    from sbr_tasks.registry.log import PromotionLog
    from sbr_tasks.registry.promotion import judge
    from sbr_tasks.registry.promotion import promote_if_better as promote

    overrides = tuple(overrides)
    as_of, store, settings = _open(day, overrides)
    challenger, overridden = (_window(store, as_of, window), model_version), _of_the_model(overrides)
    if is_asked:
        by, is_run = run or who(), run is not None
        promotion, is_new = promote(
            store, settings, *challenger, run=by, force=force, forces_once=is_run, overridden=overridden
        )
    else:
        verdict = judge(store, settings, *challenger, run=run or who(), is_asked=False, overridden=overridden)
        promotion, is_new = verdict, False
        logger.info("%s: %s. %s", model_version, promotion.outcome, " ".join(promotion.reasons))
    state = PromotionLog(store).state()
    return {
        "day": day,
        "model_version": model_version,
        "outcome": promotion.outcome.value,
        "reasons": list(promotion.reasons),
        "champion": state.champion,
        "log_entry": promotion.number or None,
        "promoted": is_asked and (is_new or promotion.run == run) and state.champion_entry == promotion.number,
    }


def champion_event(decision: Json, *, overrides: Iterable[str] = ()) -> Json:
    """What there is to announce of a decision now, which may be long after it was made.

    Args:
        decision: What `promote_if_better` returned.
        overrides: Settings, as on the command line.

    Returns:
        `event`: the `model_version`, `day` and `log_entry` of a version that the decision made champion and that still is; None
        of any other. `why`: a sentence on that.
    """
    from sbr_tasks.registry.log import PromotionLog
    from sbr_tasks.store import Store

    if not decision["promoted"]:
        return {"event": None, "why": f"{decision['outcome']}: the champion stays {decision['champion']}."}
    state = PromotionLog(Store.open(load_settings(overrides))).state()
    version, entry = decision["model_version"], decision["log_entry"]
    if state.champion_entry != entry:
        newer = f"log entry {state.champion_entry} replaced it"
        why = f"{version} became champion with log entry {entry}, but is no longer: {newer}."
        return {"event": None, "why": why}
    event = {"model_version": version, "day": decision["day"], "log_entry": entry}
    return {"event": event, "why": f"{version} is the champion (log entry {entry})."}


def _of_the_model(overrides: Iterable[str]) -> tuple[str, ...]:
    """The overrides that a model and the decision on it depend on; of one key that is given twice, the last, which counts."""
    by_key = {one.partition("=")[0].strip(): one.strip() for one in overrides}
    return tuple(one for key, one in by_key.items() if key.partition(".")[0] in ("window", "model", "training", "gate"))


def who() -> str:
    """The person at the command line, for the log."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"


def roll_back(to: str, reason: str, *, pin: bool = False, run: str | None = None, overrides: Iterable[str] = ()) -> Json:
    """Makes an earlier champion the champion again; see `sbr_tasks.registry.promotion.roll_back`."""
    from sbr_tasks.registry.promotion import roll_back as run_rollback
    from sbr_tasks.store import Store

    settings = load_settings(overrides)
    done = run_rollback(Store.open(settings), settings, to, reason=reason, run=run or who(), pin=pin)
    found = {"model_version": done.version, "day": str(done.as_of), "log_entry": done.number, "retired": done.before}
    return found | ({"pinned": True} if done.pin else {})


def pin_champion(reason: str, *, run: str | None = None, overrides: Iterable[str] = ()) -> Json:
    """Keeps the champion whatever the gate says; see `sbr_tasks.registry.promotion.pin_champion`."""
    from sbr_tasks.registry.log import PromotionLog
    from sbr_tasks.registry.promotion import pin_champion as pin
    from sbr_tasks.store import Store

    store = Store.open(load_settings(overrides))
    entry = pin(store, reason=reason, run=run or who())
    return {
        "model_version": PromotionLog(store).state().champion,
        "log_entry": entry.number,
        "pinned": True,
        "reason": entry.reason,
    }


def unpin_champion(reason: str = "", *, run: str | None = None, overrides: Iterable[str] = ()) -> Json:
    """Lets decisions move the champion again; see `sbr_tasks.registry.promotion.unpin_champion`."""
    from sbr_tasks.registry.promotion import unpin_champion as unpin
    from sbr_tasks.store import Store

    entry = unpin(Store.open(load_settings(overrides)), reason=reason, run=run or who())
    return {"model_version": entry.version, "log_entry": entry.number, "pinned": False, "reason": entry.reason}


def publish_next_items(*, overrides: Iterable[str] = ()) -> Json:
    """Writes the champion's best next items after every item; see `sbr_tasks.registry.recommend.publish_next_items`."""
    from sbr_tasks.registry.recommend import publish_next_items as publish
    from sbr_tasks.store import Store

    store = Store.open(load_settings(overrides))
    name, record = publish(store)
    return {"model_version": name, "file": store.where(record.key)}


def write_report(
    day: str,
    window: str | None = None,
    model_version: str | None = None,
    *,
    run: str | None = None,
    is_asked: bool = True,
    overrides: Iterable[str] = (),
) -> Json:
    """Writes the page of the day's run and keeps it with the version in MLflow; see `sbr_tasks.report.page.write_report`.

    Args:
        day: The day of the run.
        window: Fingerprint of the window that ends with it; given with `model_version`.
        model_version: The version that the page is about, decided on or not; None: that of the day's last decision.
        run: The run that writes, for a version that nothing was decided on.
        is_asked: Whether the run was to promote: what the page says of a version that nothing was decided on.
        overrides: Settings, as on the command line.
    """
    from sbr_tasks.registry.promotion import judge
    from sbr_tasks.report.page import write_report as write

    overrides = tuple(overrides)
    as_of, store, settings = _open(day, overrides)
    promotion = None
    if window and model_version:
        overridden = _of_the_model(overrides)
        challenger = (_window(store, as_of, window), model_version)
        promotion = judge(store, settings, *challenger, run=run or who(), is_asked=is_asked, overridden=overridden)
    written = write(store, settings, as_of, promotion).as_dict(store)
    logger.info("Report: %s", written["report"])
    return written


def check_store(*, overrides: Iterable[str] = ()) -> Json:
    """Verifies every file that a record of the store names; see `sbr_tasks.upkeep.check.check_store`.

    Raises:
        DamagedError: Something is missing or damaged; the log names each file and says what to do.
    """
    from sbr_tasks.store import Store
    from sbr_tasks.upkeep.check import check_store as check
    from sbr_tasks.upkeep.check import check_table

    store = Store.open(load_settings(overrides))
    checked = check(store)
    logger.info("%s\n%s", store.url, check_table(checked))
    if checked.faults:
        raise DamagedError(
            f"{len(checked.faults)} files of {store.url} are missing or damaged, such as {checked.faults[0].key}. "
            "The lines above, and `sbr store check`, name each and say what to do."
        )
    found = checked.as_dict()
    orphaned = {"files": found["orphaned"]["files"], "bytes": found["orphaned"]["bytes"]}
    return {"files": found["files"], "bytes": found["bytes"], "orphaned": orphaned}


def clear_store(keep_days: int | None = None, *, overrides: Iterable[str] = ()) -> Json:
    """Removes what no retained run and no log entry needs; see `sbr_tasks.upkeep.clear.clear_store`.

    Args:
        keep_days: Days before the newest decided one that are kept; None takes the setting `upkeep.keep_days`.
        overrides: Settings, as on the command line.

    Raises:
        DayError: More than half of the accepted days would go: a person has to confirm that (`sbr store gc --yes`).
    """
    from sbr_tasks.store import Store
    from sbr_tasks.upkeep.clear import clear_store as clear
    from sbr_tasks.upkeep.clear import cleared_table

    settings = load_settings(overrides)
    store = Store.open(settings)
    days = settings.upkeep.keep_days if keep_days is None else keep_days
    cleared = clear(store, settings, keep_days=days, now=datetime.now(UTC))
    logger.info("%s\n%s", store.url, cleared_table(cleared))
    found = cleared.as_dict()
    kept = ("newest_day", "first_retained_run", "accepted_days_removed", "files", "bytes", "removed", "young_orphans")
    return {name: found[name] for name in kept}


def retrain(
    day: str,
    *,
    force: str | None = None,
    is_asked: bool = True,
    holds_back: bool = True,
    overrides: Iterable[str] = (),
) -> Json:
    """The whole chain in this process.

    Args:
        day: The day whose clicks are new.
        force: Why the new model is to be promoted whatever its metrics.
        is_asked: Whether anything may be promoted; if not, the gate's verdict is returned and nothing is recorded.
        holds_back: Whether files that may be half written (`source.settle_seconds`) aren't read yet.
        overrides: Settings, as on the command line.

    Returns:
        What `promote_if_better` returned, with the summaries of the other steps under their names.

    Raises:
        RegistryError: `force` is blank.
    """
    from sbr_tasks.registry.promotion import require_reason

    if force is not None:
        require_reason(force, "forced promotion")
    overrides = tuple(overrides)
    ingested = ingest_clicks(day, holds_back=holds_back, overrides=overrides)
    validated = validate_clicks(day, overrides=overrides)
    window = build_window(day, overrides=overrides)
    trained = train_gru4rec(day, window["window"], overrides=overrides)
    names = (window["window"], trained["model_version"])
    scores = evaluate_models(day, *names, overrides=overrides)
    decision = promote_if_better(day, *names, force=force, is_asked=is_asked, overrides=overrides)
    report = write_report(day, *names, is_asked=is_asked, overrides=overrides)
    return decision | {
        "ingest_clicks": ingested,
        "validate_clicks": validated,
        "build_window": window,
        "train_gru4rec": trained,
        "evaluate_models": scores,
        "report": report["report"],
    }


def _open(day: str, overrides: Iterable[str]) -> tuple[date, Store, Settings]:
    from sbr_tasks.store import Store

    settings = load_settings(overrides)
    return parse_day(day), Store.open(settings), settings


def _window(store: Store, as_of: date, key: str) -> Window:
    from sbr_tasks.window.record import load_window

    return load_window(store, as_of, key)
