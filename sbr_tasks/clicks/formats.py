"""The formats that clicks arrive in, each turned into one table layout block by block.

Line formats are parsed by Arrow's CSV and JSON readers. Only a block that Arrow refuses, or that holds a negative id, is gone
through line by line, to say which lines are wrong and why.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq

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
_SHOWN_REJECTS = 10


def click_schema(id_type: str) -> pa.Schema:
    """Columns of clicks everywhere: session_id, item_id (int64 or string), clicked_at (us, UTC), category (string)."""
    ids = pa.int64() if id_type == "integer" else pa.string()
    return pa.schema(
        [("session_id", ids), ("item_id", ids), ("clicked_at", pa.timestamp("us", tz="UTC")), ("category", pa.string())]
    )


@dataclass(frozen=True)
class Block:
    """A part of a file that was parsed: its clicks, and how many bytes of the file had been read by then."""

    table: pa.Table
    bytes_read: int


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


def read_blocks(file: Path, source: SourceSettings) -> Iterator[Block]:
    """Parses a file block by block, in the order of the file.

    For `movielens` the column session_id holds the user; sessions are cut later (`sbr_tasks.clicks.sessions`).

    Raises:
        SourceError: The file can't be read, is empty, or holds lines that don't parse; the first ten are shown.
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


def _read_lines(file: Path, source: SourceSettings) -> Iterator[Block]:
    layout: Layout | None = None
    for data, first_line, bytes_read in _line_blocks(file):
        body, line = data, first_line
        if layout is None:
            first, _, rest = data.partition(b"\n")
            layout = _layout_of(first.decode("utf-8", "replace").rstrip("\r"), source, file)
            if layout.has_header:
                body, line = rest, first_line + 1
        if body.strip():
            yield Block(_parse(body, line, layout, source, file), bytes_read)
    if layout is None:
        raise SourceError(f"Expected clicks in {file}, found an empty file. Check that its upload is complete.")


def _line_blocks(file: Path) -> Iterator[tuple[bytes, int, int]]:
    """Yields whole lines as (bytes, number of the first line, bytes of the file read so far)."""
    with file.open("rb") as raw, _unpacked(raw, file) as stream:
        rest, line, first = b"", 1, True
        while chunk := stream.read(BLOCK_BYTES):
            if first:
                chunk, first = chunk.removeprefix(b"\xef\xbb\xbf"), False
            cut = chunk.rfind(b"\n") + 1
            if not cut:
                rest += chunk
                continue
            data = rest + chunk[:cut]
            rest = chunk[cut:]
            yield data, line, raw.tell()
            line += data.count(b"\n")
        if rest:
            yield rest, line, raw.tell()


def _unpacked(raw: IO[bytes], file: Path) -> AbstractContextManager[IO[bytes]]:
    return gzip.GzipFile(fileobj=raw) if file.suffix == ".gz" else nullcontext(raw)  # type: ignore[return-value]


def _layout_of(first_line: str, source: SourceSettings, file: Path) -> Layout:
    build = {
        "yoochoose": _yoochoose_layout,
        "gru4rec": _gru4rec_layout,
        "movielens": _movielens_layout,
        "csv": _csv_layout,
        "jsonl": _jsonl_layout,
    }[source.format]
    return build(first_line, source, file)


def _yoochoose_layout(first_line: str, source: SourceSettings, file: Path) -> Layout:
    del first_line, file
    names = ("session_id", "clicked_at", "item_id", "category")
    return Layout(names, "session_id", "item_id", "clicked_at", "category", ",", "iso", source.id_type, has_header=False)


def _gru4rec_layout(first_line: str, source: SourceSettings, file: Path) -> Layout:
    names = tuple(first_line.split("\t"))
    _need_columns(("SessionId", "ItemId", "Time"), names, "a tab-separated header", file)
    return Layout(names, "SessionId", "ItemId", "Time", None, "\t", "s", source.id_type, has_header=True)


def _movielens_layout(first_line: str, source: SourceSettings, file: Path) -> Layout:
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


