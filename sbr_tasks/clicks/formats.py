"""Reads clicks in all formats, block by block, into tables with the same columns.

Arrow parses the lines of a block together; then ids and times are checked column by column. An invalid line is rejected, and
reported with the column, what was expected and what was found. Whether it is rejected depends on that line alone.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sbr_tasks.clicks.columns import Columns
from sbr_tasks.clicks.layouts import Layout, find_layout, layout_of, other_delimiter
from sbr_tasks.clicks.lines import CsvParser, JsonParser, Lines, Parsed, count_lines, one_line
from sbr_tasks.clicks.parquet import ParquetSource, count_rows
from sbr_tasks.clicks.rejects import Reject
from sbr_tasks.clicks.sources import SourceFile, open_file, size_of
from sbr_tasks.clicks.values import Limits, Reasons, Values, as_texts, to_values
from sbr_tasks.errors import SbrError, SourceError
from sbr_tasks.settings import SourceSettings

BLOCK_BYTES = 16 << 20
_MAX_LINE_BYTES = 16 << 20
_LINES_TO_GUESS = 20
"""Lines that are tried in other formats, if a file doesn't fit its own."""

_MIN_LINE_BYTES = 8
"""The shortest line of a click: two ids, a time and separators."""
_MAX_GZIP_RATIO = 1_032
"""Maximum number of bytes that one byte of gzip unpacks to."""

_PACKED = {
    b"\x1f\x8b": "is a gzip file; give it a name that ends with .gz",
    b"PK\x03\x04": "is a zip archive; unpack it, or pack it with gzip",
    b"BZh": "is a bzip2 file; unpack it, or pack it with gzip",
    b"\xfd7zXZ": "is an xz file; unpack it, or pack it with gzip",
    b"\x28\xb5\x2f\xfd": "is a Zstandard file; unpack it, or pack it with gzip",
    b"PAR1": "is a Parquet file; read it as such (source.format or --format parquet)",
    b"\xff\xfe": "is UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "is UTF-16 text; save it as UTF-8",
}
"""What a file that isn't UTF-8 text is, by its first bytes."""


def click_schema(id_type: str) -> pa.Schema:
    """The schema of clicks: session_id, item_id (int64 or string), clicked_at (us, UTC), category (string)."""
    ids = pa.int64() if id_type == "integer" else pa.string()
    return pa.schema(
        [
            (Columns.SESSION, ids),
            (Columns.ITEM, ids),
            (Columns.TIME, pa.timestamp("us", tz="UTC")),
            (Columns.CATEGORY, pa.string()),
        ]
    )


def is_click_schema(schema: pa.Schema) -> bool:
    """Whether a schema is that of clicks, with ids of either type."""
    return schema.remove_metadata() in (click_schema("integer"), click_schema("string"))


@dataclass(frozen=True)
class Block:
    """A parsed block of a file.

    Attributes:
        table: Its clicks, in the order of the file.
        bytes_read: Bytes of the file read so far.
        lines: Number of lines, without headers and blank lines: `len(table) + filtered + len(rejects)`. A JSON line with a list
            of clicks counts once for each of them.
        rejects: The rejected lines.
        filtered: Number of lines that `source.where` leaves out.
        max_lines_left: Upper bound of the lines that follow in the file.
    """

    table: pa.Table
    bytes_read: int
    lines: int
    rejects: tuple[Reject, ...] = ()
    filtered: int = 0
    max_lines_left: int = 0


def read_blocks(file: SourceFile, source: SourceSettings, now: datetime | None = None) -> Iterator[Block]:
    """Parses a file block by block, in the order of the file.

    If `source.session_gap` is set, the column session_id has the user; `sbr_tasks.clicks.sessions` cuts sessions later.

    Args:
        file: An existing file.
        source: How its lines are laid out.
        now: The current time: clicks more than a day later, or before `source.earliest`, are rejected. None: any time from
            1970 to 2199 is valid, as in the files of experiments.

    Raises:
        SourceError: The file can't be read, is empty or damaged, or has another layout, so that no line parses.
    """
    limits = Limits.between(source.earliest, now) if now else Limits.any_time()
    read = _read_parquet if source.line_format == "parquet" else _read_lines
    with _readable(file):
        yield from read(file, source, limits)


@contextmanager
def _readable(file: SourceFile) -> Iterator[None]:
    """Turns any error of zlib, Arrow or Python on a damaged file into a `SourceError`."""
    try:
        yield
    except (SbrError, MemoryError):
        raise
    except FileNotFoundError:
        raise SourceError(f"Expected clicks in {file}, but there is no such file. Check the path.") from None
    except Exception as error:
        raise SourceError(
            f"{file} can't be read: {one_line(error)}. Check that the file is complete and may be read."
        ) from error


def max_lines_after(files: Sequence[SourceFile], source: SourceSettings) -> Sequence[int]:
    """For each file an upper bound of the lines of all that follow it; of Parquet files, their number of rows."""
    bounds = [_max_lines(file, source) for file in files[1:]]
    return [*accumulate(reversed(bounds), initial=0)][::-1]


