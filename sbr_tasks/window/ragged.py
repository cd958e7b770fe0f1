"""Runs laid end to end: what sessions of different lengths are as flat arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]


def offsets_of(lengths: npt.NDArray[np.integer[Any]]) -> Int64s:
    """Where runs of these lengths start when laid end to end, and where the last one ends; shape `(n + 1,)`."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def rows_of_runs(starts: npt.NDArray[np.integer[Any]], lengths: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.integer[Any]]:
    """The numbers of the rows of some runs, run by run; shape `(sum of lengths,)`."""
    last = int((starts + lengths).max(initial=0))
    dtype = np.int32 if last < np.iinfo(np.int32).max else np.int64
    rows = np.repeat((starts - (np.cumsum(lengths) - lengths)).astype(dtype), lengths)
    rows += np.arange(len(rows), dtype=dtype)
    return rows
