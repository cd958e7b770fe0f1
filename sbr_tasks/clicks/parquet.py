"""Reads clicks from a Parquet file, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sbr_tasks.clicks.layouts import mapped_layout
from sbr_tasks.clicks.lines import Parsed, is_utf8, one_line, shown
from sbr_tasks.clicks.sources import SourceFile, open_file
from sbr_tasks.clicks.values import is_scalar, one_chunk
from sbr_tasks.errors import SourceError
from sbr_tasks.settings import SourceSettings


class ParquetSource:
    """A Parquet file of clicks.

    Attributes:
        layout: The columns to read.
        n_rows: Number of rows.
    """

    def __init__(self, file: SourceFile, source: SourceSettings) -> None:
        """
        Raises:
            SourceError: The file isn't Parquet, or a column is missing or ambiguous.
        """
        try:
            # INT96 is read as microseconds: as nanoseconds, times after 2262 would wrap around.
            self._parquet = pq.ParquetFile(open_file(file), coerce_int96_timestamp_unit="us")
        except pa.ArrowInvalid as error:
            raise SourceError(f"Expected a Parquet file in {file}: {one_line(error)}. Check that it is complete.") from error
        names = tuple(self._parquet.schema_arrow.names)
        self.layout = mapped_layout(names, source, file, "Parquet columns", "")
        self._int96 = {
            column.name
            for column in (self._parquet.schema.column(i) for i in range(len(self._parquet.schema)))
            if column.physical_type == "INT96"
        }
        for name in self.layout.needed:
            kind = self._parquet.schema_arrow.field(name).type
            if not is_scalar(kind):
                raise SourceError(f"Expected plain values in the column {name!r} of {file}, found {kind}.")
        self.n_rows: int = self._parquet.metadata.num_rows
        ends = np.cumsum([self._parquet.metadata.row_group(i).num_rows for i in range(self._parquet.metadata.num_row_groups)])
        self._group_ends = ends.astype(np.int64)

    def batches(self) -> Iterator[Parsed]:
        """The needed columns, in batches of some thousand rows."""
        for batch in self._parquet.iter_batches(columns=list(self.layout.needed)):
            columns: dict[str, pa.Array] = {}
            faults: dict[int, str] = {}
            for name in self.layout.needed:
                columns[name], not_utf8 = _plain(batch.column(name))
                faults = {row: f"column {name!r}: expected UTF-8 text, found {shown(text)}" for row, text in not_utf8} | faults
                if name in self._int96 and pa.types.is_timestamp(columns[name].type):
                    columns[name] = columns[name].cast(pa.timestamp("us", tz="UTC"))
            if not faults:
                yield Parsed(columns, None)
                continue
            kept = np.setdiff1d(np.arange(len(batch)), list(faults))
            yield Parsed({name: column.take(pa.array(kept)) for name, column in columns.items()}, kept, faults)

    def row_group(self, row: int) -> int:
        """The row group of a row, both from 0."""
        return int(np.searchsorted(self._group_ends, row, side="right"))


def count_rows(file: SourceFile) -> int:
    """The number of rows of a Parquet file, from its footer."""
    with open_file(file) as stream:
        return int(pq.ParquetFile(stream).metadata.num_rows)


def _plain(column: pa.Array) -> tuple[pa.Array, list[tuple[int, bytes]]]:
    """A column as plain values with UTF-8 texts; and the rows and bytes of texts that aren't UTF-8."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    is_bytes = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    if pa.types.is_fixed_size_binary(kind):
        column, is_bytes = column.cast(pa.binary()), True
    if not is_text and not is_bytes:
        return one_chunk(column), []
    raw = column.cast(pa.binary())
    try:
        return raw.cast(pa.string()), []
    except pa.ArrowInvalid:
        values = raw.to_pylist()
    wrong = [(i, value) for i, value in enumerate(values) if value is not None and not is_utf8(value)]
    texts = [None if value is None else value.decode("utf-8", "replace") for value in values]
    return pa.array(texts, pa.string()), wrong
