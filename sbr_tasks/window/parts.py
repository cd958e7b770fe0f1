"""What an engine hands over to be published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from sbr_tasks.window.cleanse import CleansingPass, TooLong
from sbr_tasks.window.coded import Int64s


class Part(Protocol):
    """Whole sessions in the order in which they are published, wherever they lie."""

    @property
    def n_clicks(self) -> int:
        """Clicks."""

    @property
    def n_sessions(self) -> int:
        """Sessions."""

    @property
    def span_us(self) -> tuple[int, int] | None:
        """The times of the first and of the last click, microseconds since 1970; None where there is none."""

    @property
    def item_ids(self) -> pa.Array:
        """Distinct ids in ascending order; the clicks need not use all of them."""

    @property
    def support(self) -> Int64s:
        """Clicks of each item of `item_ids`, shape `(n_items,)`."""

    @property
    def schema(self) -> pa.Schema:
        """The schema of `tables`: `session_id`, `item_id`, `clicked_at`."""

    def tables(self, rows: int) -> Iterator[pa.Table]:
        """The clicks in order, in tables of `rows` clicks and a last one of fewer; no table where there is no click."""


@dataclass(frozen=True)
class Split:
    """The parts of a window by name, and how they came about.

    Attributes:
        parts: `train`, `validation` and `test`.
        passes: What each pass of cleansing left.
        too_long: What was done to sessions that were too long; None where they may be of any length.
    """

    parts: Mapping[str, Part]
    passes: list[CleansingPass]
    too_long: TooLong | None
