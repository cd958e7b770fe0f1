"""Clicks of a window in memory: sessions one after the other, with int32 codes instead of item ids.

A code takes 4 bytes, whatever the type of the ids; each distinct id is held once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sbr_tasks.clicks.columns import Columns
from sbr_tasks.window.ragged import Int64s, offsets_of, rows_of_runs

BLOCK = 1 << 18
"""Clicks processed at a time, few enough to stay in the cache."""

Int32s = npt.NDArray[np.int32]


@dataclass(frozen=True)
class CodedClicks:
    """Whole sessions, one after the other; within a session, clicks by time (ties: in the order of the source).

    Attributes:
        offsets: Shape `(n_sessions + 1,)`, int64; session i is `items[offsets[i]:offsets[i + 1]]`.
        items: Shape `(n_clicks,)`, int32; position of each click's item in `item_ids`.
        at_us: Shape `(n_clicks,)`, int64; microseconds since 1970, UTC.
        session_ids: Shape `(n_sessions,)`; the id of each session.
        item_ids: Distinct ids in ascending order; some may have no clicks.
    """

    offsets: Int64s
    items: Int32s
    at_us: Int64s
    session_ids: pa.Array
    item_ids: pa.Array

    @property
    def n_clicks(self) -> int:
        return len(self.items)

    @property
    def n_sessions(self) -> int:
        return len(self.session_ids)

    @property
    def lengths(self) -> Int64s:
        """Clicks of each session, shape `(n_sessions,)`."""
        return np.diff(self.offsets)

    @property
    def support(self) -> Int64s:
        """Clicks of each item of `item_ids`, shape `(n_items,)`."""
        return np.bincount(self.items, minlength=len(self.item_ids))

    def take_sessions(self, which: npt.NDArray[np.integer[Any]]) -> CodedClicks:
        """The sessions at these positions, in the given order."""
        return self.take_runs(self.offsets[which], self.lengths[which], self.session_ids.take(pa.array(which)))

    def take_runs(self, starts: Int64s, lengths: Int64s, session_ids: pa.Array) -> CodedClicks:
        """Sessions made of runs of clicks: session i has `lengths[i]` clicks from position `starts[i]` on."""
        offsets = offsets_of(lengths)
        items, at_us = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], np.int64)
        for first, last in _blocks(offsets):
            rows = rows_of_runs(starts[first:last], lengths[first:last])
            block = slice(offsets[first], offsets[last])
            items[block], at_us[block] = self.items[rows], self.at_us[rows]
        return CodedClicks(offsets, items, at_us, session_ids, self.item_ids)

    @property
    def span_us(self) -> tuple[int, int] | None:
        """The times of the first and the last click, microseconds since 1970; None without clicks."""
        return (int(self.at_us.min()), int(self.at_us.max())) if self.n_clicks else None

    def tables(self, rows: int) -> Iterator[pa.Table]:
        """The clicks with their ids, in order, in tables of `rows` clicks; the last one may be shorter."""
        return (self.table(start, min(start + rows, self.n_clicks)) for start in range(0, self.n_clicks, rows))

    @property
    def schema(self) -> pa.Schema:
        """The schema of `tables`."""
        return self.table(0, 0).schema

    def table(self, start: int, stop: int) -> pa.Table:
        """The clicks `[start, stop)` with their ids: `session_id`, `item_id`, `clicked_at`."""
        first, last = np.searchsorted(self.offsets, [start, stop], side="right") - 1
        inside = np.clip(self.offsets[first : last + 2], start, stop)
        session = np.repeat(np.arange(first, first + len(inside) - 1, dtype=np.int32), np.diff(inside))
        return pa.table(
            {
                Columns.SESSION: self.session_ids.take(pa.array(session)),
                Columns.ITEM: self.item_ids.take(pa.array(self.items[start:stop])),
                Columns.TIME: pa.array(self.at_us[start:stop]).cast(pa.timestamp("us", tz="UTC")),
            }
        )


class Coder:
    """Builds `CodedClicks` from tables of clicks, added one at a time; only codes are kept of each.

    Clicks of a session with equal times keep their order. Tables sorted by session and time, like the days of the store, need
    no sorting.
    """

    def __init__(self) -> None:
        self._heads: list[pa.Array] = []
        self._lengths: list[Int64s] = []
        self._items: list[Int32s] = []
        self._distinct: list[pa.Array] = []
        self._at_us: list[Int64s] = []

    def add(self, clicks: pa.Table) -> None:
        """Adds a table with `session_id`, `item_id` and `clicked_at`; ids are integers or (dictionary-encoded) strings."""
        if not len(clicks) and self._heads:
            return
        heads, lengths = _runs(_one_array(clicks.column(Columns.SESSION)))
        self._heads.append(heads)
        self._lengths.append(lengths)
        items = _one_array(clicks.column(Columns.ITEM))
        if not pa.types.is_dictionary(items.type):
            items = items.dictionary_encode()
        self._items.append(items.indices.to_numpy())
        self._distinct.append(items.dictionary)
        self._at_us.append(clicks.column(Columns.TIME).cast(pa.int64()).to_numpy())

    def finish(self) -> CodedClicks:
        """All clicks, with sessions in ascending order of their ids. At least one table must have been added."""
        heads = pa.concat_arrays(self._heads)
        self._heads.clear()
        order = _ascending(heads)
        heads = heads.take(pa.array(order))
        ends = offsets_of(np.concatenate(self._lengths)[order])
        places = np.empty(len(order), np.int64)
        places[order] = ends[:-1]
        del order
        items, item_ids, at_us = self._laid_out(places, int(ends[-1]))
        del places
        is_first = np.ones(len(heads) + 1, bool)
        if len(heads):
            is_first[1:-1] = pc.not_equal(heads[1:], heads[:-1]).to_numpy(zero_copy_only=False)
        clicks = CodedClicks(ends[is_first], items, at_us, heads.filter(pa.array(is_first[:-1])), item_ids)
        return _in_time(clicks)

    def _laid_out(self, places: Int64s, n_clicks: int) -> tuple[Int32s, pa.Array, Int64s]:
        """Items and times, with each run at its position in `places`. Tables are released one by one, to save memory."""
        codes, item_ids = self._unified_items()
        items, at_us = np.empty(n_clicks, np.int32), np.empty(n_clicks, np.int64)
        first_run = 0
        for code in codes:
            lengths = self._lengths.pop(0)
            rows = rows_of_runs(places[first_run : first_run + len(lengths)], lengths)
            items[rows] = code[self._items.pop(0)]
            at_us[rows] = self._at_us.pop(0)
            first_run += len(lengths)
        return items, item_ids, at_us

    def _unified_items(self) -> tuple[list[Int32s], pa.Array]:
        """The codes of each table's distinct items, and the ids by code."""
        encoded = pa.concat_arrays(self._distinct).dictionary_encode()
        order = _ascending(encoded.dictionary)
        rank = np.empty(len(order), np.int32)
        rank[order] = np.arange(len(order), dtype=np.int32)
        code = rank[encoded.indices.to_numpy()]
        return np.split(code, np.cumsum([len(ids) for ids in self._distinct[:-1]])), encoded.dictionary.take(pa.array(order))


