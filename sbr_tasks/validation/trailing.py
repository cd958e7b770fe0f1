"""Compares a day's facts with those of the accepted days before it, by robust z-scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from sbr_tasks.plain_text import percent
from sbr_tasks.settings import ValidationSettings

_MAD_TO_SIGMA = 1.4826
"""Standard deviation divided by median absolute deviation, for a normal distribution."""


@dataclass(frozen=True)
class Compared:
    """A fact compared with the days before.

    Attributes:
        fact: Name of the fact.
        expectation: Name of the expectation that it belongs to, which has the severity.
        value: The day's value.
        z: Robust z-score; see `compare`.
        low: The smallest value without a warning; None if low values are fine.
        high: The largest value without a warning; None if high values are fine.
        sentence: A description for people.
    """

    fact: str
    expectation: str
    value: float
    z: float
    low: float | None
    high: float | None
    sentence: str


@dataclass(frozen=True)
class _Rule:
    fact: str
    expectation: str
    what: str
    kind: Literal["count", "length", "share"]
    is_odd: Literal["low", "high", "both"] = "both"


_RULES = (
    _Rule("clicks", "volume", "Number of clicks: {}", "count"),
    _Rule("sessions", "volume", "Number of sessions: {}", "count"),
    _Rule("items", "volume", "Number of items: {}", "count"),
    _Rule("new_items", "new_items", "{} of the items were not clicked in the trailing days", "share", "high"),
    _Rule("one_click_sessions", "one_click_sessions", "{} of the sessions have one click", "share"),
    _Rule("length_p50", "session_lengths", "Median number of clicks per session: {}", "length"),
    _Rule("length_p99", "session_lengths", "99th percentile of clicks per session: {}", "length"),
    _Rule("length_p999", "session_lengths", "99.9th percentile of clicks per session: {}", "length"),
    _Rule("top_item", "top_item", "{} of the clicks are on the most clicked item", "share", "high"),
    _Rule("hours", "hours", "Clicks in {} of {hours_of_day} hours", "share", "low"),
)


def compare_facts(
    facts: Mapping[str, Any], trailing: Sequence[Mapping[str, Any]], settings: ValidationSettings
) -> list[Compared]:
    """Compares a day's facts with those of the days before.

    The robust z-score of a value is its distance from the median of the days before, divided by 1.4826 times their median
    absolute deviation (MAD; Hampel 1974), which estimates the standard deviation and is robust against a few unusual days. The
    divisor has a minimum, so that values within `volume_tolerance` of the median (counts and lengths; for lengths at least one
    click) or within `share_tolerance` (shares) never cause a warning, even if the days before hardly vary.

    Args:
        facts: The day's facts by name; missing ones and None aren't compared.
        trailing: The facts of the days before.
        settings: Thresholds.

    Returns:
        One for each fact of the day that at least `min_trailing_days` of the days before have as well.
    """
    compared = []
    for rule in _RULES:
        value, history = _value(facts, rule), [v for day in trailing if (v := _value(day, rule)) is not None]
        if value is not None and len(history) >= settings.min_trailing_days:
            compared.append(_compare_fact(rule, facts, value, history, settings))
    return compared


def _compare_fact(
    rule: _Rule, facts: Mapping[str, Any], value: float, history: Sequence[float], settings: ValidationSettings
) -> Compared:
    middle = median(history)
    spread = _MAD_TO_SIGMA * median(abs(v - middle) for v in history)
    min_reach = {
        "count": settings.volume_tolerance * middle,
        "length": max(settings.volume_tolerance * middle, 1.0),
        "share": settings.share_tolerance,
    }[rule.kind]
    reach = max(settings.max_z * spread, min_reach)
    z = settings.max_z * (value - middle) / reach if reach else 0.0
    hours = facts["hours_of_day"] if rule.fact == "hours" else 1
    show = percent if rule.kind == "share" and hours == 1 else "{:,.0f}".format
    now, usual = (show(number * hours) for number in (value, middle))
    warning = {"low": f"below -{settings.max_z:g}", "high": f"above {settings.max_z:g}", "both": f"beyond ±{settings.max_z:g}"}
    return Compared(
        fact=rule.fact,
        expectation=rule.expectation,
        value=value,
        z=z,
        low=None if rule.is_odd == "high" else middle - reach,
        high=None if rule.is_odd == "low" else middle + reach,
        sentence=f"{rule.what.format(now, **facts)}; the previous {len(history)} accepted days had a median of {usual} "
        f"(robust z {z:.1f}, warning {warning[rule.is_odd]})",
    )


def _value(facts: Mapping[str, Any], rule: _Rule) -> float | None:
    value = facts.get(rule.fact)
    if value is None or rule.fact != "hours":
        return value
    return float(value) / float(facts["hours_of_day"])
