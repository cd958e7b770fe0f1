"""Promotion: the gate compares a challenger with the current champion, and its decision is committed to the log.

The log is written first; MLflow's alias and the serving copy follow it. Whoever stops in between leaves a usable champion,
and the next run or `sbr repair` updates the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Literal

from sbr_tasks.errors import DamagedError, RegistryError, SettingsError, StoreError, TrackingError
from sbr_tasks.registry.exclusions import served_rule
from sbr_tasks.registry.gate import Contender, Opponent, Outcome, decide
from sbr_tasks.registry.log import Decision, Entry, LogState, Pin, PromotionLog, Rollback, fold
from sbr_tasks.registry.mlflow_projection import MlflowProjection
from sbr_tasks.registry.scoring import BASELINES, COVISITS, Score, compare_scores, score_models
from sbr_tasks.registry.serving import check_serving, is_published, publish_serving
from sbr_tasks.registry.versions import ModelVersion, load_squares, load_version, require_files, version_files, version_names
from sbr_tasks.settings import Settings
from sbr_tasks.store import Store
from sbr_tasks.summary import Result
from sbr_tasks.window.coverage import coverage_notes
from sbr_tasks.window.record import Window
from sbr_tasks.wish import Wish, require_reason

logger = logging.getLogger(__name__)


class Repaired(Result):
    """What was rebuilt from the store.

    Attributes:
        versions: Versions that are whole.
        log_entries: Entries of the promotion log.
        champion: The champion; None while there is none.
        faults: Sentences about versions that the store holds or the log names but whose files are lost or damaged.
    """

    versions: int
    log_entries: int
    champion: str | None
    faults: tuple[str, ...]


def score_contenders(
    store: Store, settings: Settings, window: Window, name: str, opponent: str | None
) -> tuple[dict[str, Score], str | None]:
    """Scores a challenger, the baselines and the opponent, if there is one, on the same events.

    Returns:
        Scores by name, and why the opponent can't be used; None where it has a score, or there is no opponent.

    Raises:
        DamagedError: Files of the window or of the challenger are missing or damaged.
    """
    fault = None
    if opponent:
        try:
            version_files(store, load_version(store, opponent))
        except (DamagedError, RegistryError) as error:
            logger.warning("The champion %s can't be used: %s", opponent, error)
            fault = str(error)
    usable = [name, opponent] if opponent and fault is None else [name]
    return score_models(store, settings, window, usable), fault


def commit_decision(
    store: Store, settings: Settings, window: Window, name: str, wish: Wish, *, overridden: Sequence[str] = ()
) -> tuple[Decision, bool]:
    """Decides on a challenger, commits the decision and updates MLflow and the serving copy from the log.

    If another run commits first, the challenger is compared again, with the new champion. A version that already has a
    decision keeps it, unless a person forces the promotion.

    Args:
        store: Where models, evaluations and the log are.
        settings: Margin, confidence and floors of the gate.
        window: The window whose test day both are scored on.
        name: The challenger.
        wish: Whether the gate decides or a person, who decides, and why.
        overridden: Settings for this run only (`model.n_epochs=3`), which the reasons name.

    Returns:
        The decision on the challenger, and whether it was made now.

    Raises:
        RegistryError: Nothing can be decided: the champion can't be used, the models were scored on different events, the
            challenger's SavedModel doesn't answer as the model does, or a retired version is forced.
    """

    def build(state: LogState) -> Decision | None:
        decided = state.decisions.get(name)
        if decided and decided.actor == wish.actor and decided.outcome in (Outcome.FORCED, Outcome.WOULD_PROMOTE):
            return None  # an earlier attempt of the run forced it: that is final, whatever came after
        if wish.force and name in state.retired:
            raise RegistryError(f"{name} is retired (it was rolled back from) and can't be promoted again, not even by force.")
        if decided and (not wish.force or name == state.champion):
            return None
        decision = _decide(store, settings, window, name, state, wish.by, wish.force, overridden)
        if decision.outcome.moves_champion:
            check_serving(store, settings, load_version(store, name), window)
        return decision

    log = PromotionLog(store)
    created = log.append(build)
    decision = created or log.state().decisions[name]
    if created is None:
        logger.info("%s already has a decision (log entry %d).", name, decision.number)
    logger.info("%s: %s. %s", name, decision.outcome, " ".join(decision.reasons))
    with _committed(decision):
        project(store, settings)
    return decision, created is not None


def preview_decision(
    store: Store, settings: Settings, window: Window, name: str, wish: Wish, *, overridden: Sequence[str] = ()
) -> Decision:
    """What the gate says of a challenger now; nothing is written to the log.

    Args:
        store: Where models, evaluations and the log are.
        settings: Margin, confidence and floors of the gate.
        window: The window whose test day it is scored on.
        name: The challenger.
        wish: Who asks, and whether the run was to promote (then a decision is missing) or only to train and score.
        overridden: Settings for this run only.

    Returns:
        The decision on the version if there is one; else a verdict with number 0 and the outcome `undecided` or `not_asked`,
        whose first reason names what the gate says.

    Raises:
        RegistryError: As `commit_decision`.
    """
    state = PromotionLog(store).state()
    if name in state.decisions:
        return state.decisions[name]
    verdict = _decide(store, settings, window, name, state, wish.by, None, overridden)
    outcome = Outcome.NOT_ASKED if wish.promote == "never" else Outcome.UNDECIDED
    reasons = (_NO_DECISION[outcome].format(verdict=verdict.outcome), *verdict.reasons)
    return verdict.model_copy(update={"number": 0, "outcome": outcome, "reasons": reasons, "champion": state.champion})


_NO_DECISION = {
    Outcome.NOT_ASKED: "This run only trained and scored the version (promote: never), so no decision was recorded. "
    "The gate's verdict: {verdict}.",
    Outcome.UNDECIDED: "No decision was recorded: the task promote_if_better was marked as successful by hand, or has not run "
    "yet. Clear it to decide. The gate's verdict: {verdict}.",
}


def commit_rollback(store: Store, settings: Settings, to: str, *, reason: str, actor: str, pin: bool = False) -> Rollback:
    """Makes an earlier champion the champion again, and optionally pins it; the replaced version is retired.

    A pin that is in force stays in force, for the new champion.

    The same rollback again, with nothing in the log since, updates MLflow and the serving copy and returns its entry. They
    are updated too before a version that is champion already is refused.

    Raises:
        RegistryError: `to` was never champion, is it already, or is retired.
        ReasonError: The reason is blank.
        DamagedError: Its files are missing or damaged.
    """
    reason = require_reason(reason, "A rollback")

    def build(state: LogState) -> Rollback:
        require_return(state, to)
        return Rollback(
            number=state.n_entries + 1,
            version=to,
            day=state.days[to],
            before=str(state.champion),
            reason=reason,
            actor=actor,
            at=_now(),
            pin=pin,
        )

    log = PromotionLog(store)
    last = next(reversed(log.entries()), None)
    if last and last.champion == to:
        with _committed(last):
            project(store, settings)
        if isinstance(last, Rollback) and (last.reason, last.pin) == (reason, pin):
            return last
        require_return(log.state(), to)
    require_files(store, load_version(store, to))
    created = log.append(build)
    with _committed(created):
        project(store, settings)
    logger.info("Rolled back from %s to %s (log entry %d): %s", created.before, to, created.number, created.reason)
    return created


def commit_pin(store: Store, *, reason: str, actor: str) -> Pin | Rollback:
    """Pins the champion: until `commit_unpin`, decisions are recorded as what they would be, and the champion stays.

    Returns:
        The entry that pinned the champion: an earlier one where it is pinned for the same reason already.

    Raises:
        RegistryError: There is no champion, or it is pinned for another reason.
        ReasonError: The reason is blank.
    """
    reason = require_reason(reason, "A pin")

    def build(state: LogState) -> Pin | None:
        if state.champion is None:
            raise RegistryError("There is no champion to pin yet. Train one with `sbr retrain --day DAY`.")
        if state.pin is None:
            return _pin(state, "pin", reason=reason, actor=actor)
        if state.pin.reason != reason:
            raise RegistryError(f"{state.champion} is already pinned ({pin_in_words(state.pin)}). Run `sbr unpin` first.")
        return None

    log = PromotionLog(store)
    created = log.append(build)
    state = log.state()
    in_force = created or state.pin
    if in_force is None:
        raise RegistryError("Somebody else unpinned the champion at the same time. Pin it again.")
    logger.info("%s is pinned (%s).", state.champion, pin_in_words(in_force))
    return in_force


def commit_unpin(store: Store, *, actor: str, reason: str = "") -> Pin:
    """Lets the gate's decisions move the champion again, from the next one on.

    Raises:
        RegistryError: The champion isn't pinned.
    """

    def build(state: LogState) -> Pin:
        if state.pin is None or state.champion is None:
            raise RegistryError("The champion isn't pinned, so there is nothing to unpin. `sbr log` shows who did what.")
        return _pin(state, "unpin", reason=reason, actor=actor)

    created = PromotionLog(store).append(build)
    logger.info("%s is no longer pinned (log entry %d).", created.version, created.number)
    return created


def _pin(state: LogState, kind: Literal["pin", "unpin"], *, reason: str, actor: str) -> Pin:
    champion = str(state.champion)
    return Pin(
        number=state.n_entries + 1,
        kind=kind,
        version=champion,
        day=state.days[champion],
        reason=reason.strip(),
        actor=actor,
        at=_now(),
    )


def pin_in_words(pin: Pin | Rollback) -> str:
    """Which entry pinned the champion, who did it and why."""
    return f"log entry {pin.number}, {pin.actor}: {pin.reason.removesuffix('.')}"


def project(store: Store, settings: Settings) -> None:
    """Updates MLflow and the serving copy from the log, however far behind they are.

    The serving copy comes first, so that a shop gets the champion even if MLflow is out of reach. A version whose files are
    lost is left out of MLflow with a warning.

    Raises:
        DamagedError: The champion was not published yet, and its files are damaged.
        RegistryError: The champion was not published yet, and its files are lost.
        TrackingError: MLflow can't be used.
        SettingsError: The list of excluded items can't be read.
    """
    rule = served_rule(settings)

    def publish(state: LogState) -> None:
        if state.champion and not is_published(store, state.champion_entry, state.champion, rule):
            publish_serving(store, settings, state.champion_entry, load_version(store, state.champion), rule)

    _follow_log(store, settings, publish)


def repair_projections(store: Store, settings: Settings) -> Repaired:
    """Rebuilds MLflow and the serving copy from the store: every version, every decision, and the champion.

    Raises:
        TrackingError: MLflow can't be used; the serving copy was rebuilt anyway.
        SettingsError: The list of excluded items can't be read.
    """
    rule = served_rule(settings)
    whole, faults = dict[str, ModelVersion](), []
    for name in sorted({*version_names(store), *PromotionLog(store).state().days}):
        try:
            version = load_version(store, name)
            require_files(store, version)
            load_squares(store, version)
        except (DamagedError, RegistryError) as error:
            faults.append(f"{name}: {error}")
        else:
            whole[name] = version

    def publish(state: LogState) -> None:
        if state.champion in whole:
            publish_serving(store, settings, state.champion_entry, whole[state.champion], rule)

    # MLflow numbers versions as they are registered: in the order of their training, as the first time.
    versions = sorted(whole.values(), key=lambda version: (version.trained_at, version.name))
    state = _follow_log(store, settings, publish, again=versions)
    return Repaired(versions=len(whole), log_entries=state.n_entries, champion=state.champion, faults=tuple(faults))


def _follow_log(
    store: Store, settings: Settings, publish: Callable[[LogState], None], *, again: Iterable[ModelVersion] | None = None
) -> LogState:
    """Publishes the champion and shows the whole log, with what other runs commit meanwhile; returns its state.

    With `again`, these versions are shown first, and then every entry of the log.
    """
    log = PromotionLog(store)
    entries, projection = log.entries(), None
    while True:
        state = fold(entries)
        publish(state)
        if projection is None:
            projection = MlflowProjection(store, settings)
            for version in again or ():
                projection.show_version(version)
        projection.show(entries, state, again=again is not None)
        shown, entries = len(entries), log.entries()
        if len(entries) == shown:
            return state


@contextmanager
def _committed(entry: Entry) -> Iterator[None]:
    """Adds to errors after a log entry was written that the entry is recorded."""
    try:
        yield
    except (StoreError, TrackingError, RegistryError, SettingsError) as error:
        raise type(error)(
            f"The decision was recorded (log entry {entry.number}, champion {entry.champion or 'none'}), but updating MLflow "
            f"or the serving copy failed: {error} Retry, or run `sbr repair`, to finish."
        ) from error


def require_return(state: LogState, to: str) -> None:
    """Checks that a version may be rolled back to.

    Raises:
        RegistryError: It was never champion, is it already, or is retired.
    """
    if to == state.champion:
        raise RegistryError(f"{to} is already the champion.")
    if to in state.retired:
        raise RegistryError(f"{to} is retired: it was rolled back from. Choose another version (`sbr models` lists them).")
    if to not in state.were_champion:
        raise RegistryError(f"Expected a version that was champion before, found {to!r}. `sbr log` lists them.")


def _decide(
    store: Store,
    settings: Settings,
    window: Window,
    name: str,
    state: LogState,
    actor: str,
    force: str | None,
    overridden: Sequence[str],
) -> Decision:
    rule, opponent = served_rule(settings), state.opponent_for(window.day)
    scores, fault = score_contenders(store, settings, window, name, opponent)
    baselines = {baseline: scores[baseline].metrics for baseline in BASELINES}
    champion = None
    if opponent and fault is not None:
        champion = Opponent(opponent, None, {}, fault=fault)
    elif opponent:
        differences = compare_scores(store, settings, window, scores[name], scores[opponent])
        champion = Opponent(opponent, scores[opponent].metrics, differences)
    gain = compare_scores(store, settings, window, scores[name], scores[COVISITS])
    decision = decide(
        Contender(name, window.day, scores[name].metrics),
        champion,
        baselines={baseline: baselines[baseline] for baseline in settings.gate.baselines},
        live_day=state.champion_day,
        settings=settings.gate,
        force=force,
        pin=pin_in_words(state.pin) if state.pin else None,
    )
    if decision.outcome is Outcome.CHAMPION_UNUSABLE:
        raise RegistryError(" ".join(decision.reasons))
    return Decision(
        number=state.n_entries + 1,
        version=name,
        day=window.day,
        outcome=decision.outcome,
        reasons=(
            *decision.reasons,
            *coverage_notes(window),
            *([] if rule.hides_nothing else [f"Scored under the rule that is served: {rule}."]),
            *([note] if (note := load_version(store, name).note) else []),
            *([f"Settings for this run only: {', '.join(overridden)}."] if overridden else []),
        ),
        opponent=opponent,
        before=state.champion,
        champion=name if decision.outcome.moves_champion else state.champion,
        challenger_metrics=scores[name].metrics,
        opponent_metrics=champion.metrics if champion else None,
        differences={metric: difference.as_dict() for metric, difference in champion.differences.items()} if champion else {},
        baselines=baselines,
        neural_gain={metric: difference.as_dict() for metric, difference in gain.items()},
        window=window.fingerprint,
        actor=actor,
        at=_now(),
        by_length={version: dict(scores[version].by_length) for version in (name, opponent) if version in scores},
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
