"""The placement rule of the settings, with its list of excluded items."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow as pa

from sbr_tasks.errors import DamagedError, SettingsError, system_error
from sbr_tasks.readout import PlacementRule
from sbr_tasks.settings import Settings, is_url
from sbr_tasks.store import Store, from_parquet

_COLUMN = "item_id"
_SEPARATORS = ",;\t"
_EXPECTED = f"text with one item id per line, or CSV or Parquet with a column {_COLUMN}"


def served_rule(settings: Settings) -> PlacementRule:
    """What a placement may show, by the settings and by their list of excluded items as it is now.

    Raises:
        SettingsError: The list is missing or can't be parsed.
        StoreError: The object store that it is in can't be reached.
    """
    excluded = _read_ids(settings) if settings.recommend.exclude else set[str]()
    return PlacementRule(own_items=settings.recommend.own_items, excluded=tuple(sorted(excluded)))


def next_items_rule(settings: Settings) -> PlacementRule:
    """The rule of a list of next items: as `served_rule`, and an item follows itself only with `recommend.follow_itself`."""
    rule = served_rule(settings)
    return rule if settings.recommend.follow_itself else rule.model_copy(update={"own_items": "hide"})


def _read_ids(settings: Settings) -> set[str]:
    place = str(settings.recommend.exclude)
    try:
        data = _read(place, settings)
        if not data:
            raise ValueError(f"found an empty file; a list without items has the header {_COLUMN} alone")
        return _of_parquet(data) if place.lower().endswith(".parquet") else _of_text(data)
    except (ValueError, csv.Error, OSError) as error:
        why = system_error(error) if isinstance(error, OSError) else str(error)
        raise SettingsError(
            f"The list of excluded items {place} can't be used: expected {_EXPECTED}; {why}. Correct the file, or name another "
            "one (setting recommend.exclude). Until then nothing is scored or recommended, so that no excluded item is shown."
        ) from error


def _read(place: str, settings: Settings) -> bytes:
    if not is_url(place):
        return Path(place).read_bytes()
    folder, _, name = place.rpartition("/")
    try:
        return Store(folder, settings.store_options).get(name)
    except DamagedError:
        raise ValueError("found no such file") from None


def _of_parquet(data: bytes) -> set[str]:
    """The ids of a Parquet file.

    Raises:
        ValueError: It isn't Parquet, has no column of ids, or they aren't integers or text.
    """
    table = from_parquet(data)  # pyarrow's errors are ValueErrors
    if _COLUMN not in table.column_names:
        raise ValueError(f"found the columns {', '.join(table.column_names) or '(none)'}")
    column = table.column(_COLUMN)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise ValueError(f"found {kind} in the column {_COLUMN}")
    return {str(item) for item in column.to_pylist() if item is not None} - {""}


def _of_text(data: bytes) -> set[str]:
    """The ids of a text or CSV file.

    Raises:
        ValueError: It isn't UTF-8, or has several columns and none is called `item_id`.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"found bytes that aren't UTF-8 at position {error.start}") from None
    first = text.split("\n", 1)[0].rstrip("\r")
    delimiter = next((mark for mark in _SEPARATORS if mark in first), ",")
    header = [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
    if _COLUMN in header:
        rows = csv.DictReader(io.StringIO(text, newline=""), fieldnames=header, delimiter=delimiter)
        next(rows, None)
        return {item for row in rows if (item := (row[_COLUMN] or "").strip())}
    lines = [line.strip() for line in text.splitlines()]
    for number, line in enumerate(lines, 1):
        if any(mark in line for mark in _SEPARATORS):
            raise ValueError(f"found {line[:60]!r} on line {number}, and no header with {_COLUMN}")
    return set(lines) - {""}