def _blocks(offsets: Int64s) -> Iterator[tuple[int, int]]:
    """Half-open ranges of runs with about `BLOCK` clicks each."""
    cuts = np.unique(np.searchsorted(offsets, np.arange(0, offsets[-1], BLOCK), side="right") - 1)
    return pairwise([*cuts.tolist(), len(offsets) - 1])


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _runs(ids: pa.Array) -> tuple[pa.Array, Int64s]:
    """The id and the length of each run of equal ids."""
    if not len(ids):
        return (ids.dictionary[:0] if pa.types.is_dictionary(ids.type) else ids), np.empty(0, np.int64)
    if pa.types.is_string(ids.type):
        ids = ids.dictionary_encode()
    values = (ids.indices if pa.types.is_dictionary(ids.type) else ids).to_numpy()
    starts = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])
    lengths = np.diff(np.append(starts, len(values)))
    if pa.types.is_dictionary(ids.type):
        return ids.dictionary.take(pa.array(values[starts])), lengths
    return ids.take(pa.array(starts)), lengths


def _ascending(ids: pa.Array) -> npt.NDArray[np.integer[Any]]:
    """The stable order that sorts ids."""
    if pa.types.is_integer(ids.type):
        return np.argsort(ids.to_numpy(), kind="stable")  # timsort: fast for data that is partly sorted
    order: npt.NDArray[np.integer[Any]] = pc.array_sort_indices(ids).to_numpy().astype(np.int64)
    return order


def _in_time(clicks: CodedClicks) -> CodedClicks:
    """The same sessions with their clicks sorted by time; skips the sort if they already are."""
    at_us, items = clicks.at_us, clicks.items
    if all(_is_in_time(clicks, first, last) for first, last in _blocks(clicks.offsets)):
        return clicks
    session = np.repeat(np.arange(clicks.n_sessions), clicks.lengths)
    order = np.lexsort((at_us, session))
    return CodedClicks(clicks.offsets, items[order], at_us[order], clicks.session_ids, clicks.item_ids)


def _is_in_time(clicks: CodedClicks, first: int, last: int) -> bool:
    """Whether the clicks of each of the sessions `[first, last)` are sorted by time."""
    offsets = clicks.offsets[first : last + 1]
    at_us = clicks.at_us[offsets[0] : offsets[-1]]
    wrong = at_us[1:] < at_us[:-1]
    wrong[offsets[1:-1] - offsets[0] - 1] = False
    return not wrong.any()
