"""The layout of the lines of a file, from the settings and, if there is one, its header."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from sbr_tasks.clicks.columns import Columns
from sbr_tasks.clicks.sources import SourceFile
from sbr_tasks.errors import SourceError
from sbr_tasks.settings import OTHER_NAMES, Condition, SourceSettings, parse_where

_MAX_LINES_TO_GUESS = 1_000
"""Lines that are tried to find the layout of a file without a header, because the first ones may be invalid."""


@dataclass(frozen=True)
class Layout:
    """The layout of the lines of a file.

    Attributes:
        columns: All columns of a line, in order; of JSON and Parquet only those that are needed.
        session_id: Column of the session, or of the user whose clicks are cut into sessions.
        delimiter: Separator of the fields; empty for JSON and Parquet.
        timezone: Zone of times that name none; None if such times are rejected.
        where: Conditions that a line must meet to be a click.
    """

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
    time_offset: str | None = None
    timezone: str | None = None
    where: tuple[Condition, ...] = ()

    @property
    def unit_is_set(self) -> bool:
        """Whether source.time_unit is used; other formats have a fixed unit."""
        return self.is_quoted

    @property
    def needed(self) -> tuple[str, ...]:
        """The distinct columns that are read."""
        names = (self.session_id, self.item_id, self.clicked_at, self.category, self.time_offset)
        return tuple(dict.fromkeys([*(name for name in names if name), *(condition.column for condition in self.where)]))

    @property
    def list_key(self) -> str | None:
        """The key of the JSON list whose objects are clicks; None if each line is one click."""
        return next((name.partition("[].")[0] for name in self.needed if "[]." in name), None)


def find_layout(data: bytes, source: SourceSettings, file: SourceFile) -> Layout:
    """The layout of a file, from its first line or, for formats without a header, from the first valid line.

    Raises:
        SourceError: The first lines belong to another format, or a column is missing or ambiguous.
    """
    first, *others = _first_lines(data)
    try:
        return layout_of(first, source, file)
    except SourceError:
        for line in others if source.line_format in ("jsonl", "movielens") else ():
            with suppress(SourceError):
                layout = layout_of(line, source, file)
                if not layout.has_header:
                    return layout
        raise


def other_delimiter(line: str, delimiter: str) -> str | None:
    """The probable delimiter of a line without `delimiter`, as `source.delimiter` takes it; None if unknown."""
    if delimiter in line or line.lstrip().startswith(("{", "[")):
        return None
    counts = {other: line.count(other) for other in ",;\t|"}
    likeliest = max(counts, key=lambda other: counts[other])
    return None if counts[likeliest] < 2 else likeliest.replace("\t", "\\t")


def _first_lines(data: bytes) -> Iterator[str]:
    lines = data.split(b"\n", _MAX_LINES_TO_GUESS)[:_MAX_LINES_TO_GUESS]
    return (line.decode("utf-8", "replace").rstrip("\r") for line in lines)


def layout_of(first_line: str, source: SourceSettings, file: SourceFile) -> Layout:
    """The layout of a file that begins with this line.

    Raises:
        SourceError: The line belongs to another format, or a column is missing or ambiguous.
    """
    build = {
        "yoochoose": _yoochoose_layout,
        "gru4rec": _gru4rec_layout,
        "movielens": _movielens_layout,
        "csv": _csv_layout,
        "jsonl": _jsonl_layout,
    }[source.line_format]
    return build(first_line, source, file)


def _yoochoose_layout(first_line: str, source: SourceSettings, file: SourceFile) -> Layout:
    del first_line
    names = (Columns.SESSION, Columns.TIME, Columns.ITEM, Columns.CATEGORY)
    return _fixed_layout(names, source, file, Columns.ALL, ",", "iso", has_header=False)


def _gru4rec_layout(first_line: str, source: SourceSettings, file: SourceFile) -> Layout:
    names = tuple(first_line.split("\t"))
    needed = ("SessionId", "ItemId", "Time", None)
    return _fixed_layout(names, source, file, needed, "\t", "s", has_header=True)


def _movielens_layout(first_line: str, source: SourceSettings, file: SourceFile) -> Layout:
    names: tuple[str, ...] = ("userId", "movieId", "rating", "timestamp")
    double_colon = "::" in first_line
    delimiter = next((d for d in ("\t", ",") if d in first_line), ":")
    has_header = first_line.startswith("userId")
    if has_header:
        names = tuple(first_line.replace("::", ":").split(delimiter))
    elif first_line.replace("::", ":").count(":" if double_colon else delimiter) != 3:
        raise SourceError(
            f"Expected MovieLens ratings (userId,movieId,rating,timestamp with ',', '::' or tabs) in {file}, "
            f"found the first line {first_line[:80]!r}. Check the format (source.format)."
        )
    needed = ("userId", "movieId", "timestamp", None)
    delimiter = ":" if double_colon else delimiter
    return _fixed_layout(names, source, file, needed, delimiter, "s", has_header=has_header, double_colon=double_colon)


def _fixed_layout(
    names: tuple[str, ...],
    source: SourceSettings,
    file: SourceFile,
    needed: tuple[str, str, str, str | None],
    delimiter: str,
    time_unit: str,
    *,
    has_header: bool,
    double_colon: bool = False,
) -> Layout:
    """The layout of a format with fixed column names."""
    layout = Layout(
        names,
        *needed,
        delimiter,
        time_unit,
        source.id_type,
        has_header,
        double_colon,
        timezone=source.timezone,
        where=parse_where(source.where or ""),
    )
    what = f"{'a tab-separated header' if delimiter == chr(9) else 'a header'}" if has_header else "lines"
    _require_columns(layout.needed, names, what, file)
    return layout


def _csv_layout(first_line: str, source: SourceSettings, file: SourceFile) -> Layout:
    header = next(csv.reader([first_line], delimiter=source.delimiter), [])
    names = tuple(name.strip() for name in header)
    return mapped_layout(names, source, file, f"a header separated by {source.delimiter!r}", source.delimiter)


def _jsonl_layout(first_line: str, source: SourceSettings, file: SourceFile) -> Layout:
    try:
        fields = json.loads(first_line)
    except (ValueError, RecursionError):
        fields = None
    names = list(fields) if isinstance(fields, dict) else []
    for name in list(names):
        clicks = fields[name] if isinstance(fields[name], list) else []
        names += [f"{name}[].{key}" for click in clicks[:1] if isinstance(click, dict) for key in click]
    return mapped_layout(tuple(names), source, file, "a JSON object per line", "")


def mapped_layout(names: tuple[str, ...], source: SourceSettings, file: SourceFile, what: str, delimiter: str) -> Layout:
    """The layout of a file whose columns are named in the settings; `delimiter` is empty for JSON and Parquet.

    Raises:
        SourceError: A column is missing, or named twice.
    """
    columns = source.columns
    other_names = OTHER_NAMES.get(source.format, {})
    layout = Layout(
        tuple(name if name in columns.model_dump().values() else other_names.get(name, name) for name in names),
        (columns.user_id if source.session_gap else None) or columns.session_id,
        columns.item_id,
        columns.clicked_at,
        columns.category,
        delimiter,
        source.time_unit,
        source.id_type,
        has_header=bool(delimiter),
        is_quoted=True,
        time_offset=columns.time_offset,
        timezone=source.timezone,
        where=parse_where(source.where or ""),
    )
    lists = sorted({name.partition("[].")[0] for name in layout.needed if "[]." in name})
    if len(lists) > 1:
        raise SourceError(
            f"Expected columns of one list in {file}, found settings that name {', '.join(lists)} (source.columns)."
        )
    other = other_delimiter(names[0], delimiter) if delimiter and len(names) == 1 else None
    if other:
        raise SourceError(
            f"Expected {what} with {', '.join(layout.needed)} in {file}, but the header has one column, "
            f"{names[0][:120]!r}; set source.delimiter={other}."
        )
    _require_columns(layout.needed, layout.columns, what, file)
    return layout


def printable(text: str) -> str:
    """A text from a file, for messages: control characters become question marks."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _require_columns(needed: tuple[str, ...], names: tuple[str, ...], what: str, file: SourceFile) -> None:
    missing = [name for name in needed if name not in names]
    if missing:
        raise SourceError(
            f"Expected {what} with {', '.join(needed)} in {file}, found {printable(', '.join(names)[:120]) or 'none'}; "
            f"missing: {', '.join(missing)}. Check the format (source.format) and the column names (source.columns)."
        )
    repeated = [name for name in needed if names.count(name) > 1]
    if repeated:
        raise SourceError(
            f"Expected one column {repeated[0]!r} in {file}, found {names.count(repeated[0])} of that name, so it is ambiguous "
            "which one is meant. Rename or remove the others."
        )
