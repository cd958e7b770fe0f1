"""The expectation suite that each day's clicks must meet, made of plain thresholds.

Critical expectations send a day to quarantine; the others are warnings that travel with the day.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, tzinfo
from statistics import median
from typing import Any

import pandas as pd

from sbr_tasks.clicks.catalog import Revision
from sbr_tasks.days import day_interval_us, from_us
from sbr_tasks.settings import ValidationSettings

COLUMNS = ("session_id", "item_id", "clicked_at", "category", "session_clicks")


def build_suite(
    day: date, *, zone: tzinfo, integer_ids: bool, trailing: Sequence[Revision], settings: ValidationSettings
) -> Any:
    """The suite of one day.

    Args:
        day: The day that the clicks must lie in.
        zone: The zone whose midnights separate days.
        integer_ids: Whether ids are integers (else strings).
        trailing: Accepted revisions of the days before, whose medians the day's volume is compared with.
        settings: Thresholds.

    Returns:
        A `great_expectations.ExpectationSuite` for a frame with the columns `COLUMNS`.
    """
    import great_expectations as gx
    import great_expectations.expectations as gxe

    start, end = (pd.Timestamp(from_us(us)) for us in day_interval_us(day, zone))
    critical: dict[str, Any] = {"severity": "critical"}
    warning: dict[str, Any] = {"severity": "warning"}
    expectations = [
        gxe.ExpectTableColumnsToMatchSet(
            column_set=list(COLUMNS), exact_match=True, description="The columns are those of the data contract", **critical
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="clicked_at",
            min_value=start,
            max_value=end,
            strict_max=True,
            description=f"Each click lies in the day {day} ({start.isoformat()} to {end.isoformat()}, end excluded)",
            **critical,
        ),
        gxe.ExpectCompoundColumnsToBeUnique(
            column_list=["session_id", "clicked_at", "item_id"],
            description="No session clicks the same item twice at the same instant",
            **warning,
        ),
        gxe.ExpectColumnValuesToBeBetween(
            column="session_clicks",
            max_value=settings.max_session_clicks,
            description=f"No session has more than {settings.max_session_clicks} clicks (robots have)",
            **warning,
        ),
    ]
    expectations += [
        gxe.ExpectColumnValuesToNotBeNull(column=column, description=f"Each click has its {column}", **critical)
        for column in ("session_id", "item_id", "clicked_at")
    ]
    expectations += [
        gxe.ExpectColumnValuesToBeBetween(
            column=column, min_value=0, description=f"Each {column} is a non-negative integer", **critical
        )
        if integer_ids
        else gxe.ExpectColumnValueLengthsToBeBetween(
            column=column, min_value=1, description=f"Each {column} is a non-empty string", **critical
        )
        for column in ("session_id", "item_id")
    ]
    if len(trailing) >= settings.min_trailing_days:
        expectations += _volume_expectations(trailing, settings)
    return gx.ExpectationSuite(name=f"clicks of {day}", expectations=expectations)


def _volume_expectations(trailing: Sequence[Revision], settings: ValidationSettings) -> list[Any]:
    import great_expectations.expectations as gxe

    def bounds(counts: list[int], what: str) -> dict[str, Any]:
        middle = median(counts)
        low = round(middle * (1 - settings.volume_tolerance))
        high = round(middle * (1 + settings.volume_tolerance))
        near = f"the median of the {len(counts)} days before, {middle:,.0f} (from {low:,} to {high:,})"
        return {
            "min_value": max(low, 0),
            "max_value": high,
            "description": f"The number of {what} is near {near}",
            "severity": "warning",
        }

    return [
        gxe.ExpectTableRowCountToBeBetween(**bounds([r.rows for r in trailing], "clicks")),
        gxe.ExpectColumnUniqueValueCountToBeBetween(column="session_id", **bounds([r.sessions for r in trailing], "sessions")),
        gxe.ExpectColumnUniqueValueCountToBeBetween(column="item_id", **bounds([r.items for r in trailing], "items")),
    ]
