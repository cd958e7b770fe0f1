"""The parts of a split window, as an engine returns them for publishing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from sbr_tasks.window.cleanse import Counts, Level, TooLong
from sbr_tasks.window.ragged import Int64s
from sbr_tasks.window.sessions import Catalog


class Part(Protocol):
    """Whole sessions in the order in which they are published, in memory or on disk."""

    @property
    def n_clicks(self) -> int:
        """Number of clicks."""

    @property
    def n_sessions(self) -> int:
        """Number of sessions."""

    @property
    def span_us(self) -> tuple[int, int] | None:
        """The times of the first and the last click, microseconds since 1970; None without clicks."""

    @property
    def catalog(self) -> Catalog:
        """The items in ascending order of their ids; some may have no clicks."""

    @property
    def support(self) -> Int64s:
        """Clicks of each item of the catalog, shape `(n_items,)`."""

    @property
    def schema(self) -> pa.Schema:
        """The schema of `tables`: `session_id`, `item_code`, `clicked_at`."""

    def tables(self, rows: int) -> Iterator[pa.Table]:
        """The clicks in order, in tables of `rows` clicks; the last one may be shorter. No table without clicks."""


@dataclass(frozen=True)
class Cleansing:
    """What cleansing removed.

    Attributes:
        before: Counts before cleansing.
        too_long: Sessions above the maximum length; None if there is no maximum.
        passes: Counts after each pass.
        levels: What `least_click` keeps and, if that is little, what lower values keep.
        fair_items: If the whole window was cleansed, the number of items that cleansing the training clicks alone would keep.
    """

    before: Counts
    too_long: TooLong | None
    passes: Sequence[Counts]
    levels: Sequence[Level]
    fair_items: int | None = None


@dataclass(frozen=True)
class Split:
    """The parts of a window by the names in `record.PARTS`, and what cleansing removed of `train` (or of the window)."""

    parts: Mapping[str, Part]
    cleansing: Cleansing


LOW_SHARE = 0.8
"""Cleansing keeps little if it keeps less than this share of the training clicks, or items with less of the test clicks."""


def levels_to_try(item_ids: pa.Array, support: Int64s, test: Part, least_click: int) -> Sequence[int]:
    """The values of `least_click` to cleanse with: the setting and, if it keeps little, all values below it.

    Args:
        item_ids: Distinct items of the training clicks before cleansing.
        support: Clicks of each item, shape `(n_items,)`.
        test: The test part.
        least_click: The setting.
    """
    kept = support >= least_click
    share = support[kept].sum() / max(1, support.sum())
    on_kept = clicks_on(test, item_ids.filter(pa.array(kept))) / max(1, test.n_clicks)
    return range(1 if min(share, on_kept) < LOW_SHARE else least_click, least_click + 1)


def clicks_on(part: Part, item_ids: pa.Array) -> int:
    """How many clicks of a part are on some items."""
    ids = part.catalog.array
    is_in = pc.is_in(ids, value_set=item_ids.cast(ids.type))
    return int(part.support[is_in.to_numpy(zero_copy_only=False)].sum())
