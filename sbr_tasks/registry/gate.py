"""The gate: whether a challenger may replace the champion. A pure function of two evaluations and the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from sbr_tasks.days import day_in_words
from sbr_tasks.errors import RegistryError
from sbr_tasks.evaluation.comparison import Difference
from sbr_tasks.evaluation.metrics import KNOWN_TARGETS, metric_title
from sbr_tasks.plain_text import percent
from sbr_tasks.settings import GateSettings

Metrics = Mapping[str, int | float]
"""What an evaluation measured, by name: recall_at_20, mrr_at_20, n_events, n_sessions, ..."""

COMPARED = ("recall_at_20", "mrr_at_20")
BASELINE_NAMES = {"covisits": "co-visits"}
"""What people call a baseline, where that isn't its name."""
_ROUNDING = 1e-12  # the same fractions, summed in another order, differ by less
_MAX_DIGITS = 12
_KNOWLEDGE_GAP = 0.02
"""Contenders whose shares of known targets differ by more than this differ in knowledge, not only in ranking."""


class Outcome(StrEnum):
    """What became of a challenger."""

    PROMOTE = "promote"
    KEEP_CHAMPION = "keep_champion"
    FIRST_CHAMPION = "first_champion"
    WOULD_PROMOTE = "would_promote"
    WOULD_KEEP = "would_keep"
    TOO_FEW_EVENTS = "too_few_events"
    BELOW_BASELINE = "below_baseline"
    CHAMPION_UNUSABLE = "champion_unusable"
    FORCED = "forced"
    NOT_ASKED = "not_asked"
    UNDECIDED = "undecided"

    @property
    def moves_champion(self) -> bool:
        """Whether the challenger is the champion from here on."""
        return self in (Outcome.PROMOTE, Outcome.FIRST_CHAMPION, Outcome.FORCED)

    @property
    def passed(self) -> bool:
        """Whether the challenger was good enough, even if the champion stays because it is of a newer day or pinned."""
        return self.moves_champion or self is Outcome.WOULD_PROMOTE


@dataclass(frozen=True)
class Contender:
    """A model version and what it scored on the test day."""

    version: str
    day: date
    metrics: Metrics


@dataclass(frozen=True)
class Opponent:
    """The version that a challenger has to beat.

    Attributes:
        version: Its name.
        metrics: What it scored on the same events; None when it can't be used.
        differences: Challenger minus opponent by metric, with intervals; empty when it can't be used.
        fault: Why it can't be used; None when it can.
    """

    version: str
    metrics: Metrics | None
    differences: Mapping[str, Difference]
    fault: str | None = None


@dataclass(frozen=True)
class Verdict:
    """An outcome, and why, in sentences."""

    outcome: Outcome
    reasons: tuple[str, ...]


def decide(
    challenger: Contender,
    opponent: Opponent | None,
    *,
    baselines: Mapping[str, Metrics],
    live_day: date | None,
    settings: GateSettings,
    force: str | None = None,
    pin: str | None = None,
) -> Verdict:
    """Decides on a challenger.

    Args:
        challenger: The new version.
        opponent: What it has to beat; None when there is none yet.
        baselines: What each baseline scores on the same events, by name; the challenger must be above all of them.
        live_day: Day of the version that is champion now; a challenger of an earlier day never replaces it.
        settings: Margin, confidence and floors.
        force: Why a person promotes the challenger regardless of its metrics; it still never replaces a champion of a newer
            day, or a pinned one.
        pin: By whom and why the champion is pinned, for a sentence; None where it isn't.

    Raises:
        RegistryError: The models were not scored on the same events, so nothing can be decided.
    """
    _require_same_events(challenger, opponent, baselines)
    is_old = live_day is not None and challenger.day < live_day
    better, sentences = _compare(challenger, opponent, settings, is_old=is_old)
    if force:
        wish = force.strip().removesuffix(".")
        unmeasured = () if challenger.metrics["n_events"] else (_nothing_measured(challenger),)
        verdict = Verdict(Outcome.FORCED, (f"Forced regardless of the metrics: {wish}.", *unmeasured, *sentences))
    else:
        verdict = _judge(challenger, opponent, better, sentences, baselines, settings)
    stays = [f"it is from a newer day ({day_in_words(live_day)})"] if live_day and is_old else []
    stays += [f"it is pinned ({pin})"] if pin else []
    if not stays or verdict.outcome not in _WOULD_BE:
        return verdict
    return Verdict(_WOULD_BE[verdict.outcome], (*verdict.reasons, f"The champion stays: {' and '.join(stays)}."))


