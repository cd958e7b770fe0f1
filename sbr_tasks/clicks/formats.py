"""The formats that clicks arrive in, each turned into one table layout block by block.

Line formats are parsed by Arrow's CSV and JSON readers. A block that Arrow refuses, or that holds a negative id, is halved
until the lines that are wrong stand alone; they are left out and reported, with what was expected and what was found.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq

from sbr_tasks.clicks.rejects import Reject
from sbr_tasks.clicks.sources import SourceFile, open_file, size_of
from sbr_tasks.days import to_us
from sbr_tasks.errors import SourceError
from sbr_tasks.settings import SourceSettings

BLOCK_BYTES = 16 << 20
_UNITS_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000}
_UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds"}
_ISO = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:?\d\d)")
_INTEGER = re.compile(r"-?\d+")
_FIRST_US, _END_US = to_us(datetime(1970, 1, 1, tzinfo=UTC)), to_us(datetime(2200, 1, 1, tzinfo=UTC))
_RANGE = "1970 and 2200"
_LOOKED_AT = 1_000
"""Lines that are gone through one by one: those of a part that is refused, and those that may tell a file's layout."""

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
"""What a file is that begins with these bytes, and holds no lines of UTF-8."""

_LINES_TO_GUESS = 20
"""Of a file that isn't laid out as its format says, to find the format as which it is."""

_LINES_TO_JUDGE = 5_000
"""A file whose first lines, this many, are all wrong is of another format."""


def click_schema(id_type: str) -> pa.Schema:
    """Columns of clicks everywhere: session_id, item_id (int64 or string), clicked_at (us, UTC), category (string)."""
    ids = pa.int64() if id_type == "integer" else pa.string()
    return pa.schema(
        [("session_id", ids), ("item_id", ids), ("clicked_at", pa.timestamp("us", tz="UTC")), ("category", pa.string())]
    )


def is_click_schema(schema: pa.Schema) -> bool:
    """Whether these are the columns of clicks, with ids of either type."""
    return schema.remove_metadata() in (click_schema("integer"), click_schema("string"))


@dataclass(frozen=True)
class Block:
    """A part of a file that was parsed.

    Attributes:
        table: Its clicks.
        bytes_read: Bytes of the file that had been read by then.
        lines: Its lines, but for headers and blank ones.
        rejects: Those that don't parse.
    """

    table: pa.Table
    bytes_read: int
    lines: int
    rejects: tuple[Reject, ...] = ()


@dataclass(frozen=True)
class Layout:
    """How the lines of one file are laid out."""

    columns: tuple[str, ...]
    session_id: str
    item_id: str
    clicked_at: str
    category: str | None
    delimiter: str
    time_unit: str
    id_type: str
    has_header: bool
    double_colon: bool = False
    is_quoted: bool = False


def read_blocks(file: SourceFile, source: SourceSettings) -> Iterator[Block]:
    """Parses a file block by block, in the order of the file.

    For `movielens` the column session_id holds the user; sessions are cut later (`sbr_tasks.clicks.sessions`).

    Raises:
        SourceError: The file can't be read, is empty, or is laid out in another way, so that none of its lines parses.
    """
    try:
        if source.format == "parquet":
            yield from _read_parquet(file, source)
        else:
            yield from _read_lines(file, source)
    except FileNotFoundError:
        raise SourceError(f"Expected clicks in {file}, but there is no such file. Check the path.") from None
    except (OSError, EOFError) as error:
        raise SourceError(f"{file} can't be read: {error}. Check that the file is complete and may be read.") from error


