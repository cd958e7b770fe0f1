"""Sessions and the item index, as used by training and evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sbr_tasks.clicks.columns import Columns
from sbr_tasks.window.ragged import offsets_of

Ids = npt.NDArray[Any]
"""Raw item ids: int64, or object (str)."""

UNKNOWN = -1
"""Code of an item that isn't in the item index."""


@dataclass(frozen=True)
class Sessions:
    """Sessions one after the other, ordered by the time of their first click (ties: by session id).

    Attributes:
        offsets: Shape `(n_sessions + 1,)`, int64; session i is `item_ids[offsets[i]:offsets[i + 1]]`.
        item_ids: Shape `(n_clicks,)`, raw item ids, by time within a session.
        is_target: Shape `(n_clicks,)`, bool; whether the click may be an event's target, because it is on the evaluated day.
            The first click of a session is never a target, whatever its value.
        last_click_us: Shape `(n_sessions,)`, int64; time of each session's last click, microseconds since 1970. None if
            times are unknown.
    """

    offsets: npt.NDArray[np.int64]
    item_ids: Ids
    is_target: npt.NDArray[np.bool_]
    last_click_us: npt.NDArray[np.int64] | None = None

    @property
    def n_sessions(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_clicks(self) -> int:
        return len(self.item_ids)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Clicks of each session, shape `(n_sessions,)`."""
        return np.diff(self.offsets)

    def where(self, keep: npt.NDArray[np.bool_]) -> Sessions:
        """The sessions where `keep`, of shape `(n_sessions,)`, is True, in the same order."""
        of_click = np.repeat(keep, self.lengths)
        ended_us = None if self.last_click_us is None else self.last_click_us[keep]
        return Sessions(offsets_of(self.lengths[keep]), self.item_ids[of_click], self.is_target[of_click], ended_us)


class ItemIndex:
    """The items that a model knows, in a fixed order, with their number of clicks in training (support).

    Example:
        >>> index = ItemIndex.of_clicks(np.array([7, 5, 7]))
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

    @classmethod
    def of_clicks(cls, item_ids: Ids) -> ItemIndex:
        """The index of the items of some clicks, most clicked first (ties: by id)."""
        ids, support = np.unique(item_ids, return_counts=True)
        order = np.argsort(-support, kind="stable")
        return cls(ids[order], support[order])

    def __len__(self) -> int:
        return len(self.ids)

    def encode(self, item_ids: Ids) -> npt.NDArray[np.int32]:
        """The code of each id, int32, in the shape of `item_ids`; `UNKNOWN` for ids that aren't in the index.

        Ids of the other type are looked up as text: the number 7 is the string "7", but not "007".
        """
        import pandas as pd

        if _is_text(item_ids) == _is_text(self.ids):
            codes: npt.NDArray[np.int64] = self._lookup.get_indexer(pd.Index(item_ids))
        else:
            codes = pd.Index(_as_text(self.ids)).get_indexer(pd.Index(_as_text(item_ids)))
        return codes.astype(np.int32)

    def decode(self, indices: npt.NDArray[np.int32]) -> Ids:
        """The raw ids of codes, none of which may be `UNKNOWN`, in the shape of `indices`."""
        return np.asarray(self.ids[indices])


def _is_text(ids: Ids) -> bool:
    return ids.dtype.kind in "OU"


def _as_text(ids: Ids) -> Ids:
    return np.array([str(one) for one in ids.tolist()], dtype=object)


def no_sessions(like: Sessions) -> Sessions:
    """Empty `Sessions` with the id type of `like`."""
    return Sessions(np.zeros(1, np.int64), like.item_ids[:0], like.is_target[:0])


def to_sessions(clicks: pa.Table, target_interval: tuple[int, int] | None = None) -> Sessions:
    """Converts clicks to `Sessions`.

    Args:
        clicks: A table with `session_id`, `item_id` and `clicked_at`, in the order of `Sessions`.
        target_interval: Half-open interval in microseconds since 1970 of the clicks that may be targets. None: all may.
    """
    codes = clicks.column(Columns.SESSION).combine_chunks().dictionary_encode().indices.to_numpy()
    starts = np.flatnonzero(np.diff(codes)) + 1 if len(codes) else np.empty(0, np.int64)
    offsets = (np.concatenate([[0], starts, [len(codes)]]) if len(codes) else np.zeros(1)).astype(np.int64)
    at_us = clicks.column(Columns.TIME).cast(pa.int64()).to_numpy()
    start, end = target_interval or (np.iinfo(np.int64).min, np.iinfo(np.int64).max)
    is_target = (at_us >= start) & (at_us < end)
    return Sessions(offsets, plain_ids(clicks.column(Columns.ITEM)), is_target, at_us[offsets[1:] - 1])


def plain_ids(ids: pa.ChunkedArray) -> Ids:
    """Ids as int64, or as Python strings in an object array."""
    if pa.types.is_integer(ids.type):
        numbers: Ids = ids.to_numpy()
        return numbers
    return np.array(ids.to_pylist(), dtype=object)
