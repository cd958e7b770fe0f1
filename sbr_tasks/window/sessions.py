"""Sessions of item codes, and the item index, as used by window building, training and evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sbr_tasks.clicks.columns import Columns
from sbr_tasks.window.ragged import Int64s, blocks_of, offsets_of, rows_of_runs

Ids = npt.NDArray[Any]
"""Raw item ids: int64, or object (str)."""

Int32s = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

UNKNOWN = -1
"""Code of an item that isn't in the item index."""


class Catalog:
    """The distinct items of some sessions; an item's code is its position.

    Attributes:
        array: The raw ids.
    """

    def __init__(self, array: pa.Array) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    @cached_property
    def ids(self) -> Ids:
        """The raw ids, shape `(n_items,)`: int64, or Python strings in an object array."""
        if pa.types.is_integer(self.array.type):
            numbers: Ids = self.array.to_numpy()
            return numbers
        return np.array(self.array.to_pylist(), dtype=object)


@dataclass(frozen=True)
class Sessions:
    """Sessions one after the other; within a session, clicks by time (ties: in the order of the source).

    The sessions of a window's parts are ordered by the time of their first click (ties: by session id).

    Attributes:
        offsets: Shape `(n_sessions + 1,)`, int64; session i is `items[offsets[i]:offsets[i + 1]]`.
        items: Shape `(n_clicks,)`, int32; the code of each click's item in `catalog`.
        at_us: Shape `(n_clicks,)`, int64; microseconds since 1970, UTC.
        catalog: The items; some may have no clicks. Parts of a window share it.
        is_target: Shape `(n_clicks,)`, bool; whether the click may be an event's target, because it is on the evaluated day.
            The first click of a session is never a target, whatever its value. None: each click may be one.
        session_ids: Shape `(n_sessions,)`; the id of each session. None once a window is built.
    """

    offsets: Int64s
    items: Int32s
    at_us: Int64s
    catalog: Catalog
    is_target: Bools | None = None
    session_ids: pa.Array | None = None

    @classmethod
    def of_ids(cls, offsets: Int64s, item_ids: Ids, *, at_us: Int64s | None = None, is_target: Bools | None = None) -> Sessions:
        """Sessions of raw item ids, shape `(n_clicks,)`; without times, all clicks are at 0."""
        import pandas as pd

        codes, ids = pd.factorize(item_ids)
        times = np.zeros(len(codes), np.int64) if at_us is None else at_us
        return cls(offsets, codes.astype(np.int32), times, Catalog(pa.array(ids)), is_target)

    @property
    def n_sessions(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_clicks(self) -> int:
        return len(self.items)

    @property
    def lengths(self) -> Int64s:
        """Clicks of each session, shape `(n_sessions,)`."""
        return np.diff(self.offsets)

    @property
    def support(self) -> Int64s:
        """Clicks of each item of the catalog, shape `(n_items,)`."""
        return np.bincount(self.items, minlength=len(self.catalog))

    @property
    def last_click_us(self) -> Int64s:
        """The time of each session's last click, shape `(n_sessions,)`; 0 for a session without clicks."""
        times, ends = np.zeros(self.n_sessions, np.int64), self.offsets[1:]
        is_clicked = ends > self.offsets[:-1]
        times[is_clicked] = self.at_us[ends[is_clicked] - 1]
        return times

    @property
    def item_ids(self) -> Ids:
        """The raw id of each click's item, shape `(n_clicks,)`, for what leaves the program; models work with codes."""
        return self.catalog.ids[self.items]

    @property
    def span_us(self) -> tuple[int, int] | None:
        """The times of the first and the last click, microseconds since 1970; None without clicks."""
        return (int(self.at_us.min()), int(self.at_us.max())) if self.n_clicks else None

    def take(self, which: npt.NDArray[np.integer[Any]], lengths: Int64s | None = None) -> Sessions:
        """The sessions at the positions `which`, in that order; of session `which[i]` only the first `lengths[i]` clicks."""
        starts = self.offsets[which]
        lengths = self.lengths[which] if lengths is None else lengths
        offsets = offsets_of(lengths)
        n_clicks = int(offsets[-1])
        items, at_us = np.empty(n_clicks, np.int32), np.empty(n_clicks, np.int64)
        is_target = None if self.is_target is None else np.empty(n_clicks, bool)
        for first, last in blocks_of(offsets):
            rows = rows_of_runs(starts[first:last], lengths[first:last])
            block = slice(offsets[first], offsets[last])
            items[block], at_us[block] = self.items[rows], self.at_us[rows]
            if self.is_target is not None and is_target is not None:
                is_target[block] = self.is_target[rows]
        session_ids = None if self.session_ids is None else self.session_ids.take(pa.array(which))
        return Sessions(offsets, items, at_us, self.catalog, is_target, session_ids)

    def where(self, keep: Bools) -> Sessions:
        """The sessions where `keep`, of shape `(n_sessions,)`, is True, in the same order."""
        return self.take(np.flatnonzero(keep))

    def where_clicks(self, keep: Bools) -> Sessions:
        """The clicks where `keep`, of shape `(n_clicks,)`, is True; sessions without any of them remain, empty."""
        offsets = offsets_of(keep)[self.offsets]
        is_target = None if self.is_target is None else self.is_target[keep]
        return replace(self, offsets=offsets, items=self.items[keep], at_us=self.at_us[keep], is_target=is_target)

    def tables(self, rows: int) -> Iterator[pa.Table]:
        """The clicks in order, in tables of `rows` clicks; the last one may be shorter."""
        return (self.table(start, min(start + rows, self.n_clicks)) for start in range(0, self.n_clicks, rows))

    @property
    def schema(self) -> pa.Schema:
        """The schema of `tables`."""
        return self.table(0, 0).schema

    def table(self, start: int, stop: int) -> pa.Table:
        """The clicks `[start, stop)`: `session_id`, `item_code`, `clicked_at`."""
        if self.session_ids is None:
            raise ValueError("expected sessions with ids")
        first, last = np.searchsorted(self.offsets, [start, stop], side="right") - 1
        inside = np.clip(self.offsets[first : last + 2], start, stop)
        session = np.repeat(np.arange(first, first + len(inside) - 1, dtype=np.int32), np.diff(inside))
        return pa.table(
            {
                Columns.SESSION: self.session_ids.take(pa.array(session)),
                Columns.CODE: pa.array(self.items[start:stop]),
                Columns.TIME: pa.array(self.at_us[start:stop]).cast(pa.timestamp("us", tz="UTC")),
            }
        )


class ItemIndex:
    """The items that a model knows, in a fixed order, with their number of clicks in training (support).

    Example:
        >>> index = ItemIndex(np.array([7, 5]), np.array([2, 1]))
        >>> index.encode(np.array([5, 7, 9]))
        array([ 1,  0, -1], dtype=int32)
    """

    def __init__(self, ids: Ids, support: npt.NDArray[np.int64]) -> None:
        """
        Args:
            ids: Shape `(n_items,)`, distinct raw ids.
            support: Shape `(n_items,)`, clicks of each in the training sessions.
        """
        import pandas as pd

        self.ids = ids
        self.support = support
        self._lookup = pd.Index(ids)
        self._codes_of_catalog = WeakKeyDictionary[Catalog, Int32s]()

    @classmethod
    def of_sessions(cls, sessions: Sessions) -> ItemIndex:
        """The index of the items with clicks in some sessions, most clicked first (ties: by id)."""
        ids, support = sessions.catalog.ids, sessions.support
        by_id = np.argsort(ids)
        order = by_id[np.argsort(-support[by_id], kind="stable")][: np.count_nonzero(support)]
        return cls(ids[order], support[order])

    def __len__(self) -> int:
        return len(self.ids)

    def codes_of(self, sessions: Sessions) -> Int32s:
        """The code of each click's item in this index, shape `(n_clicks,)`; `UNKNOWN` for items that aren't in it.

        The ids of a catalog are looked up once, whatever the number of clicks and of sessions that share it.
        """
        codes = self._codes_of_catalog.get(sessions.catalog)
        if codes is None:
            codes = self._codes_of_catalog[sessions.catalog] = self.encode(sessions.catalog.ids)
        return codes[sessions.items]

    def encode(self, item_ids: Ids) -> Int32s:
        """The code of each id, int32, in the shape of `item_ids`; `UNKNOWN` for ids that aren't in the index.

        Ids of the other type are looked up as text: the number 7 is the string "7", but not "007".
        """
        import pandas as pd

        if _is_text(item_ids) != _is_text(self.ids):
            item_ids = _as_text(item_ids) if _is_text(self.ids) else _as_integers(item_ids)
        codes: npt.NDArray[np.int64] = self._lookup.get_indexer(pd.Index(item_ids))
        return codes.astype(np.int32)

    def decode(self, indices: Int32s) -> Ids:
        """The raw ids of codes, none of which may be `UNKNOWN`, in the shape of `indices`."""
        return np.asarray(self.ids[indices])


def _is_text(ids: Ids) -> bool:
    return ids.dtype.kind in "OU"


def _as_text(ids: Ids) -> Ids:
    return np.array([str(one) for one in ids.tolist()], dtype=object)


def _as_integers(ids: Ids) -> Ids:
    """The integers that texts are written as; -1, which is no id, for other texts."""
    is_integer = [text.isascii() and text.isdecimal() and str(int(text[:20])) == text for text in ids.tolist()]
    integers = (int(text) if is_one else -1 for text, is_one in zip(ids.tolist(), is_integer, strict=True))
    return np.array([one if one < 2**63 else -1 for one in integers], np.int64)


def no_sessions(like: Sessions) -> Sessions:
    """Empty `Sessions` with the catalog of `like`."""
    return like.take(np.empty(0, np.int64))


def to_sessions(clicks: pa.Table, catalog: Catalog, target_interval: tuple[int, int] | None = None) -> Sessions:
    """Converts the rows of a window's part to `Sessions`.

    Args:
        clicks: A table with `session_id`, `item_code` and `clicked_at`, one session after the other.
        catalog: The items of the codes.
        target_interval: Half-open interval in microseconds since 1970 of the clicks that may be targets. None: all may.
    """
    _, lengths = runs_of(one_array(clicks.column(Columns.SESSION)))
    at_us = clicks.column(Columns.TIME).cast(pa.int64()).to_numpy()
    is_target = target_interval and (at_us >= target_interval[0]) & (at_us < target_interval[1])
    return Sessions(offsets_of(lengths), clicks.column(Columns.CODE).to_numpy(), at_us, catalog, is_target)


def runs_of(ids: pa.Array) -> tuple[pa.Array, Int64s]:
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


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """The chunks of a column as one array; dictionaries are unified."""
    if pa.types.is_dictionary(column.type):
        column = column.unify_dictionaries()
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
