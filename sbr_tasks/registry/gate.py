"""The gate: whether a challenger may replace the champion. A pure function of two evaluations and the settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from sbr_tasks.errors import RegistryError
from sbr_tasks.evaluation.comparison import Difference
from sbr_tasks.settings import GateSettings

Metrics = Mapping[str, float]
"""What an evaluation measured, by name: recall_at_20, mrr_at_20, n_events, n_sessions, ..."""

COMPARED = ("recall_at_20", "mrr_at_20")
_ROUNDING = 1e-12  # the same fractions, summed in another order, differ by less
_NAMES = {"recall_at_20": "Recall@20", "mrr_at_20": "MRR@20"}


class Outcome(StrEnum):
    """What became of a challenger."""

    PROMOTE = "promote"
    KEEP_CHAMPION = "keep_champion"
    BOOTSTRAP = "bootstrap"
    WOULD_PROMOTE = "would_promote"
    WOULD_KEEP = "would_keep"
    TOO_FEW_EVENTS = "too_few_events"
    BELOW_BASELINE = "below_baseline"
    CHAMPION_UNUSABLE = "champion_unusable"
    FORCED = "forced"

    @property
    def moves_champion(self) -> bool:
        """Whether the challenger is the champion from here on."""
        return self in (Outcome.PROMOTE, Outcome.BOOTSTRAP, Outcome.FORCED)

    @property
    def passed(self) -> bool:
        """Whether the challenger was good enough, even if its day is too old for it to become champion."""
        return self.moves_champion or self is Outcome.WOULD_PROMOTE


@dataclass(frozen=True)
class Contender:
    """A model version and what it scored on the test day."""

    version: str
    as_of: date
    metrics: Metrics


@dataclass(frozen=True)
class Champion:
    """The version that a challenger has to beat.

    Attributes:
        version: Its name.
        metrics: What it scored on the same events; None when it can't be used.
        differences: Challenger minus champion by metric, with bounds; empty when it can't be used.
        fault: Why it can't be used; None when it can.
    """

    version: str
    metrics: Metrics | None
    differences: Mapping[str, Difference]
    fault: str | None = None


@dataclass(frozen=True)
class Decision:
    """An outcome, and why, in sentences."""

    outcome: Outcome
    reasons: tuple[str, ...]


def decide(
    challenger: Contender,
    champion: Champion | None,
    *,
    baselines: Mapping[str, Metrics],
    live_day: date | None,
    settings: GateSettings,
    force: str | None = None,
) -> Decision:
    """Decides on a challenger.

    Args:
        challenger: The new version.
        champion: What it has to beat; None when there is no champion yet.
        baselines: What each baseline scores on the same events, by name; the challenger must be above all of them.
        live_day: Day of the version that is champion now; a challenger of an earlier day never replaces it.
        settings: Margin, confidence and floors.
        force: Why a person wants the challenger whatever its metrics; it still never replaces a champion of a newer day.

    Raises:
        RegistryError: The models were not scored on the same events, so nothing can be decided.
    """
    _require_same_events(challenger, champion, baselines)
    is_old = live_day is not None and challenger.as_of < live_day
    decision = _forced(force) if force else _judge(challenger, champion, baselines, settings)
    if not is_old or decision.outcome not in _FOR_AN_OLD_DAY:
        return decision
    old_day = f"The champion is of a newer day ({live_day}), so it stays whatever this comparison says."
    return Decision(_FOR_AN_OLD_DAY[decision.outcome], (*decision.reasons, old_day))


_FOR_AN_OLD_DAY = {
    Outcome.PROMOTE: Outcome.WOULD_PROMOTE,
    Outcome.BOOTSTRAP: Outcome.WOULD_PROMOTE,
    Outcome.FORCED: Outcome.WOULD_PROMOTE,
    Outcome.KEEP_CHAMPION: Outcome.WOULD_KEEP,
}


def _judge(
    challenger: Contender, champion: Champion | None, baselines: Mapping[str, Metrics], settings: GateSettings
) -> Decision:
    too_few = _too_few(challenger, settings)
    if too_few:
        return Decision(Outcome.TOO_FEW_EVENTS, too_few)
    below = _below(challenger.metrics, baselines)
    if below:
        return Decision(Outcome.BELOW_BASELINE, below)
    scores = f"{challenger.version} scores {_scores(challenger.metrics)} on {int(challenger.metrics['n_events']):,} events."
    if champion is None:
        return Decision(Outcome.BOOTSTRAP, (f"There is no champion of an earlier day; {scores}",))
    if champion.metrics is None:
        unusable = f"The champion {champion.version} can't be used: {champion.fault}"
        if settings.replace_unusable:
            return Decision(Outcome.BOOTSTRAP, (unusable, f"It is replaced (gate.replace_unusable); {scores}"))
        remedy = (
            "Restore its files, roll back to another version, or set gate.replace_unusable to let a good challenger replace it."
        )
        return Decision(Outcome.CHAMPION_UNUSABLE, (unusable, remedy))
    better, sentences = _compare(challenger, champion, champion.metrics, settings)
    return Decision(Outcome.PROMOTE if better else Outcome.KEEP_CHAMPION, sentences)


def _forced(reason: str) -> Decision:
    return Decision(Outcome.FORCED, (f"Forced, whatever the metrics: {reason}",))


def _require_same_events(challenger: Contender, champion: Champion | None, baselines: Mapping[str, Metrics]) -> None:
    compared: dict[str, Metrics] = {challenger.version: challenger.metrics, **baselines}
    if champion and champion.metrics is not None:
        compared[champion.version] = champion.metrics
    counts = {name: int(metrics["n_events"]) for name, metrics in compared.items()}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{name}: {count:,}" for name, count in counts.items())
        raise RegistryError(f"Expected all models to be scored on the same test events, found different numbers ({found}).")


def _too_few(challenger: Contender, settings: GateSettings) -> tuple[str, ...]:
    floors = (("events", "n_events", settings.min_events), ("sessions", "n_sessions", settings.min_sessions))
    return tuple(
        f"{challenger.as_of} has {int(challenger.metrics[name]):,} test {what}; a decision needs at least {floor:,}."
        for what, name, floor in floors
        if challenger.metrics[name] < floor
    )


def _below(metrics: Metrics, baselines: Mapping[str, Metrics]) -> tuple[str, ...]:
    return tuple(
        f"{_NAMES[name]} {metrics[name]:.4f} is not above that of the {baseline} baseline, {floor[name]:.4f}."
        for baseline, floor in baselines.items()
        for name in COMPARED
        if math.isnan(metrics[name]) or metrics[name] <= floor[name]
    )


def _compare(challenger: Contender, champion: Champion, old: Metrics, settings: GateSettings) -> tuple[bool, tuple[str, ...]]:
    better, sentences = True, []
    for name in COMPARED:
        difference = champion.differences[name]
        decisive = difference.value if settings.confidence is None else difference.lower
        wins = decisive - settings.min_delta > _ROUNDING
        better = better and wins
        sentences.append(
            f"{_NAMES[name]} {challenger.metrics[name]:.4f} {'beats' if wins else 'does not beat'} {old[name]:.4f} of the "
            f"champion {champion.version}{_bar(settings)} ({_change(difference, old[name])})."
        )
    return better, tuple(sentences)


def _bar(settings: GateSettings) -> str:
    margin = f" by more than {settings.min_delta:g}" if settings.min_delta else ""
    return margin if settings.confidence is None else f"{margin} with {settings.confidence:.0%} confidence"


def _change(difference: Difference, old: float) -> str:
    relative = f", {100 * difference.value / old:+.1f} %" if old else ""
    bounds = f"{difference.confidence:.0%} bounds {difference.lower:+.4f} and {difference.upper:+.4f}"
    return f"{difference.value:+.4f}{relative}; {bounds}; better with probability {difference.probability:.2f}"


def _scores(metrics: Metrics) -> str:
    return " and ".join(f"{_NAMES[name]} {metrics[name]:.4f}" for name in COMPARED)