def _nothing_measured(challenger: Contender) -> str:
    return f"Nothing was measured: {day_in_words(challenger.day)} has no test events, so no version could be scored."


_WOULD_BE = {
    Outcome.PROMOTE: Outcome.WOULD_PROMOTE,
    Outcome.FIRST_CHAMPION: Outcome.WOULD_PROMOTE,
    Outcome.FORCED: Outcome.WOULD_PROMOTE,
    Outcome.KEEP_CHAMPION: Outcome.WOULD_KEEP,
}


def _judge(
    challenger: Contender,
    opponent: Opponent | None,
    better: bool,
    sentences: tuple[str, ...],
    baselines: Mapping[str, Metrics],
    settings: GateSettings,
) -> Verdict:
    too_few = _too_few(challenger, settings)
    if too_few:
        return Verdict(Outcome.TOO_FEW_EVENTS, (*too_few, *sentences))
    below = _below(challenger.metrics, baselines)
    if below:
        return Verdict(Outcome.BELOW_BASELINE, (*below, *sentences))
    if opponent is None:
        return Verdict(Outcome.FIRST_CHAMPION, sentences)
    if opponent.metrics is None:
        if settings.replace_unusable:
            return Verdict(
                Outcome.FIRST_CHAMPION, (*sentences, "The comparison was skipped because gate.replace_unusable is set.")
            )
        remedy = (
            "Restore its files, roll back to another version, or set gate.replace_unusable to let a good challenger replace it."
        )
        return Verdict(Outcome.CHAMPION_UNUSABLE, (*sentences, remedy))
    return Verdict(Outcome.PROMOTE if better else Outcome.KEEP_CHAMPION, sentences)


def _require_same_events(challenger: Contender, opponent: Opponent | None, baselines: Mapping[str, Metrics]) -> None:
    compared: dict[str, Metrics] = {challenger.version: challenger.metrics, **baselines}
    if opponent and opponent.metrics is not None:
        compared[opponent.version] = opponent.metrics
    counts = {name: int(metrics["n_events"]) for name, metrics in compared.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name}: {count:,}" for name, count in counts.items())
        raise RegistryError(f"Expected all models to be scored on the same test events, found different numbers ({listed}).")


def _too_few(challenger: Contender, settings: GateSettings) -> tuple[str, ...]:
    day = day_in_words(challenger.day)
    floors = (("events", "n_events", settings.min_events), ("sessions", "n_sessions", settings.min_sessions))
    return tuple(
        f"{day} has {int(challenger.metrics[name]):,} test {what}; a decision needs at least {floor:,}."
        for what, name, floor in floors
        if challenger.metrics[name] < floor
    )


def _below(metrics: Metrics, baselines: Mapping[str, Metrics]) -> tuple[str, ...]:
    sentences = []
    for baseline, floor in baselines.items():
        for name in COMPARED:
            if not metrics[name] - floor[name] > _ROUNDING:
                new, old = _apart(metrics[name], floor[name])
                who = BASELINE_NAMES.get(baseline, baseline)
                sentences.append(f"{metric_title(name)} is {new}, no better than the {who} baseline's {old}.")
    return tuple(sentences)


def _compare(
    challenger: Contender, opponent: Opponent | None, settings: GateSettings, *, is_old: bool
) -> tuple[bool, tuple[str, ...]]:
    """Whether the challenger is better in both metrics, and sentences on the two; none without events."""
    if not challenger.metrics["n_events"]:
        return False, ()
    if opponent is None:
        missing = "There was no champion as of that day." if is_old else "There is no champion to compare with yet."
        return False, (missing, _scores(challenger))
    if opponent.metrics is None:
        who = f"champion as of that day, {opponent.version}," if is_old else f"champion {opponent.version}"
        return False, (f"The {who} can't be used: {opponent.fault}", _scores(challenger))
    better, sentences = True, []
    for name in COMPARED:
        difference, old = opponent.differences[name], opponent.metrics[name]
        wins = _decisive(difference, settings) - settings.margin(old) > _ROUNDING
        better = better and wins
        new_text, old_text = _apart(challenger.metrics[name], old)
        against = f"the {old_text} of the champion as of that day" if is_old else f"the champion's {old_text}"
        rule = _rule(difference, old, settings, wins=wins)
        sentences.append(
            f"{metric_title(name)} is {new_text}, {_change(difference, old, settings)} {against}{rule} "
            f"({_confidence(difference, old, settings, is_close=rule == _NOT_ENOUGH)})."
        )
    return better, (*sentences, *_knowledge_gap(challenger.metrics, opponent.metrics))