def _read_lines(file: SourceFile, source: SourceSettings) -> Iterator[Block]:
    layout: Layout | None = None
    judged = _Judged(file, source)
    for data, first_line, bytes_read in _line_blocks(file):
        body, line = data, first_line
        if layout is None:
            judged.head = data.split(b"\n", _LINES_TO_GUESS)[:_LINES_TO_GUESS]
            try:
                layout = _find_layout(data, source, file)
            except SourceError as error:
                raise SourceError(f"{error}{_other_format(judged.head, source, file)}") from None
            if layout.has_header:
                body, line = data.partition(b"\n")[2], first_line + 1
        if not body or body.isspace():
            continue
        table, rejects = _parse(body, line, layout, judged)
        yield Block(table, bytes_read, len(table) + len(rejects), rejects)
    judged.close()
    if layout is None:
        raise SourceError(f"Expected clicks in {file}, found an empty file. Check that its upload is complete.")


class _Judged:
    """Tells a file with wrong lines from one of another format, of whose lines none is right."""

    def __init__(self, file: SourceFile, source: SourceSettings) -> None:
        self.file = file
        self.head: list[bytes] = []
        self._source = source
        self._first: Reject | None = None
        self._lines = 0
        self._is_judged = False

    def add(self, n_clicks: int, rejects: Sequence[Reject]) -> None:
        self._lines += n_clicks + len(rejects)
        self._is_judged = self._is_judged or n_clicks > 0
        self._first = self._first or next(iter(rejects), None)
        if self._lines >= _LINES_TO_JUDGE:
            self.close()

    def close(self) -> None:
        """Judges by the lines so far; a single wrong line is a wrong line."""
        if self._is_judged or not self._first or self._lines == 1:
            return
        raise SourceError(
            f"{self.file} isn't laid out as {self._source.format}: line {self._first.line}: {self._first.reason}, "
            f"and none of the next {self._lines - 1:,} lines is right either. Check the format (source.format or --format)."
            f"{_other_format(self.head, self._source, self.file)}"
        )


def _line_blocks(file: SourceFile) -> Iterator[tuple[bytes, int, int]]:
    """Yields whole lines as (bytes, number of the first line, bytes of the file read so far)."""
    with open_file(file) as raw, _unpacked(raw, file) as stream:
        line = 1
        while chunk := stream.read(BLOCK_BYTES):
            if not chunk.endswith(b"\n"):
                chunk += stream.readline()
            if line == 1:
                _require_text(chunk, file)
            yield chunk.removeprefix(b"\xef\xbb\xbf") if line == 1 else chunk, line, raw.tell()
            line += _count_lines(chunk)


def _require_text(start: bytes, file: SourceFile) -> None:
    for first_bytes, what in _PACKED.items():
        if start.startswith(first_bytes):
            raise SourceError(f"Expected lines of UTF-8 text in {file}, but it {what}.")


def _other_format(head: list[bytes], source: SourceSettings, file: SourceFile) -> str:
    """A sentence on the format that a file with these first lines seems to have; empty where it is the one set or none."""
    for name in ("yoochoose", "gru4rec", "movielens", "csv", "jsonl"):
        with suppress(SourceError, pa.ArrowException, UnicodeDecodeError):
            layout = _layout_of(head[0].decode().rstrip("\r"), source.model_copy(update={"format": name}), file)
            lines = [line for line in head[layout.has_header :] if line.strip()]
            if layout.has_header or _parse_all(b"\n".join(lines) + b"\n", layout):
                return "" if name == source.format else f" It looks like {name}: try --format {name}."
    return ""


def _count_lines(data: bytes) -> int:
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == ord("\n"))) + (not data.endswith(b"\n"))


def _unpacked(raw: IO[bytes], file: SourceFile) -> AbstractContextManager[IO[bytes]]:
    return gzip.GzipFile(fileobj=raw) if file.suffix == ".gz" else nullcontext(raw)  # type: ignore[return-value]


def _find_layout(data: bytes, source: SourceSettings, file: SourceFile) -> Layout:
    """The layout by the first line, or, where lines without a header are described by any of them, by one that is right."""
    first, *others = (line.decode("utf-8", "replace").rstrip("\r") for line in data.split(b"\n", _LOOKED_AT)[:_LOOKED_AT])
    try:
        return _layout_of(first, source, file)
    except SourceError:
        for line in others if source.format in ("jsonl", "movielens") else ():
            with suppress(SourceError):
                layout = _layout_of(line, source, file)
                if not layout.has_header:
                    return layout
        raise


