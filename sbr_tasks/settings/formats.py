"""How clicks may be written: formats, public data sets, and the conditions that select lines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

LineFormat = Literal["yoochoose", "gru4rec", "movielens", "csv", "jsonl", "parquet"]
ClickFormat = Literal[
    "yoochoose",
    "gru4rec",
    "movielens",
    "csv",
    "jsonl",
    "parquet",
    "diginetica",
    "retailrocket",
    "rees46",
    "otto",
    "30music",
]

DATA_SETS: Mapping[str, tuple[LineFormat, Mapping[str, Any]]] = {
    "movielens": ("movielens", {"session_gap": 30.0, "earliest": "1995-01-01"}),
    "diginetica": (
        "csv",
        {
            "delimiter": ";",
            "timezone": "UTC",
            "columns": {
                "session_id": "sessionId",
                "item_id": "itemId",
                "clicked_at": "eventdate",
                "time_offset": "timeframe",
            },
        },
    ),
    "retailrocket": (
        "csv",
        {
            "time_unit": "ms",
            "session_gap": 30.0,
            "where": "event = view",
            "columns": {"user_id": "visitorid", "item_id": "itemid", "clicked_at": "timestamp"},
        },
    ),
    "rees46": (
        "csv",
        {
            "id_type": "string",
            "where": "event_type = view and user_session != ''",
            "columns": {
                "session_id": "user_session",
                "item_id": "product_id",
                "clicked_at": "event_time",
                "category": "category_id",
            },
        },
    ),
    "otto": (
        "jsonl",
        {
            "time_unit": "ms",
            "where": "events[].type = clicks",
            "columns": {"session_id": "session", "item_id": "events[].aid", "clicked_at": "events[].ts"},
        },
    ),
    "30music": (
        "csv",
        {
            "delimiter": "\t",
            "time_unit": "s",
            "columns": {"session_id": "SessionId", "item_id": "ItemId", "clicked_at": "Time"},
        },
    ),
}
"""Public data sets: the format of their lines, and the defaults of `source` that read them."""

OTHER_NAMES: Mapping[str, Mapping[str, str]] = {"diginetica": {"session_id": "sessionId", "item_id": "itemId"}}
"""Column names in common copies of a public data set, and the publisher's names."""


class Condition(NamedTuple):
    """A condition of `source.where`: a column equals a text, or doesn't."""

    column: str
    is_equal: bool
    value: str


_CONDITION = re.compile(
    r"""\s*(?P<column>[^=!'"]+?)\s*(?P<operator>!?=)\s*(?:'(?P<single>[^']*)'|"(?P<double>[^"]*)"|(?P<bare>[^\s'"=]+))"""
    r"""(?:\s+and\s+(?=\S)|\s*$)""",
    re.IGNORECASE,
)


def parse_where(text: str) -> tuple[Condition, ...]:
    """The conditions of a text such as `event_type = view and user_session != ''`; all of them must hold.

    Raises:
        ValueError: It isn't made of conditions joined by `and`.
    """
    conditions, at = [], 0
    while at < len(text):
        match = _CONDITION.match(text, at)
        if match is None:
            raise ValueError(
                f"expected conditions such as event_type = view, joined by 'and', found {text[at:]!r}; "
                "the operators are = and !=, and a value with blanks is quoted"
            )
        value = next(value for value in match.group("single", "double", "bare") if value is not None)
        conditions.append(Condition(match["column"], match["operator"] == "=", value))
        at = match.end()
    return tuple(conditions)
