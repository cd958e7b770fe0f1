"""What a step returned, as one line of a log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_MOST_NAMED = 3
_MOST_IN_A_GROUP = 6


def in_one_line(found: Mapping[str, Any]) -> str:
    """Such as `day 2020-06-30, clicks 1,234, missing none, popularity (recall_at_20 0.1234, n_events 512)`."""
    return ", ".join(f"{name} {_value(value)}" for name, value in found.items())


def _value(value: Any) -> str:
    match value:
        case None | "":
            said = "none"
        case bool():
            said = "yes" if value else "no"
        case int():
            said = f"{value:,}"
        case float():
            said = f"{value:,.4f}".rstrip("0").rstrip(".")
        case Mapping():
            more = len(value) - _MOST_IN_A_GROUP
            first = in_one_line(dict(list(value.items())[:_MOST_IN_A_GROUP]))
            said = f"({first}{f', {more} more' if more > 0 else ''})"
        case str():
            said = value
        case Sequence():
            more = len(value) - _MOST_NAMED
            named = [str(one) for one in value[:_MOST_NAMED]] + ([f"{more} more"] if more > 0 else [])
            said = f"[{'; '.join(named)}]" if named else "none"
        case _:
            said = str(value)
    return said
