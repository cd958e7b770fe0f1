"""Results: what steps and lists return, and how they look as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

_MAX_NAMED = 3
_MAX_IN_GROUP = 6


class Result(BaseModel):
    """What a step or a list returned. `model_dump(mode="json")` gives its values; as text it is for people.

    Attributes:
        text: The result as a table or in sentences, where it has one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str = Field("", exclude=True, repr=False)

    def __str__(self) -> str:
        return self.text or fields_as_text(self.model_dump(mode="json"))


def fields_as_text(fields: Mapping[str, Any]) -> str:
    """A line for each field."""
    texts = {name: ", ".join(map(str, value)) if isinstance(value, list) else value for name, value in fields.items()}
    return "\n".join(f"{name}: {text}" for name, text in texts.items())


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