def _layout_of(first_line: str, source: SourceSettings, file: SourceFile) -> Layout:
    build = {
        "yoochoose": _yoochoose_layout,
        "gru4rec": _gru4rec_layout,
        "movielens": _movielens_layout,
        "csv": _csv_layout,
        "jsonl": _jsonl_layout,
    }[source.format]
    return build(first_line, source, file)


def _yoochoose_layout(first_line: str, source: SourceSettings, file: SourceFile) -> Layout:
    del first_line, file
    names = ("session_id", "clicked_at", "item_id", "category")
    return Layout(names, "session_id", "item_id", "clicked_at", "category", ",", "iso", source.id_type, has_header=False)


def _gru4rec_layout(first_line: str, source: SourceSettings, file: SourceFile) -> Layout:
    names = tuple(first_line.split("\t"))
    _need_columns(("SessionId", "ItemId", "Time"), names, "a tab-separated header", file)
    return Layout(names, "SessionId", "ItemId", "Time", None, "\t", "s", source.id_type, has_header=True)


def _movielens_layout(first_line: str, source: SourceSettings, file: SourceFile) -> Layout:
    names: tuple[str, ...] = ("userId", "movieId", "rating", "timestamp")
    double_colon = "::" in first_line
    delimiter = next((d for d in ("\t", ",") if d in first_line), ":")
    has_header = first_line.startswith("userId")
    if has_header:
        _need_columns(names, tuple(first_line.split(",")), "a header", file)
        names = tuple(first_line.split(","))
    elif first_line.replace("::", ":").count(":" if double_colon else delimiter) != 3:
        raise SourceError(
            f"Expected MovieLens ratings (userId,movieId,rating,timestamp with ',', '::' or tabs) in {file}, "
            f"found the first line {first_line[:80]!r}. Check the format (source.format)."
        )
    return Layout(
        names,
        "userId",
        "movieId",
        "timestamp",
        None,
        ":" if double_colon else delimiter,
        "s",
        source.id_type,
        has_header,
        double_colon,
    )


def _csv_layout(first_line: str, source: SourceSettings, file: SourceFile) -> Layout:
    names = tuple(name.strip().strip('"') for name in first_line.split(source.delimiter))
    return _mapped_layout(names, source, file, f"a header separated by {source.delimiter!r}", source.delimiter)


def _jsonl_layout(first_line: str, source: SourceSettings, file: SourceFile) -> Layout:
    try:
        found = json.loads(first_line)
    except ValueError:
        found = None
    names = tuple(found) if isinstance(found, dict) else ()
    return _mapped_layout(names, source, file, "a JSON object per line", "")


def _mapped_layout(names: tuple[str, ...], source: SourceSettings, file: SourceFile, what: str, delimiter: str) -> Layout:
    """The layout of a file whose columns are named in the settings; `delimiter` is empty where there are no CSV lines."""
    columns = source.columns
    needed = [columns.session_id, columns.item_id, columns.clicked_at, *([columns.category] if columns.category else [])]
    _need_columns(tuple(needed), names, what, file)
    return Layout(
        names if delimiter else tuple(needed),
        columns.session_id,
        columns.item_id,
        columns.clicked_at,
        columns.category,
        delimiter,
        source.time_unit,
        source.id_type,
        has_header=bool(delimiter),
        is_quoted=True,
    )


def _need_columns(needed: tuple[str, ...], found: tuple[str, ...], what: str, file: SourceFile) -> None:
    missing = [name for name in needed if name not in found]
    if missing:
        raise SourceError(
            f"Expected {what} with {', '.join(needed)} in {file}, found {', '.join(found)[:120] or 'none'}; "
            f"missing: {', '.join(missing)}. Check the format (source.format) and the column names (source.columns)."
        )


