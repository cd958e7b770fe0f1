"""Reading and writing Parquet files of the store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import obstore
import pyarrow as pa
import pyarrow.parquet as pq


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
