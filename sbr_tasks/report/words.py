"""Decisions, numbers and times in words: what every page, message and table calls an outcome."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sbr_tasks.days import day_in_words
from sbr_tasks.registry.gate import Outcome
from sbr_tasks.registry.log import Decision
from sbr_tasks.registry.scoring import COVISITS

Tone = Literal["good", "warn", "back", ""]


@dataclass(frozen=True)
class Shown:
    """How people see an outcome.

    Attributes:
        label: A few words for a badge or a table.
        tone: Its colour on the Models page: `good` for a new champion, `warn` for what to look into, `back` for what a person
            did about the champion.
        headline: A sentence for a decision, with placeholders; empty for what isn't one.
    """

    label: str
    tone: Tone
    headline: str = ""


OUTCOMES = {
    Outcome.PROMOTE: Shown("Promoted", "good", "Promoted: {version} replaces {before} as champion."),
    Outcome.FIRST_CHAMPION: Shown("First champion", "good", "Promoted: {version} is champion, without a comparison."),
    Outcome.FORCED: Shown("Forced", "good", "Promoted by force: {version} is the champion, regardless of its metrics."),
    Outcome.KEEP_CHAMPION: Shown(
        "Champion kept", "", "Not promoted: {version} is not better than {opponent}, which stays champion."
    ),
    Outcome.WOULD_PROMOTE: Shown(
        "Would be promoted",
        "",
        "Would have been promoted: {version} passed the gate, but the champion stays because it is {why_it_stays}.",
    ),
    Outcome.WOULD_KEEP: Shown(
        "Champion would stay",
        "",
        "Not promoted: {version} is not better than {opponent}; the champion stays anyway because it is {why_it_stays}.",
    ),
    Outcome.TOO_FEW_EVENTS: Shown(
        "Too few events", "warn", "Not promoted: there are too few test events to decide on {version}."
    ),
    Outcome.BELOW_BASELINE: Shown("Below baseline", "warn", "Not promoted: {version} is no better than a baseline."),
    Outcome.CHAMPION_UNUSABLE: Shown("Champion unusable", "warn", "Not decided: the champion {opponent} can't be used."),
    Outcome.NOT_ASKED: Shown("Scored only", "", "Not promoted: this run only trained and scored {version} (promote: never)."),
    Outcome.UNDECIDED: Shown("Not decided", "warn", "Not decided: the promotion log has no decision on {version}."),
    "rollback": Shown("Rolled back to", "back"),
    "pin": Shown("Pinned", "back"),
    "unpin": Shown("Unpinned", ""),
}


def headline(decision: Decision) -> str:
    """What became of the challenger, in one sentence."""
    is_newer = decision.champion is not None and decision.champion[:10] > str(decision.day)
    return OUTCOMES[decision.outcome].headline.format(
        version=decision.version,
        before=decision.before or "none",
        opponent=decision.opponent or "none",
        why_it_stays="from a newer day" if is_newer else "pinned",
    )


def instant_in_words(text: str) -> str:
    """A time of a record (ISO-8601 with its offset) as people write it: `1 July 2020, 00:10 UTC`."""
    at = datetime.fromisoformat(text)
    return f"{day_in_words(at.date())}, {at:%H:%M %Z}"


def scorer_title(name: str) -> str:
    """The challenger, the champion or a baseline, as figures and tables of scores call it."""
    return "co-visits, no GRU4Rec" if name == COVISITS else name


def count(n: float) -> str:
    """A whole number: `1,250,000`."""
    return f"{round(n):,}"


def score(value: float | None) -> str:
    """A metric, as tables show it: `0.4031`; a dash where it wasn't measured."""
    return "\u2013" if value is None else f"{value:.4f}"


def signed(value: float) -> str:
    """A difference of metrics: `+0.0312`."""
    return f"{value:+.4f}"