def _parse(data: bytes, first_line: int, layout: Layout, judged: _Judged) -> tuple[pa.Table, tuple[Reject, ...]]:
    """The clicks of some lines, and the lines that are none."""
    try:
        table = _parse_all(data, layout)
    except pa.ArrowInvalid:
        lines = data.split(b"\n")
    else:
        judged.add(len(table), ())
        return table, ()
    tables = [click_schema(layout.id_type).empty_table()]
    rejects: list[Reject] = []
    parts = [(0, len(lines))]
    while parts:
        start, stop = parts.pop()
        wrong: list[Reject] = []
        try:
            found = _parse_all(b"\n".join(lines[start:stop]) + b"\n", layout)
        except pa.ArrowInvalid:
            if stop - start > _LOOKED_AT:
                middle = (start + stop) // 2
                parts += [(middle, stop), (start, middle)]
                continue
            found, wrong = _parse_apart(lines[start:stop], first_line + start, layout, judged.file)
        judged.add(len(found), wrong)
        tables.append(found)
        rejects += wrong
    return pa.concat_tables(tables), tuple(rejects)


def _parse_apart(lines: list[bytes], first_line: int, layout: Layout, file: SourceFile) -> tuple[pa.Table, list[Reject]]:
    """The clicks of a few lines of which some are wrong, and those.

    Arrow decides on each line that looks wrong alone, so that a line's fate doesn't depend on the lines beside it.
    """
    filled = [i for i, line in enumerate(lines) if line.strip()]
    suspects = [i for i in filled if _fault(lines[i], layout)]
    others = b"".join(lines[i] + b"\n" for i in sorted(set(filled) - set(suspects)))
    tables = [click_schema(layout.id_type).empty_table()]
    try:
        tables += [_parse_all(others, layout)] if others else []
    except pa.ArrowInvalid:
        suspects = filled
    rejects = []
    for i in suspects:
        try:
            tables.append(_parse_alone(lines[i], layout))
        except pa.ArrowInvalid as error:
            text = lines[i].decode("utf-8", "replace").rstrip("\r")
            fault = _fault(lines[i], layout) or f"expected a click, found {text[:80]!r} ({str(error).splitlines()[0]})"
            rejects.append(Reject(str(file), first_line + i, fault, text))
    return pa.concat_tables(tables), rejects


