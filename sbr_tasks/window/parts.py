"""What an engine hands over to be published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from sbr_tasks.window.cleanse import Counts, Level, TooLong
from sbr_tasks.window.ragged import Int64s


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
class Cleansing:
    """What cleansing did.

    Attributes:
        before: What there was to cleanse.
        too_long: What was done to sessions that were too long; None where they may be of any length.
        passes: What each pass left.
        levels: What `least_click` leaves, and lower values too where it costs much.
        fair_items: Where the whole window was cleansed, how many items cleansing the training clicks alone would keep.
    """

    before: Counts
    too_long: TooLong | None
    passes: Sequence[Counts]
    levels: Sequence[Level]
    fair_items: int | None = None


@dataclass(frozen=True)
class Split:
    """The parts of a window by name, `train`, `validation` and `test`, and what cleansing did."""

    parts: Mapping[str, Part]
    cleansing: Cleansing


LOW_SHARE = 0.8
"""Cleansing that keeps a smaller share of the clicks, or items that get a smaller share of the test's, cost much."""


def levels_to_try(item_ids: pa.Array, support: Int64s, test: Part, least_click: int) -> Sequence[int]:
    """The values of `least_click` that cleansing goes through: the one that is set, and all below it where that costs much.

    Args:
        item_ids: Distinct items of the training clicks before cleansing.
        support: Clicks of each, shape `(n_items,)`.
        test: The test part.
        least_click: The value that is set.
    """
    kept = support >= least_click
    share = support[kept].sum() / max(1, support.sum())
    on_kept = clicks_on(test, item_ids.filter(pa.array(kept))) / max(1, test.n_clicks)
    return range(1 if min(share, on_kept) < LOW_SHARE else least_click, least_click + 1)


def clicks_on(part: Part, item_ids: pa.Array) -> int:
    """How many clicks of a part are on some items."""
    is_in = pc.is_in(part.item_ids, value_set=item_ids.cast(part.item_ids.type))
    return int(part.support[is_in.to_numpy(zero_copy_only=False)].sum())
