"""The gate: whether a challenger may replace the champion. A pure function of two evaluations and the settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from sbr_tasks.errors import RegistryError
from sbr_tasks.settings import GateSettings

Metrics = Mapping[str, float]
"""What an evaluation measured, by name: recall_at_20, mrr_at_20, n_events, ..."""

COMPARED = ("recall_at_20", "mrr_at_20")
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

    @property
    def moves_champion(self) -> bool:
        """Whether the challenger is the champion from here on."""
        return self in (Outcome.PROMOTE, Outcome.BOOTSTRAP)

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
class Decision:
    """An outcome, and why, in sentences."""

    outcome: Outcome
    reasons: tuple[str, ...]


def decide(
    challenger: Contender,
    champion: Contender | None,
    *,
    popularity: Metrics,
    live_day: date | None,
    settings: GateSettings,
) -> Decision:
    """Decides on a challenger.

    Args:
        challenger: The new version.
        champion: The version it has to beat, scored on the same events; None when there is none yet.
        popularity: What the popularity baseline scores on the same events.
        live_day: Day of the version that is champion now; a challenger of an earlier day never replaces it.
        settings: Margin and floors.

    Raises:
        RegistryError: The two were not scored on the same events, so nothing can be decided.
    """
    _require_same_events(challenger, champion, popularity)
    n_events = int(challenger.metrics["n_events"])
    if n_events < settings.min_events:
        return Decision(
            Outcome.TOO_FEW_EVENTS,
            (f"{challenger.as_of} has {n_events:,} test events; a decision needs at least {settings.min_events:,}.",),
        )
    below = [_below(name, challenger.metrics[name], popularity[name]) for name in COMPARED]
    if any(below):
        return Decision(Outcome.BELOW_BASELINE, tuple(filter(None, below)))
    is_old = live_day is not None and challenger.as_of < live_day
    old_day = (f"The champion is of a newer day ({live_day}), so it stays whatever this comparison says.",) if is_old else ()
    if champion is None:
        reason = f"There is no champion yet; {challenger.version} scores {_scores(challenger.metrics)} on {n_events:,} events."
        return Decision(Outcome.WOULD_PROMOTE if is_old else Outcome.BOOTSTRAP, (reason, *old_day))
    better, sentences = _compare(challenger, champion, settings)
    if better:
        return Decision(Outcome.WOULD_PROMOTE if is_old else Outcome.PROMOTE, (*sentences, *old_day))
    return Decision(Outcome.WOULD_KEEP if is_old else Outcome.KEEP_CHAMPION, (*sentences, *old_day))


def _require_same_events(challenger: Contender, champion: Contender | None, popularity: Metrics) -> None:
    compared = {challenger.version: challenger.metrics, "the popularity baseline": popularity}
    if champion:
        compared[champion.version] = champion.metrics
    counts = {name: int(metrics["n_events"]) for name, metrics in compared.items()}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{name}: {count:,}" for name, count in counts.items())
        raise RegistryError(f"Expected all models to be scored on the same test events, found different numbers ({found}).")


def _below(name: str, value: float, floor: float) -> str | None:
    if value >= floor and not math.isnan(value):
        return None
    return f"{_NAMES[name]} {value:.4f} is below that of the popularity baseline, {floor:.4f}."


def _compare(challenger: Contender, champion: Contender, settings: GateSettings) -> tuple[bool, list[str]]:
    better, sentences = True, []
    margin = f" by more than {settings.min_delta:g}" if settings.min_delta else ""
    for name in COMPARED:
        new, old = challenger.metrics[name], champion.metrics[name]
        wins = new - old > settings.min_delta
        better = better and wins
        verdict = "beats" if wins else "does not beat"
        sentences.append(
            f"{_NAMES[name]} {new:.4f} {verdict} {old:.4f} of the champion {champion.version}{margin} ({_change(new, old)})."
        )
    return better, sentences


def _change(new: float, old: float) -> str:
    difference = f"{new - old:+.4f}"
    return f"{difference}, {100 * (new - old) / old:+.1f} %" if old else difference


def _scores(metrics: Metrics) -> str:
    return " and ".join(f"{_NAMES[name]} {metrics[name]:.4f}" for name in COMPARED)
