"""The result of a step as one log line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_MAX_NAMED = 3
_MAX_IN_GROUP = 6


def in_one_line(result: Mapping[str, Any]) -> str:
    """A result such as `day 2020-06-30, clicks 1,234, missing none, popularity (recall_at_20 0.1234, n_events 512)`."""
    return ", ".join(f"{name} {_value(value)}" for name, value in result.items())


def _value(value: Any) -> str:
    match value:
        case None | "":
            text = "none"
        case bool():
            text = "yes" if value else "no"
        case int():
            text = f"{value:,}"
        case float():
            text = f"{value:,.4f}".rstrip("0").rstrip(".")
        case Mapping():
            more = len(value) - _MAX_IN_GROUP
            first = in_one_line(dict(list(value.items())[:_MAX_IN_GROUP]))
            text = f"({first}{f', {more} more' if more > 0 else ''})"
        case str():
            text = value
        case Sequence():
            more = len(value) - _MAX_NAMED
            named = [str(part) for part in value[:_MAX_NAMED]] + ([f"{more} more"] if more > 0 else [])
            text = f"[{'; '.join(named)}]" if named else "none"
        case _:
            text = str(value)
    return text