def _max_lines(file: SourceFile, source: SourceSettings) -> int:
    if source.line_format == "parquet":
        with _readable(file):
            return count_rows(file)
    return size_of(file) * (_MAX_GZIP_RATIO if file.suffix == ".gz" else 1) // _MIN_LINE_BYTES


def _read_lines(file: SourceFile, source: SourceSettings, limits: Limits) -> Iterator[Block]:
    reader: _LineReader | None = None
    for data, first_line_number, bytes_read in _line_blocks(file):
        body, number = data, first_line_number
        if reader is None:
            body = data.lstrip(b"\r\n")  # blank lines may come anywhere, also before a header
            if not body.strip():
                continue
            number += data.count(b"\n", 0, len(data) - len(body))
            head = body.split(b"\n", _LINES_TO_GUESS)[:_LINES_TO_GUESS]
            try:
                layout = find_layout(body, source, file)
            except SourceError as error:
                raise SourceError(f"{error}{_other_format(head, source, file)}") from None
            reader = _LineReader(file, source, layout, limits, head)
            if layout.has_header:
                body, number = body.partition(b"\n")[2], number + 1
        if body and not body.isspace():
            yield reader.read(body, number, bytes_read)
    if reader is None:
        raise SourceError(f"Expected clicks in {file}, found an empty file. Check that its upload is complete.")


class _LineReader:
    """Turns blocks of one file's lines into clicks."""

    def __init__(self, file: SourceFile, source: SourceSettings, layout: Layout, limits: Limits, head: list[bytes]) -> None:
        self._file = file
        self._source = source
        self._head = head
        self._layout = layout
        self._click = _ClickMaker(layout, limits)
        self._parser = CsvParser(layout) if layout.delimiter else JsonParser(layout)
        self._is_first = True
        self._max_unpacked = _MAX_GZIP_RATIO if file.suffix == ".gz" else 1

    def read(self, data: bytes, first_line_number: int, bytes_read: int) -> Block:
        """The clicks of some whole lines.

        Raises:
            SourceError: These are the first lines, there are several, and all of them are invalid.
        """
        made = self._click.make(self._parser.parse(data))
        faults = made.faults
        if self._is_first and not len(made.table) and not made.filtered and len(made.faults) > 1:
            self._refuse(first_line_number + min(faults), faults[min(faults)], len(faults))
        self._is_first = False
        rejects: tuple[Reject, ...] = ()
        if faults:
            name, numbers = str(self._file), sorted(faults)
            texts = Lines(data).pick(np.array(numbers, np.int64))
            rejects = tuple(
                Reject(name, first_line_number + i, faults[i], text.decode("utf-8", "replace"))
                for i, text in zip(numbers, texts, strict=True)
            )
        n_lines = len(made.table) + made.filtered + len(rejects)
        remaining = (size_of(self._file) - bytes_read) * self._max_unpacked // _MIN_LINE_BYTES
        return Block(made.table, bytes_read, n_lines, rejects, made.filtered, max(remaining, 0))

    def _refuse(self, number: int, fault: str, n_lines: int) -> None:
        raise SourceError(
            f"None of the first {n_lines:,} lines of {self._file} can be read as {self._source.format}. "
            f"Line {number}: {fault}. Check the settings of the source, such as its format (source.format or --format)."
            + (
                _other_format(self._head, self._source, self._file)
                or _other_separator(self._head[self._layout.has_header], self._layout)
            )
        )


@dataclass(frozen=True)
class _Made:
    """Clicks of a block, the number that `source.where` left out, and the faults of lines, by their number in the block."""

    table: pa.Table
    filtered: int
    faults: dict[int, str]


class _ClickMaker:
    """Converts columns of raw values to clicks."""

    def __init__(self, layout: Layout, limits: Limits, *, allow_null: bool = False) -> None:
        self._layout = layout
        self._schema = click_schema(layout.id_type)
        self._limits = limits
        self._reasons = Reasons(layout, limits)
        self._allow_null = allow_null

    def make(self, parsed: Parsed) -> _Made:
        """The valid clicks that `source.where` selects, in order.

        Raises:
            SourceError: A column has the wrong type for its values.
        """
        parsed, filtered = self._filter(parsed)
        self._reasons.count(len(parsed.columns[self._layout.item_id]))
        values = to_values(parsed.columns, self._layout, self._schema, self._limits, allow_null=self._allow_null)
        if not values.is_bad.any():
            return _Made(values.table, filtered, parsed.faults)
        return self._leave_out(parsed, values, filtered)

    def _filter(self, parsed: Parsed) -> tuple[Parsed, int]:
        if not self._layout.where:
            return parsed, 0
        keep = np.ones(len(parsed.columns[self._layout.item_id]), np.bool_)
        for column, is_equal, value in self._layout.where:
            is_same = pc.equal(as_texts(parsed.columns[column]), value).to_numpy(zero_copy_only=False)
            keep &= is_same == is_equal
        rows = np.flatnonzero(keep)
        columns = {name: column.take(pa.array(rows)) for name, column in parsed.columns.items()}
        return Parsed(columns, parsed.lines_of(rows), parsed.faults), len(keep) - len(rows)

    def _leave_out(self, parsed: Parsed, values: Values, filtered: int) -> _Made:
        rows = np.flatnonzero(values.is_bad)
        faults = dict(parsed.faults)
        for line, reason in zip(
            parsed.lines_of(rows).tolist(), self._reasons.of_rows(values, parsed.columns, rows), strict=True
        ):
            faults.setdefault(line, reason)
        keep = ~values.is_bad
        if self._layout.list_key is not None and parsed.line_of is not None:  # a line is taken as a whole or not at all
            keep &= ~np.isin(parsed.line_of, parsed.line_of[rows])
        return _Made(values.table.filter(pa.array(keep)), filtered, faults)


