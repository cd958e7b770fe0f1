"""The two expectation suites of a day, with fixed thresholds: one for its clicks, one for its facts.

A day that fails a critical expectation goes to quarantine; other failures are warnings, which are recorded with the day. The
`meta` of an expectation has its name, for which the settings define a severity.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, tzinfo
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from sbr_tasks.clicks.columns import Columns
from sbr_tasks.days import day_interval_us, from_us
from sbr_tasks.settings import ValidationSettings
from sbr_tasks.validation.gx import great_expectations
from sbr_tasks.validation.limits import Limit, is_placeholder, shown_id
from sbr_tasks.validation.trailing import Compared

if TYPE_CHECKING:
    import pandas as pd

_REPEATS = [*Columns.CLICK]
_MAX_REPEATED = 0.01
"""Share of the clicks: some people, and some pages, click twice within one tick of the clock."""
_DESCRIBED = 20
"""Number of repeated clicks that are described as examples; describing millions would take long."""


def click_frame(clicks: pa.Table, max_session_clicks: int) -> pd.DataFrame:
    """The frame for `click_suite`: the clicks, with columns for checks that are slow in Great Expectations.

    Returns:
        The columns of `clicks`, and three that are None or a text: `long_session` describes the click's session if it has more
        than `max_session_clicks`; `repeated` describes the click if an earlier one has the same session, item and time;
        `placeholder` is its session id if that is a word for a missing id, such as `null`.
    """
    frame: pd.DataFrame = clicks.to_pandas()
    frame["long_session"] = _long_sessions(frame[Columns.SESSION], max_session_clicks)
    frame["repeated"] = _repeated(frame)
    frame["placeholder"] = _placeholders(frame[Columns.SESSION])
    return frame


def _long_sessions(sessions: pd.Series[Any], max_clicks: int) -> pd.Series[Any]:
    lengths = sessions.value_counts()
    texts = {session: f"session {shown_id(session)} ({n:,} clicks)" for session, n in lengths[lengths > max_clicks].items()}
    return sessions.map(texts).astype(object)


def _repeated(frame: pd.DataFrame) -> pd.Series[Any]:
    import pandas as pd

    is_repeated = frame.duplicated(_REPEATS)
    texts = pd.Series(None, index=frame.index, dtype=object)
    texts[is_repeated] = "another one"
    for row, session, item, at in frame.loc[is_repeated, _REPEATS].head(_DESCRIBED).itertuples():
        texts[row] = f"session {shown_id(session)}, item {shown_id(item)} at {at}"
    return texts


def _placeholders(sessions: pd.Series[Any]) -> pd.Series[Any]:
    import pandas as pd

    if pd.api.types.is_numeric_dtype(sessions):
        return pd.Series(None, index=sessions.index, dtype=object)
    names = [name for name in sessions.unique() if is_placeholder(name)]
    return sessions.where(sessions.isin(names), None)


def click_suite(day: date, *, zone: tzinfo, integer_ids: bool, settings: ValidationSettings) -> Any:
    """The expectation suite for a day's clicks.

    Args:
        day: The day of the clicks.
        zone: The zone whose midnights separate days.
        integer_ids: Whether ids are integers (else strings).
        settings: Thresholds and severities.

    Returns:
        A `great_expectations.ExpectationSuite` for a frame of `click_frame`.
    """
    import pandas as pd

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
            column_set=[*Columns.ALL, "long_session", "repeated", "placeholder"],
            exact_match=True,
        ),
        _named(
            "times_in_day",
            settings,
            gxe.ExpectColumnValuesToBeBetween,
            f"Each click is in the day {day} ({within})",
            column=Columns.TIME,
            min_value=start,
            max_value=end,
            strict_max=True,
        ),
        *(
            _named(
                name,
                settings,
                gxe.ExpectColumnValuesToBeNull,
                f"At most {100 * share:g}% of the clicks repeat another one (same session, item and time){hint}",
                column="repeated",
                mostly=1 - share,
            )
            for name, share, hint in (
                ("repeated_share", settings.max_repeated_share, "; more means that the day was delivered twice"),
                ("repeated_clicks", _MAX_REPEATED, ""),
            )
        ),
        _named(
            "session_names",
            settings,
            gxe.ExpectColumnValuesToBeNull,
            "No session is called by a word for a missing id, such as null",
            column="placeholder",
        ),
        _named(
            "long_sessions",
            settings,
            gxe.ExpectColumnValuesToBeNull,
            f"No session has more than {settings.max_session_clicks:,} clicks (robots have)",
            column="long_session",
        ),
    ]
    expectations += [
        _named("ids_present", settings, gxe.ExpectColumnValuesToNotBeNull, f"Each click has its {column}", column=column)
        for column in Columns.CLICK
    ]
    rule, bound = (
        (gxe.ExpectColumnValuesToBeBetween, {"min_value": 0})
        if integer_ids
        else (gxe.ExpectColumnValueLengthsToBeBetween, {"min_value": 1})
    )
    ids = "a non-negative integer" if integer_ids else "a non-empty string"
    expectations += [
        _named(f"{column}s", settings, rule, f"Each {column} is {ids}", column=column, **bound) for column in Columns.IDS
    ]
    return gx.ExpectationSuite(name=f"clicks of {day}", expectations=[e for e in expectations if e is not None])


def fact_suite(day: date, compared: Sequence[Compared | Limit], settings: ValidationSettings) -> Any:
    """The expectation suite for a day's facts: one expectation for each of `compared`, on a frame of one row."""
    gx = great_expectations()
    gxe = gx.expectations
    expectations = [
        _named(
            fact.expectation,
            settings,
            gxe.ExpectColumnValuesToBeBetween,
            fact.sentence,
            column=fact.fact,
            min_value=fact.low,
            max_value=fact.high,
        )
        for fact in compared
    ]
    return gx.ExpectationSuite(name=f"facts of {day}", expectations=[e for e in expectations if e is not None])


def _named(name: str, settings: ValidationSettings, rule: Any, description: str, **arguments: Any) -> Any | None:
    severity = settings.severity(name)
    return None if severity == "off" else rule(description=description, severity=severity, meta={"name": name}, **arguments)