def _parse_alone(line: bytes, layout: Layout) -> pa.Table:
    """The clicks of one line. It is parsed twice over: a quote that isn't closed makes one row of two lines."""
    if layout.delimiter and not layout.is_quoted and len(_fields(line.decode("latin-1"), layout)) != len(layout.columns):
        raise pa.ArrowInvalid("the number of fields is wrong")
    twice = _parse_all((line + b"\n") * 2, layout)
    return twice.slice(0, len(twice) // 2)


def _parse_all(data: bytes, layout: Layout) -> pa.Table:
    """The clicks of lines that are all right.

    Raises:
        pa.ArrowInvalid: One of them isn't.
    """
    table = _canonical(_read_csv(data, layout) if layout.delimiter else _read_json(data, layout), layout)
    _require_every_line(data, len(table))
    if _has_bad_id(table):
        raise pa.ArrowInvalid("an id is negative or empty")
    return table


def _require_every_line(data: bytes, n_rows: int) -> None:
    """An unbalanced quote would make one row of many lines."""
    n_lines = _count_lines(data)
    if n_rows != n_lines:
        n_lines = sum(1 for line in data.splitlines() if line.strip())
    if n_rows != n_lines:
        raise pa.ArrowInvalid(f"{n_lines:,} lines hold {n_rows:,} clicks; is a quote not closed?")


def _read_csv(data: bytes, layout: Layout) -> pa.Table:
    if layout.double_colon:
        data = data.replace(b"::", b":")
    ids = pa.int64() if layout.id_type == "integer" else pa.string()
    times = pa.timestamp("us", tz="UTC") if layout.time_unit == "iso" else pa.string()
    types = {layout.session_id: ids, layout.item_id: ids, layout.clicked_at: times}
    if layout.category:
        types[layout.category] = pa.string()
    return pacsv.read_csv(
        pa.BufferReader(data),
        read_options=pacsv.ReadOptions(column_names=list(layout.columns), block_size=1 << 20),
        parse_options=pacsv.ParseOptions(delimiter=layout.delimiter, quote_char='"' if layout.is_quoted else False),
        convert_options=pacsv.ConvertOptions(
            column_types=types, include_columns=list(types), null_values=[], strings_can_be_null=False
        ),
    )


def _read_json(data: bytes, layout: Layout) -> pa.Table:
    ids = pa.int64() if layout.id_type == "integer" else pa.string()
    times = {"iso": pa.string(), "s": pa.float64()}.get(layout.time_unit, pa.int64())
    fields = [(layout.session_id, ids), (layout.item_id, ids), (layout.clicked_at, times)]
    if layout.category:
        fields.append((layout.category, pa.string()))
    table = pajson.read_json(
        pa.BufferReader(data),
        read_options=pajson.ReadOptions(block_size=max(len(data), 1)),
        parse_options=pajson.ParseOptions(explicit_schema=pa.schema(fields), unexpected_field_behavior="ignore"),
    )
    if any(table.column(name).null_count for name, _ in fields[:3]):
        raise pa.ArrowInvalid("a session, an item or a time is missing")
    return table


def _canonical(raw: pa.Table, layout: Layout) -> pa.Table:
    for name in (layout.session_id, layout.item_id):
        if pa.types.is_boolean(raw.column(name).type):
            raise pa.ArrowInvalid(f"{name} holds truth values, not ids")
    category = raw.column(layout.category) if layout.category else pa.nulls(len(raw), pa.string())
    columns = [
        raw.column(layout.session_id),
        raw.column(layout.item_id),
        _in_range(_times(raw.column(layout.clicked_at), layout.time_unit)),
        pc.fill_null(category, ""),
    ]
    return pa.table(columns, schema=click_schema(layout.id_type))


def _times(column: pa.ChunkedArray, unit: str) -> pa.ChunkedArray:
    """Times as microseconds UTC; numbers are rounded to the microsecond."""
    target = pa.timestamp("us", tz="UTC")
    if pa.types.is_timestamp(column.type):
        if column.type.tz is None:
            raise pa.ArrowInvalid("times carry no zone")
        return column.cast(target, safe=False)
    if unit == "iso":
        if not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
            raise pa.ArrowInvalid(f"times are of type {column.type}; if they count since 1970, set source.time_unit")
        return column.cast(target)
    if pa.types.is_integer(column.type) or unit == "us":
        return pc.multiply_checked(column.cast(pa.int64()), 1_000_000 // _UNITS_PER_SECOND[unit]).cast(target)
    seconds = column.cast(pa.float64())
    if not pc.all(pc.is_finite(seconds)).as_py():
        raise pa.ArrowInvalid("times must be finite")
    return pc.round(pc.multiply(seconds, 1_000_000 / _UNITS_PER_SECOND[unit])).cast(pa.int64()).cast(target)


def _in_range(times: pa.ChunkedArray) -> pa.ChunkedArray:
    found = pc.min_max(times.cast(pa.int64())).as_py()
    if found["min"] is not None and not _FIRST_US <= found["min"] <= found["max"] < _END_US:
        raise pa.ArrowInvalid(f"times must lie between {_RANGE}")
    return times


def _has_bad_id(table: pa.Table) -> bool:
    for name in ("session_id", "item_id"):
        column = table.column(name)
        bad = pc.less(column, 0) if pa.types.is_integer(column.type) else pc.equal(column, "")
        if pc.any(bad).as_py():
            return True
    return False


def _fault(line: bytes, layout: Layout) -> str | None:
    """What seems to be wrong with a line; None when it looks right."""
    try:
        text = line.decode().rstrip("\r")
    except UnicodeDecodeError as error:
        return f"expected UTF-8 text, found {line[:80]!r} ({error.reason} at byte {error.start})"
    return _csv_fault(text, layout) if layout.delimiter else _json_fault(text, layout)


def _fields(line: str, layout: Layout) -> list[str]:
    return (line.replace("::", ":") if layout.double_colon else line).split(layout.delimiter)


def _csv_fault(line: str, layout: Layout) -> str | None:
    fields = _fields(line, layout)
    if len(fields) != len(layout.columns):
        names = layout.delimiter.join(layout.columns)
        return f"expected {len(layout.columns)} fields ({names!r}), found {len(fields)}: {line[:80]!r}"
    if layout.is_quoted and line.count('"') % 2:
        return f"expected each quote to be closed, found {line[:80]!r}"
    by_name = {name: field.strip().strip('"') for name, field in zip(layout.columns, fields, strict=True)}
    return _click_fault(by_name[layout.session_id], by_name[layout.item_id], by_name[layout.clicked_at], layout)


def _json_fault(line: str, layout: Layout) -> str | None:
    try:
        click = json.loads(line)
    except ValueError as error:
        return f"expected a JSON object, found {line[:80]!r} ({error})"
    missing = [
        n for n in (layout.session_id, layout.item_id, layout.clicked_at) if not isinstance(click, dict) or click.get(n) is None
    ]
    if missing:
        return f"expected {', '.join(missing)}, found {line[:80]!r}"
    return _click_fault(click[layout.session_id], click[layout.item_id], click[layout.clicked_at], layout)


def _click_fault(session_id: Any, item_id: Any, clicked_at: Any, layout: Layout) -> str | None:
    for what, value in (("session id", session_id), ("item id", item_id)):
        if layout.id_type == "string":
            if not isinstance(value, str) or not value:
                return f"expected a non-empty string as {what}, found {value!r}"
        elif not _is_id(str(value)):
            hint = "" if _INTEGER.fullmatch(str(value)) else " (for ids that aren't numbers, set source.id_type to 'string')"
            return f"expected a non-negative 64-bit integer as {what}, found {str(value)!r}{hint}"
    return _time_fault(str(clicked_at), layout.time_unit)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) < 2**63


def _time_fault(text: str, unit: str) -> str | None:
    if unit == "iso":
        us = _arrow_us(text) if _ISO.fullmatch(text) else None
        expected = "a time such as 2014-09-24T09:58:32.124Z"
    else:
        us = _number_us(text, unit)
        expected = f"a time in {_UNIT_NAMES[unit]} since 1970"
    if us is None:
        return f"expected {expected}, found {text!r}"
    return None if _FIRST_US <= us < _END_US else f"expected {expected} between {_RANGE}, found {text!r}"


def _number_us(text: str, unit: str) -> int | None:
    try:
        return round(float(text) * 1_000_000 / _UNITS_PER_SECOND[unit])
    except (ValueError, OverflowError):
        return None


def _arrow_us(text: str) -> int | None:
    try:
        return int(pa.array([text]).cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())[0].as_py())
    except pa.ArrowInvalid:
        return None


def _read_parquet(file: SourceFile, source: SourceSettings) -> Iterator[Block]:
    """Parses a Parquet file; missing and negative ids pass, so that the validation of their day can show them."""
    try:
        parquet = pq.ParquetFile(open_file(file))
    except pa.ArrowInvalid as error:
        raise SourceError(f"Expected a Parquet file in {file}: {error}") from error
    layout = _mapped_layout(tuple(parquet.schema_arrow.names), source, file, "Parquet columns", "")
    size, rows_read = size_of(file), 0
    for batch in parquet.iter_batches(columns=list(layout.columns)):
        try:
            table = _canonical(pa.Table.from_batches([batch]), layout)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, TypeError) as error:
            found = ", ".join(f"{field.name}: {field.type}" for field in batch.schema)
            raise SourceError(
                f"Expected ids of type {source.id_type} and times with a zone (or source.time_unit) in {file}, "
                f"found {found}: {error}"
            ) from error
        rows_read += len(table)
        yield Block(table, int(size * rows_read / max(parquet.metadata.num_rows, 1)), len(table))