def _line_blocks(file: SourceFile) -> Iterator[tuple[bytes, int, int]]:
    """Yields whole lines as (bytes, number of the first line, bytes of the file read so far)."""
    with open_file(file) as raw, _unpacked(raw, file) as stream:
        line = 1
        while chunk := stream.read(BLOCK_BYTES):
            if not chunk.endswith(b"\n"):
                chunk += _end_of_line(stream, file)
            if line == 1:
                _require_text(chunk, file)
            yield chunk.removeprefix(b"\xef\xbb\xbf") if line == 1 else chunk, line, raw.tell()
            line += count_lines(chunk)


def _end_of_line(stream: IO[bytes], file: SourceFile) -> bytes:
    rest = stream.readline(_MAX_LINE_BYTES)
    if len(rest) == _MAX_LINE_BYTES and not rest.endswith(b"\n"):
        raise SourceError(f"Expected lines of text in {file}, found one of more than {_MAX_LINE_BYTES >> 20} MiB.")
    return rest


def _require_text(start: bytes, file: SourceFile) -> None:
    is_wide = b"\0\0\0" in (start[1:6:2], start[:6:2])
    for first_bytes, what in _PACKED.items():
        if start.startswith(first_bytes) or (is_wide and first_bytes == b"\xff\xfe"):
            raise SourceError(f"Expected lines of UTF-8 text in {file}, but it {what}.")
    if b"\n" not in start and b"\r" in start.rstrip(b"\r"):
        raise SourceError(
            f"Expected lines that end with a line feed in {file}, found carriage returns alone, as old Macs wrote them. "
            "Convert the file, for example with tr '\\r' '\\n'."
        )


def _other_format(head: list[bytes], source: SourceSettings, file: SourceFile) -> str:
    """A sentence on the format that these first lines seem to have; empty if it is the one set, or unknown."""
    limits = Limits.any_time()
    for name in ("yoochoose", "gru4rec", "movielens", "csv", "jsonl"):
        with suppress(SourceError, UnicodeDecodeError):
            layout = layout_of(head[0].decode().rstrip("\r"), source.model_copy(update={"format": name}), file)
            data = b"\n".join(line for line in head[layout.has_header :] if line.strip()) + b"\n"
            parser = CsvParser(layout) if layout.delimiter else JsonParser(layout)
            if layout.has_header or not _ClickMaker(layout, limits).make(parser.parse(data)).faults:
                return "" if name == source.line_format else f" It looks like {name}: try --format {name}."
    return ""


def _other_separator(line: bytes, layout: Layout) -> str:
    """A sentence on the probable delimiter of a line without the one of its layout; empty if unknown."""
    other = other_delimiter(line.decode("utf-8", "replace"), layout.delimiter) if layout.delimiter else None
    if other is None:
        return ""
    return (
        f" Its lines seem to be separated by '{other}', not by {layout.delimiter!r}: replace it, or add a header and read the "
        f"file as csv with source.delimiter={other}."
    )


def _unpacked(raw: IO[bytes], file: SourceFile) -> AbstractContextManager[IO[bytes]]:
    return gzip.GzipFile(fileobj=raw) if file.suffix == ".gz" else nullcontext(raw)  # type: ignore[return-value]


def _read_parquet(file: SourceFile, source: SourceSettings, limits: Limits) -> Iterator[Block]:
    """Parses a Parquet file; null and negative ids pass, so that the validation of their day shows them.

    If users' clicks are cut into sessions, such rows are rejected, because these users can't have session ids.
    """
    parquet = ParquetSource(file, source)
    maker = _ClickMaker(parquet.layout, limits, allow_null=source.session_gap is None)
    size, rows_read = size_of(file), 0
    for parsed in parquet.batches():
        try:
            made = maker.make(parsed)
        except SourceError as error:
            raise SourceError(f"{file}, row group {parquet.row_group(rows_read)}: {error}.") from None
        n_rows = len(made.table) + made.filtered + len(made.faults)
        rejects = tuple(_reject_row(file, rows_read + i, parquet.row_group, fault) for i, fault in sorted(made.faults.items()))
        rows_read += n_rows
        bytes_read = int(size * rows_read / max(parquet.n_rows, 1))
        yield Block(made.table, bytes_read, n_rows, rejects, made.filtered, parquet.n_rows - rows_read)


def _reject_row(file: SourceFile, row: int, row_group: Callable[[int], int], fault: str) -> Reject:
    return Reject(str(file), row + 1, fault, "", row_group(row))
