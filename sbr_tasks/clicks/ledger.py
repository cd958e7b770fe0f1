"""The ledger of an import: every line that was read is stored, rejected, or left out for a reason."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Literal, Self

from pydantic import model_validator

from sbr_tasks.days import describe_days
from sbr_tasks.errors import SourceError
from sbr_tasks.store import Record

Reason = Literal["outside_window", "closed", "same", "different"]
"""Why a valid click isn't stored: its day wasn't asked for; its day is closed; its day's clicks are stored already, and the
source holds the same ones; or it holds other ones, which `ingest.changed_days` doesn't take."""

_WORDS: Mapping[Reason, str] = {
    "outside_window": "outside the window",
    "closed": "of a closed day",
    "same": "already stored and the same",
    "different": "already stored and different",
}


class Ledger(Record):
    """The account of one pass over a source: `read == stored + rejected + filtered + left out`.

    Attributes:
        read: Lines (of Parquet: rows), without headers and blank lines.
        stored: Clicks that became part of a new revision.
        rejected: Lines that don't parse.
        filtered: Lines that `source.where` leaves out.
        left_out: Number of clicks that weren't stored, by reason and day; without reasons that have none.
    """

    read: int
    stored: int
    rejected: int
    filtered: int = 0
    left_out: dict[Reason, dict[date, int]]

    @model_validator(mode="after")
    def _is_balanced(self) -> Self:
        accounted = self.stored + self.rejected + self.filtered + self.n_left_out
        if accounted != self.read:
            raise SourceError(
                f"{self.read:,} lines were read and {accounted:,} are accounted for ({self.in_words()}). Nothing was stored. "
                "This is an error of sbr-tasks; please report it."
            )
        return self

    @property
    def n_left_out(self) -> int:
        """Clicks that were left out, for any reason."""
        return sum(sum(days.values()) for days in self.left_out.values())

    @property
    def is_worth_showing(self) -> bool:
        """Whether clicks were left out that aren't already stored."""
        return any(reason != "same" for reason in self.left_out)

    def in_words(self) -> str:
        """Such as `390 lines read = 270 stored + 0 rejected + 120 left out (outside the window: 120, 1970-01-18)`."""
        reasons = "; ".join(
            f"{_WORDS[reason]}: {sum(days.values()):,}, {describe_days(list(days))}" for reason, days in self.left_out.items()
        )
        filtered = f" + {self.filtered:,} filtered out (source.where)" if self.filtered else ""
        return (
            f"{self.read:,} lines read = {self.stored:,} stored + {self.rejected:,} rejected{filtered} "
            f"+ {self.n_left_out:,} left out" + (f" ({reasons})" if reasons else "")
        )

    def rows(self) -> list[tuple[date, str, int]]:
        """Day, reason in words, and number of clicks left out, without clicks that are already stored."""
        return sorted(
            (day, _WORDS[reason], clicks)
            for reason, days in self.left_out.items()
            if reason != "same"
            for day, clicks in days.items()
        )
