"""Encodes clicks: item ids become int32 codes of 4 bytes, whatever the type of the ids; each distinct id is held once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sbr_tasks.clicks.columns import Columns
from sbr_tasks.window.ragged import Int64s, blocks_of, offsets_of, rows_of_runs
from sbr_tasks.window.sessions import Catalog, Int32s, Sessions, one_array, runs_of


class Coder:
    """Builds `Sessions` from tables of clicks, added one at a time; only codes are kept of each.

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
        heads, lengths = runs_of(one_array(clicks.column(Columns.SESSION)))
        self._heads.append(heads)
        self._lengths.append(lengths)
        items = one_array(clicks.column(Columns.ITEM))
        if not pa.types.is_dictionary(items.type):
            items = items.dictionary_encode()
        self._items.append(items.indices.to_numpy())
        self._distinct.append(items.dictionary)
        self._at_us.append(clicks.column(Columns.TIME).cast(pa.int64()).to_numpy())

    def finish(self) -> Sessions:
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
        session_ids = heads.filter(pa.array(is_first[:-1]))
        return _in_time(Sessions(ends[is_first], items, at_us, Catalog(item_ids), session_ids=session_ids))

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


def _ascending(ids: pa.Array) -> npt.NDArray[np.integer[Any]]:
    """The stable order that sorts ids."""
    if pa.types.is_integer(ids.type):
        return np.argsort(ids.to_numpy(), kind="stable")  # timsort: fast for data that is partly sorted
    order: npt.NDArray[np.integer[Any]] = pc.array_sort_indices(ids).to_numpy().astype(np.int64)
    return order


def _in_time(clicks: Sessions) -> Sessions:
    """The same sessions with their clicks sorted by time; skips the sort if they already are."""
    at_us, items = clicks.at_us, clicks.items
    if all(_is_in_time(clicks, first, last) for first, last in blocks_of(clicks.offsets)):
        return clicks
    session = np.repeat(np.arange(clicks.n_sessions), clicks.lengths)
    order = np.lexsort((at_us, session))
    return replace(clicks, items=items[order], at_us=at_us[order])


def _is_in_time(clicks: Sessions, first: int, last: int) -> bool:
    """Whether the clicks of each of the sessions `[first, last)` are sorted by time."""
    offsets = clicks.offsets[first : last + 1]
    at_us = clicks.at_us[offsets[0] : offsets[-1]]
    wrong = at_us[1:] < at_us[:-1]
    wrong[offsets[1:-1] - offsets[0] - 1] = False
    return not wrong.any()
