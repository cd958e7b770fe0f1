"""The expectation suites that each day must meet, made of plain thresholds: one of its clicks, one of its facts.

Critical expectations send a day to quarantine; the others are warnings that travel with the day. Each carries its name, by
which the settings give it a severity, in its `meta`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, tzinfo
from typing import Any

import pandas as pd
import pyarrow as pa

from sbr_tasks.days import day_interval_us, from_us
from sbr_tasks.settings import ValidationSettings
from sbr_tasks.validation.gx import great_expectations
from sbr_tasks.validation.trailing import Compared

_REPEATS = ["session_id", "clicked_at", "item_id"]


def click_frame(clicks: pa.Table) -> pd.DataFrame:
    """The frame that the suite of `click_suite` checks: the clicks, with two columns that spare Great Expectations slow work.

    Returns:
        The columns of `clicks` and, of each click, `session_clicks`: the clicks that its session has, and `repeats`: how many
        clicks have its session, item and instant. Both are 1 for clicks without a session.
    """
    frame = clicks.to_pandas()
    frame["session_clicks"] = frame.groupby("session_id", sort=False)["session_id"].transform("size").fillna(1).astype("int64")
    frame["repeats"] = 1
    repeated = frame.duplicated(_REPEATS, keep=False)
    if repeated.any():
        sizes = frame[repeated].groupby(_REPEATS, sort=False, dropna=False)["repeats"].transform("size")
        frame.loc[repeated, "repeats"] = sizes
    return frame


def click_suite(day: date, *, zone: tzinfo, integer_ids: bool, settings: ValidationSettings) -> Any:
    """The suite of one day's clicks.

    Args:
        day: The day that the clicks must lie in.
        zone: The zone whose midnights separate days.
        integer_ids: Whether ids are integers (else strings).
        settings: Thresholds and severities.

    Returns:
        A `great_expectations.ExpectationSuite` for a frame that `click_frame` made.
    """
    gx = great_expectations()
    gxe = gx.expectations
    start, end = (pd.Timestamp(from_us(us)) for us in day_interval_us(day, zone))
    within = f"{start.isoformat()} to {end.isoformat()}, end excluded"
    expectations = [
        _named(
            "columns",
            settings,
            gxe.ExpectTableColumnsToMatchSet,
            "The columns are those of the data contract",
            column_set=["session_id", "item_id", "clicked_at", "category", "session_clicks", "repeats"],
            exact_match=True,
        ),
        _named(
            "times_in_day",
            settings,
            gxe.ExpectColumnValuesToBeBetween,
            f"Each click lies in the day {day} ({within})",
            column="clicked_at",
            min_value=start,
            max_value=end,
            strict_max=True,
        ),
        _named(
            "repeated_clicks",
            settings,
            gxe.ExpectColumnValuesToBeBetween,
            "No session clicks the same item twice at the same instant",
            column="repeats",
            max_value=1,
        ),
        _named(
            "long_sessions",
            settings,
            gxe.ExpectColumnValuesToBeBetween,
            f"No session has more than {settings.max_session_clicks} clicks (robots have)",
            column="session_clicks",
            max_value=settings.max_session_clicks,
        ),
    ]
    expectations += [
        _named("ids_present", settings, gxe.ExpectColumnValuesToNotBeNull, f"Each click has its {column}", column=column)
        for column in ("session_id", "item_id", "clicked_at")
    ]
    rule, bound = (
        (gxe.ExpectColumnValuesToBeBetween, {"min_value": 0})
        if integer_ids
        else (gxe.ExpectColumnValueLengthsToBeBetween, {"min_value": 1})
    )
    ids = "a non-negative integer" if integer_ids else "a non-empty string"
    expectations += [
        _named(f"{column}s", settings, rule, f"Each {column} is {ids}", column=column, **bound)
        for column in ("session_id", "item_id")
    ]
    return gx.ExpectationSuite(name=f"clicks of {day}", expectations=[e for e in expectations if e is not None])


def fact_suite(day: date, compared: Sequence[Compared], settings: ValidationSettings) -> Any:
    """The suite of one day's facts, for a frame of one row with a column a fact: an expectation for each compared one."""
    gx = great_expectations()
    gxe = gx.expectations
    expectations = [
        _named(
            found.expectation,
            settings,
            gxe.ExpectColumnValuesToBeBetween,
            found.sentence,
            column=found.fact,
            min_value=found.low,
            max_value=found.high,
        )
        for found in compared
    ]
    return gx.ExpectationSuite(name=f"facts of {day}", expectations=[e for e in expectations if e is not None])


def _named(name: str, settings: ValidationSettings, rule: Any, description: str, **arguments: Any) -> Any | None:
    severity = settings.severity(name)
    return None if severity == "off" else rule(description=description, severity=severity, meta={"name": name}, **arguments)