def _decisive(difference: Difference, settings: GateSettings) -> float:
    """The value that must exceed the margin: the difference, or its lower bound where a confidence is set."""
    if settings.confidence is None:
        return difference.value
    if difference.gate_bound is None:
        raise ValueError(f"gate.confidence is {settings.confidence}, but the difference has no bound for it")
    return difference.gate_bound


def _knowledge_gap(challenger: Metrics, opponent: Metrics) -> tuple[str, ...]:
    """A sentence if the two know different shares of the targets."""
    new, old = challenger.get(KNOWN_TARGETS), opponent.get(KNOWN_TARGETS)
    if new is None or old is None or abs(new - old) <= _KNOWLEDGE_GAP + _ROUNDING:
        return ()
    return (f"The challenger knows the target item of {100 * new:.0f}% of the test events, the champion {100 * old:.0f}%.",)


_NOT_ENOUGH = ", which is not enough"


def _rule(difference: Difference, old: float, settings: GateSettings, *, wins: bool) -> str:
    """What `gate.min_delta` says of a difference, as the end of a clause; empty where being better or worse says it all."""
    margin, given = settings.margin(old), settings.min_delta
    allowed = (given if isinstance(given, str) else f"{given:g}").lstrip("-")
    if wins:
        if margin > 0:
            return f", more than the {allowed} that gate.min_delta asks for"
        is_worse = _decisive(difference, settings) <= _ROUNDING
        return f", within the {allowed} that gate.min_delta allows" if margin < 0 and is_worse else ""
    if difference.value - min(0, margin) > _ROUNDING:
        return _NOT_ENOUGH
    return f", not within the {allowed} that gate.min_delta allows" if margin < 0 else ""


def _change(difference: Difference, old: float, settings: GateSettings) -> str:
    """Such as `up 28% from`."""
    if abs(difference.value) <= _ROUNDING:
        return "the same as"
    limit = round(abs(settings.margin(1)), _MAX_DIGITS) if isinstance(settings.min_delta, str) else None
    relative = f" {percent(round(abs(difference.value) / old, _MAX_DIGITS), limit)}" if old else ""
    return f"{'up' if difference.value > 0 else 'down'}{relative} from"


def _confidence(difference: Difference, old: float, settings: GateSettings, *, is_close: bool) -> str:
    """How certain the difference is, and the required margin if it isn't enough."""
    parts = [
        f"95% interval {interval_in_words(difference.lower, difference.upper)}",
        f"better in {share_of_resamples(difference.probability)} of resamples",
    ]
    if settings.confidence is not None and difference.gate_bound is not None:
        (bound,) = _signed(difference.gate_bound)
        parts.append(f"lower bound {bound} at {100 * settings.confidence:.6g}% confidence")
    if is_close:
        share = f", {settings.min_delta} of the champion's" if isinstance(settings.min_delta, str) else ""
        parts.append(f"must exceed {settings.margin(old):.3g}{share}")
    return "; ".join(parts)


def interval_in_words(lower: float, upper: float) -> str:
    """An interval of differences: `+0.010 to +0.034`, with as many digits as both need."""
    return " to ".join(_signed(lower, upper))


def share_of_resamples(probability: float) -> str:
    """Such as `93%`; never 0% or 100%, which resampling can't show."""
    if probability > 0.99:
        return "over 99%"
    return "under 1%" if probability < 0.01 else f"{100 * probability:.0f}%"


def _scores(challenger: Contender) -> str:
    metrics = challenger.metrics
    scores = " and ".join(f"{metric_title(name)} is {metrics[name]:.3f}" for name in COMPARED)
    return f"{scores} on {int(metrics['n_events']):,} events."


def _apart(new: float, old: float) -> tuple[str, str]:
    """Both with 3 decimals, or with as many as it takes to see that they differ."""
    digits = 3
    while new != old and f"{new:.{digits}f}" == f"{old:.{digits}f}" and digits < _MAX_DIGITS:
        digits += 1
    return f"{new:.{digits}f}", f"{old:.{digits}f}"


def _signed(*values: float) -> tuple[str, ...]:
    """All with as many decimals, at least 2: two digits of the largest one, and no nonzero value shown as zero."""
    digits, largest = 2, max(map(abs, values))
    while digits < _MAX_DIGITS and (
        (largest > 0 and round(largest * 10**digits) < 10)
        or any(value and not float(f"{value:.{digits}f}") for value in values)
    ):
        digits += 1
    return tuple(f"{value:+.{digits}f}" for value in values)
