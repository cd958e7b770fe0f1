"""Runs of different lengths, such as sessions, in flat arrays."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]

BLOCK = 1 << 18
"""Rows processed at a time, few enough to stay in the cache."""


def offsets_of(lengths: npt.NDArray[np.integer[Any] | np.bool_]) -> Int64s:
    """Start of each run when runs of these lengths are concatenated, and the end of the last one; shape `(n + 1,)`.

    Example:
        >>> offsets_of(np.array([2, 0, 3]))
        array([0, 2, 2, 5])
    """
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def rows_of_runs(starts: npt.NDArray[np.integer[Any]], lengths: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.integer[Any]]:
    """The rows `[starts[i], starts[i] + lengths[i])` of all runs i, concatenated; shape `(sum of lengths,)`."""
    last = int((starts + lengths).max(initial=0))
    dtype = np.int32 if last < np.iinfo(np.int32).max else np.int64
    rows = np.repeat((starts - (np.cumsum(lengths) - lengths)).astype(dtype), lengths)
    rows += np.arange(len(rows), dtype=dtype)
    return rows


def blocks_of(offsets: Int64s) -> Iterator[tuple[int, int]]:
    """Half-open ranges of runs with about `BLOCK` rows each."""
    cuts = np.unique(np.searchsorted(offsets, np.arange(0, offsets[-1], BLOCK), side="right") - 1)
    return pairwise([*cuts.tolist(), len(offsets) - 1])