def _csv_layout(first_line: str, source: SourceSettings, file: Path) -> Layout:
    names = tuple(name.strip().strip('"') for name in first_line.split(source.delimiter))
    return _mapped_layout(names, source, file, f"a header separated by {source.delimiter!r}", source.delimiter)


def _jsonl_layout(first_line: str, source: SourceSettings, file: Path) -> Layout:
    try:
        found = json.loads(first_line)
    except ValueError:
        found = None
    names = tuple(found) if isinstance(found, dict) else ()
    return _mapped_layout(names, source, file, "a JSON object per line", "")


def _mapped_layout(names: tuple[str, ...], source: SourceSettings, file: Path, what: str, delimiter: str) -> Layout:
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


def _need_columns(needed: tuple[str, ...], found: tuple[str, ...], what: str, file: Path) -> None:
    missing = [name for name in needed if name not in found]
    if missing:
        raise SourceError(
            f"Expected {what} with {', '.join(needed)} in {file}, found {', '.join(found)[:120] or 'none'}; "
            f"missing: {', '.join(missing)}. Check the format (source.format) and the column names (source.columns)."
        )


def _parse(data: bytes, first_line: int, layout: Layout, source: SourceSettings, file: Path) -> pa.Table:
    try:
        raw = _read_json(data, layout) if source.format == "jsonl" else _read_csv(data, layout)
        table = _canonical(raw, layout)
        _require_every_line(data, len(table))
    except pa.ArrowInvalid as error:
        _refuse_lines(data, first_line, layout, source, file)
        raise SourceError(f"Lines from {first_line} on in {file} can't be parsed: {error}") from error
    if _has_bad_id(table):
        _refuse_lines(data, first_line, layout, source, file)
    return table


def _require_every_line(data: bytes, n_rows: int) -> None:
    """An unbalanced quote would make one row of many lines."""
    n_lines = data.count(b"\n") + (not data.endswith(b"\n"))
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


def _refuse_lines(data: bytes, first_line: int, layout: Layout, source: SourceSettings, file: Path) -> None:
    """Raises for the lines of a block that are wrong; returns when each line is right by itself."""
    fault_of: Callable[[str, Layout], str | None] = _json_fault if source.format == "jsonl" else _csv_fault
    faults: list[str] = []
    n_faults = n_lines = 0
    lines = data.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
    for number, line in enumerate(lines, start=first_line):
        if not line.strip():
            continue
        n_lines += 1
        fault = fault_of(line, layout)
        if fault:
            n_faults += 1
            if len(faults) < _SHOWN_REJECTS:
                faults.append(f"line {number}: {fault}")
    if n_faults == n_lines > 1:
        raise SourceError(
            f"{file} isn't laid out as {source.format}: {faults[0]}, "
            f"and none of the next {n_lines - 1:,} lines is right either. Check the format (source.format or --format)."
        )
    if faults:
        more = f" (and {n_faults - len(faults)} more in this part of the file)" if n_faults > len(faults) else ""
        raise SourceError(f"{file}, {'; '.join(faults)}{more}. Nothing was stored; mend the file and ingest it again.")


def _csv_fault(line: str, layout: Layout) -> str | None:
    fields = (line.replace("::", ":") if layout.double_colon else line).split(layout.delimiter)
    if len(fields) != len(layout.columns):
        names = layout.delimiter.join(layout.columns)
        return f"expected {len(layout.columns)} fields ({names!r}), found {len(fields)}: {line[:80]!r}"
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


def _read_parquet(file: Path, source: SourceSettings) -> Iterator[Block]:
    """Parses a Parquet file; missing and negative ids pass, so that the validation of their day can show them."""
    try:
        parquet = pq.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise SourceError(f"Expected a Parquet file in {file}: {error}") from error
    layout = _mapped_layout(tuple(parquet.schema_arrow.names), source, file, "Parquet columns", "")
    size, rows_read = file.stat().st_size, 0
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
        yield Block(table, int(size * rows_read / max(parquet.metadata.num_rows, 1)))
