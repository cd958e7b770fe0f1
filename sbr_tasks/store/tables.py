"""Tables and arrays as files of the store."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import obstore
import pyarrow as pa
import pyarrow.parquet as pq

_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


def to_parquet(table: pa.Table, **encoding: Any) -> memoryview:
    """A table as zstd-compressed Parquet with times in microseconds; `encoding` is passed to `pyarrow.parquet.write_table`."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", coerce_timestamps="us", **encoding)
    return memoryview(sink.getvalue()).cast("B")


def from_parquet(
    data: bytes | obstore.Bytes, columns: Sequence[str] | None = None, dictionaries: Sequence[str] = ()
) -> pa.Table:
    """Reads a table from Parquet.

    `pyarrow.parquet.read_table` does the same, but its background threads occasionally abort a short process at exit.

    Args:
        data: The content of the file.
        columns: Columns to read; None reads all.
        dictionaries: Columns to return dictionary-encoded.
    """
    file = pq.ParquetFile(pa.BufferReader(pa.py_buffer(data)), read_dictionary=list(dictionaries))
    return file.read(list(columns) if columns else None)


def batches_of(data: bytes | obstore.Bytes, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
    """Some columns of a Parquet file, in batches of `rows` rows; other columns aren't decoded."""
    file = pq.ParquetFile(pa.BufferReader(pa.py_buffer(data)))
    yield from file.iter_batches(batch_size=rows, columns=list(columns), use_threads=False)


def to_npz(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Arrays as an .npz file, which `np.load` reads. Unlike `np.savez`, it has no timestamps: equal arrays give equal bytes."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        for name, array in sorted(arrays.items()):
            data = io.BytesIO()
            np.lib.format.write_array(data, np.ascontiguousarray(array), allow_pickle=False)
            file.writestr(zipfile.ZipInfo(f"{name}.npy", _ZIP_EPOCH), data.getvalue())
    return archive.getvalue()
