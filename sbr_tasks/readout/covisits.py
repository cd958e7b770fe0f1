"""Co-visits: which items are clicked in the same sessions, counted from the sessions that a model is trained on."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sbr_tasks.errors import RegistryError
from sbr_tasks.evaluation.scorer import Indices
from sbr_tasks.store import to_npz
from sbr_tasks.window.sessions import ItemIndex, Sessions

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

MAX_NEIGHBOURS = 50
"""Neighbours kept of each item."""
_MAX_DISTANCE = 10
_DISTANCE_DECAY = 3.0
_AGE_DECAY_DAYS = 30.0
_SUPPORT_POWER = 0.3
_ROW_POWER = 0.5
_RECENT_USED = 8
_RECENT_DECAY = 2.0
_US_PER_DAY = 24 * 60 * 60 * 1_000_000
_PAIRS_AT_ONCE = 20_000_000
_DAMAGE = (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile)


@dataclass(frozen=True)
class CoVisits:
    """The neighbours of each item that weigh most, in decreasing order.

    Attributes:
        neighbours: Shape `(n_items, n_neighbours)`, int32; unused places hold 0.
        weights: Shape `(n_items, n_neighbours)`, float32; 0 in unused places.
    """

    neighbours: Indices
    weights: Floats

    @classmethod
    def none(cls, n_items: int) -> CoVisits:
        """Items without neighbours."""
        return cls(np.zeros((n_items, 0), np.int32), np.zeros((n_items, 0), np.float32))

    def to_bytes(self) -> bytes:
        """Serialized; equal co-visits give equal bytes."""
        return to_npz({"neighbours": self.neighbours, "weights": self.weights})

    @classmethod
    def from_bytes(cls, data: bytes) -> CoVisits:
        """Reads what `to_bytes` wrote.

        Raises:
            RegistryError: The data is damaged.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return cls(arrays["neighbours"], arrays["weights"])
        except _DAMAGE as error:
            raise RegistryError(f"The co-visits of a model are damaged ({error}); restore them or retrain.") from error

    def probabilities(self, recent: Indices) -> tuple[Indices, Floats]:
        """How likely each neighbour of a session's last items is the next click.

        p(i) is proportional to the sum of exp(-k / 2) * weight(k-th last distinct item, i) over the last 8 distinct items,
        with k = 0 for the last one.

        Args:
            recent: Shape `(n, N_RECENT)`, the last distinct items of sessions; see `recent`.

        Returns:
            Items and probabilities, of shape `(n, m)` each. An item may occur several times: its probability is the sum.
                Probabilities are 0 for sessions without a neighbour; they sum to 1 for all others.
        """
        used = recent[:, :_RECENT_USED]
        of_item = np.where(used >= 0, recent_decay(), np.float32(0))
        used = np.maximum(used, 0)
        weights = self.weights[used] * of_item[:, :, None]
        weights = weights.reshape(len(recent), used.shape[1] * self.weights.shape[1])
        total = weights.sum(axis=1, keepdims=True)
        np.divide(weights, total, out=weights, where=total > 0)
        return self.neighbours[used].reshape(weights.shape), weights


def recent_decay() -> Floats:
    """How much the k-th last distinct item of a session counts, shape `(8,)`, float32."""
    decay: Floats = np.exp(-np.arange(_RECENT_USED, dtype=np.float32) / np.float32(_RECENT_DECAY))
    return decay


def count_covisits(sessions: Sessions, index: ItemIndex) -> CoVisits:
    """Counts co-visits in sessions.

    weight(j, i) is the sum, over pairs of clicks on j and i (j != i) at most 10 clicks apart in a session, in either order, of

        exp(-(distance - 1) / 3) * exp(-age of the session in days / 30)

    divided by support(i) ** 0.3, and then by the root of the sum of the row j. Age is counted from the end of the newest
    session; it is 0 where times are unknown. Of each item, the `MAX_NEIGHBOURS` neighbours that weigh most are kept.

    Args:
        sessions: The sessions that the model is trained on. Clicks on items that aren't in the index are ignored.
        index: The items of the model.
    """
    from scipy.sparse import csr_array

    n_items = len(index)
    counts = csr_array((n_items, n_items), dtype=np.float64)
    items = index.codes_of(sessions)
    of_session = _age_weights(sessions)
    starts = np.searchsorted(sessions.offsets, np.arange(0, sessions.n_clicks, _PAIRS_AT_ONCE // _MAX_DISTANCE))
    for first, last in pairwise(np.unique([*starts, sessions.n_sessions]).tolist()):
        block = slice(sessions.offsets[first], sessions.offsets[last])
        session = np.repeat(np.arange(first, last), sessions.lengths[first:last])
        counts = counts + _pairs(items[block], session, of_session, n_items)
    counts = counts + counts.T.tocsr()
    counts.data /= np.maximum(1, index.support)[counts.indices] ** _SUPPORT_POWER
    row = np.repeat(np.arange(n_items), np.diff(counts.indptr))
    total = np.bincount(row, counts.data, n_items)
    counts.data /= total[row] ** _ROW_POWER
    return _best(counts, row)


def _age_weights(sessions: Sessions) -> Doubles:
    if sessions.last_click_us is None or not sessions.n_sessions:
        return np.ones(sessions.n_sessions)
    age_days = (sessions.last_click_us.max() - sessions.last_click_us) / _US_PER_DAY
    weights: Doubles = np.exp(-age_days / _AGE_DECAY_DAYS)
    return weights


def _pairs(items: Indices, session: npt.NDArray[np.int64], of_session: Doubles, n_items: int) -> csr_array:
    """The weighted pairs of some whole sessions, first click by second click, as a sparse matrix."""
    from scipy.sparse import coo_array

    rows, columns, weights = [], [], []
    for distance in range(1, _MAX_DISTANCE + 1):
        before, after = items[:-distance], items[distance:]
        is_pair = (session[:-distance] == session[distance:]) & (before >= 0) & (after >= 0) & (before != after)
        rows.append(before[is_pair])
        columns.append(after[is_pair])
        weights.append(of_session[session[:-distance][is_pair]] * np.exp(-(distance - 1) / _DISTANCE_DECAY))
    places = (np.concatenate(rows), np.concatenate(columns))
    return coo_array((np.concatenate(weights), places), (n_items, n_items)).tocsr()


def _best(counts: csr_array, row: npt.NDArray[np.int64]) -> CoVisits:
    """The heaviest entries of each row; of equal ones, those of the more clicked item."""
    order = np.lexsort((counts.indices, -counts.data, row))
    nth = np.arange(len(order)) - np.repeat(counts.indptr[:-1], np.diff(counts.indptr))
    keep = nth < MAX_NEIGHBOURS
    width = int(nth.max(initial=-1, where=keep)) + 1
    neighbours, weights = np.zeros((counts.shape[0], width), np.int32), np.zeros((counts.shape[0], width), np.float32)
    neighbours[row[keep], nth[keep]] = counts.indices[order[keep]]
    weights[row[keep], nth[keep]] = counts.data[order[keep]]
    return CoVisits(neighbours, weights)
