"""Converts ids and times of clicks, column by column, and explains why a value is rejected.

Nothing is changed silently: an integer id must be in canonical decimal form, and a time must be unambiguous. The result depends
on the value alone, whether Arrow converts a whole column or a few values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sbr_tasks.clicks.layouts import Layout
from sbr_tasks.days import to_us
from sbr_tasks.errors import SourceError

Mask = npt.NDArray[np.bool_]

_FACTORS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_UNIT_NAMES = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "iso": "ISO-8601"}
_UTC_US, _NAIVE_US = pa.timestamp("us", tz="UTC"), pa.timestamp("us")
_MAX_INT64 = str(2**63 - 1)
_MAX_EXACT = {64: 2**53, 32: 2**24, 16: 2**11}
"""The largest number up to which floating-point numbers of this many bits represent all integers."""
_DAY_US = 86_400_000_000
_MAX_OFFSET_US = 14 * 3_600_000_000
"""The largest offset of a zone from UTC."""

_DATE = (
    r"(?:\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|02-(?:0[1-9]|1\d|2[0-8]))"
    r"|(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
)
_TIME = r"[T ](?:[01]\d|2[0-3])(?::[0-5]\d(?::[0-5]\d(?:\.\d{1,6})?)?)?"
_ZONE = r"(?:Z|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)"
_ZONED = f"^{_DATE}{_TIME}{_ZONE}$"
_NAMED_UTC = f"^{_DATE}(?:{_TIME})? UTC$"
_NO_ZONE = f"^{_DATE}(?:{_TIME})?$"
"""Exactly the times that Arrow accepts."""
_IS_NO_ZONE = re.compile(_NO_ZONE)
_NUMBER = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$"
_IS_NUMBER = re.compile(_NUMBER)
_HAS_NANOSECONDS = re.compile(r":\d\d\.\d{7,}")
_EXAMPLE = "a time such as 2014-09-24T09:58:32.124Z"


@dataclass(frozen=True)
class Limits:
    """The half-open interval of possible times of clicks, in microseconds since 1970."""

    first_us: int
    end_us: int

    @classmethod
    def between(cls, earliest: date, now: datetime) -> Limits:
        """From midnight UTC of `earliest` to one day after `now`."""
        first = datetime(earliest.year, earliest.month, earliest.day, tzinfo=UTC)
        return cls(to_us(first), to_us(now + timedelta(days=1)) + 1)

    @classmethod
    def any_time(cls) -> Limits:
        """From 1970 to the end of 2199."""
        return cls(0, to_us(datetime(2200, 1, 1, tzinfo=UTC)))

    def hold(self, us: int) -> bool:
        """Whether a click may have this time."""
        return self.first_us <= us < self.end_us


@dataclass(frozen=True)
class Values:
    """The columns of clicks, and which rows are invalid.

    Attributes:
        table: session_id, item_id, clicked_at and category; the values of invalid rows are undefined.
        is_bad: Whether a row is invalid.
        is_bad_session, is_bad_item, is_bad_time: Why: the value doesn't parse. Where none is set, the time is out of bounds.
        at_us: Times in microseconds since 1970.
    """

    table: pa.Table
    is_bad: Mask
    is_bad_session: Mask
    is_bad_item: Mask
    is_bad_time: Mask
    at_us: npt.NDArray[np.int64]


def one_chunk(column: Any) -> pa.Array:
    """A column as one array of plain values: no chunks, dictionaries or views, and no large strings."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        if isinstance(column, pa.ChunkedArray):  # Arrow splits what doesn't fit into one array, and has no chunk for no rows
            column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.string())
    return column


def to_values(columns: dict[str, pa.Array], layout: Layout, schema: pa.Schema, limits: Limits, *, allow_null: bool) -> Values:
    """Converts raw columns to those of clicks.

    Args:
        columns: The columns that `layout` needs, by name; texts or typed values.
        layout: The meaning of columns, and the form of ids and times.
        schema: The schema of clicks.
        limits: The possible times.
        allow_null: Whether null and negative ids pass, so that the validation of their day shows them.

    Raises:
        SourceError: The type of a column doesn't fit ids or times.
    """
    sessions, bad_session = _ids(layout.session_id, columns, layout, allow_null)
    items, bad_item = _ids(layout.item_id, columns, layout, allow_null)
    at_us, bad_time = _times(columns[layout.clicked_at], layout)
    if layout.time_offset:
        offsets, bad_offset = _numbers(columns[layout.time_offset], "ms")
        at_us, bad_time = at_us + offsets, bad_time | bad_offset | (offsets < 0)
    impossible = ~bad_time & ((at_us < limits.first_us) | (at_us >= limits.end_us))
    clicked_at = pa.array(at_us).cast(_UTC_US)
    category = pa.repeat("", len(at_us)) if layout.category is None else as_texts(columns[layout.category])
    table = pa.table([sessions, items, clicked_at, category], schema=schema)
    bad = bad_session | bad_item | bad_time | impossible
    return Values(table, bad, bad_session, bad_item, bad_time, at_us)


def as_texts(column: pa.Array) -> pa.Array:
    """Scalars of any type as texts; null becomes the empty text."""
    if pa.types.is_binary(column.type) or not pa.types.is_string(column.type):
        column = column.cast(pa.string())
    return column.fill_null("") if column.null_count else column


def is_scalar(kind: pa.DataType) -> bool:
    """Whether a type isn't nested."""
    return not pa.types.is_nested(kind)


def _ids(name: str, columns: dict[str, pa.Array], layout: Layout, allow_null: bool) -> tuple[pa.Array, Mask]:
    column = columns[name]
    wants_numbers = layout.id_type == "integer"
    none_bad = np.zeros(len(column), np.bool_)
    if pa.types.is_null(column.type):
        return pa.nulls(len(column), pa.int64() if wants_numbers else pa.string()), none_bad if allow_null else ~none_bad
    nulls = np.zeros(len(column), np.bool_) if not column.null_count else column.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_string(column.type):
        return _text_ids(column, nulls, wants_numbers, allow_null)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)):
        raise SourceError(f"expected ids in the column {name!r}, found values of type {column.type}")
    numbers, bad = _whole_numbers(column)
    if not allow_null:
        bad = bad | nulls | (numbers.fill_null(0).to_numpy() < 0)
    if wants_numbers:
        return numbers, bad
    if pa.types.is_floating(column.type):
        return numbers.cast(pa.string()), bad
    texts, bad = _whole_texts(column)
    return texts, bad if allow_null else bad | nulls


def _text_ids(column: pa.Array, nulls: Mask, wants_numbers: bool, allow_null: bool) -> tuple[pa.Array, Mask]:
    filled = column.fill_null("0" if wants_numbers else "") if column.null_count else column
    if wants_numbers:
        values, bad = decimals(filled)
        if column.null_count:
            values = pc.if_else(pa.array(nulls), pa.scalar(None, pa.int64()), values)
            bad = bad & ~nulls if allow_null else bad | nulls
        return values, bad
    if allow_null:
        return column, np.zeros(len(column), np.bool_)
    return filled, _lengths(filled) == 0


def _whole_numbers(column: pa.Array) -> tuple[pa.Array, Mask]:
    """Numbers of any type as int64, and which of them have no exact int64."""
    if pa.types.is_decimal(column.type):
        texts, bad = _whole_texts(column.fill_null(0))
        values, is_out = decimals(pc.replace_substring_regex(texts, "^-", ""))
        values = pc.if_else(pc.starts_with(texts, "-"), pc.negate(values), values)
        return pc.if_else(column.is_null(), pa.scalar(None, pa.int64()), values), bad | is_out
    if column.type == pa.uint64():
        too_large = pc.greater(column, pa.scalar(2**63 - 1, pa.uint64())).fill_null(False)
        whole = pc.if_else(too_large, pa.scalar(None, pa.uint64()), column).cast(pa.int64())
        return whole, too_large.to_numpy(zero_copy_only=False)
    if pa.types.is_integer(column.type):
        return column.cast(pa.int64()), np.zeros(len(column), np.bool_)
    numbers = column.cast(pa.float64())
    values = numbers.fill_null(0.0).to_numpy(zero_copy_only=False)
    bad = ~np.isfinite(values) | (np.abs(values) > _MAX_EXACT[column.type.bit_width]) | (values != np.floor(values))
    whole = pa.array(np.where(bad, 0, values).astype(np.int64))
    if numbers.null_count:
        whole = pc.if_else(numbers.is_null(), pa.scalar(None, pa.int64()), whole)
    return whole, bad


def _whole_texts(column: pa.Array) -> tuple[pa.Array, Mask]:
    """Integers and decimals as texts, and which of them have a fraction."""
    texts = column.cast(pa.string())
    if not pa.types.is_decimal(column.type):
        return texts, np.zeros(len(column), np.bool_)
    texts = pc.replace_substring_regex(pc.replace_substring_regex(texts, r"\.0*$", ""), r"^0E-\d+$", "0")
    has_fraction = pc.match_substring_regex(texts.fill_null(""), r"[.E]")
    return texts, has_fraction.to_numpy(zero_copy_only=False)


def _offsets(texts: pa.Array) -> npt.NDArray[np.int32]:
    return np.frombuffer(texts.buffers()[1], np.int32)[texts.offset : texts.offset + len(texts) + 1]


def _lengths(texts: pa.Array) -> npt.NDArray[np.int32]:
    """Bytes of each text."""
    return np.diff(_offsets(texts)) if len(texts) else np.zeros(0, np.int32)


def decimals(texts: pa.Array) -> tuple[pa.Array, Mask]:
    """Texts as int64, and which of them aren't numbers from 0 to 2**63 - 1 in canonical decimal form.

    Checking bytes is many times faster than a regular expression; Arrow alone would accept hex and leading zeros.
    """
    if not len(texts):
        return pa.array([], pa.int64()), np.zeros(0, np.bool_)
    offsets = _offsets(texts)
    first = int(offsets[0])
    data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)[first : int(offsets[-1])]
    lengths = np.diff(offsets)
    bad = (lengths == 0) | (lengths > 19)
    if len(data):
        is_zero = data[np.minimum(offsets[:-1] - first, len(data) - 1)] == ord("0")
        bad |= is_zero & (lengths > 1)
        others = np.flatnonzero((data - np.uint8(ord("0"))) > 9)
        if len(others):
            bad[np.searchsorted(offsets, others + first, side="right") - 1] = True
    longest = np.flatnonzero((lengths == 19) & ~bad)
    if len(longest):
        bad[longest] = pc.greater(texts.take(pa.array(longest)), _MAX_INT64).to_numpy(zero_copy_only=False)
    return (pc.if_else(pa.array(bad), "0", texts) if bad.any() else texts).cast(pa.int64()), bad


def _times(column: pa.Array, layout: Layout) -> tuple[npt.NDArray[np.int64], Mask]:
    """Times as microseconds since 1970, and which values aren't times."""
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return _typed_times(column, layout)
    if layout.time_unit == "iso":
        if pa.types.is_null(column.type):
            column = column.cast(pa.string())
        if not pa.types.is_string(column.type):
            raise SourceError(
                f"expected times in the column {layout.clicked_at!r}, found values of type {column.type}; if they count since "
                "1970, set source.time_unit"
            )
        return iso_times(column.fill_null(""), layout.timezone)
    return _numbers(column, layout.time_unit)


def _typed_times(column: pa.Array, layout: Layout) -> tuple[npt.NDArray[np.int64], Mask]:
    bad, kind = column.is_null().to_numpy(zero_copy_only=False), column.type
    if pa.types.is_date(kind):
        column = column.cast(pa.timestamp("s") if pa.types.is_date32(column.type) else pa.timestamp("ms"))
    unit, zone = column.type.unit, column.type.tz
    numbers = column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    at_us, too_large = (numbers // 1_000, bad) if unit == "ns" else _scaled(numbers, _FACTORS[unit])
    if zone is not None:
        return at_us, bad | too_large
    if layout.timezone is None:
        raise SourceError(
            f"the times in the column {layout.clicked_at!r} have no zone (type {kind}); set source.timezone to the zone "
            "they are in, such as UTC or Europe/Amsterdam"
        )
    zoned, skipped = _in_zone(pa.array(at_us).cast(_NAIVE_US), layout.timezone)
    return zoned, bad | too_large | skipped


def iso_times(texts: pa.Array, timezone: str | None) -> tuple[npt.NDArray[np.int64], Mask]:
    """ISO-8601 texts as microseconds since 1970, and which of them aren't times, or have no zone although none is set."""
    for convert in (_zoned, _named_utc, lambda texts: _no_zone(texts, timezone)):
        try:
            return convert(texts)
        except pa.ArrowInvalid:
            continue
    texts = pc.utf8_trim(texts, " \t")  # like Arrow's CSV reader with the times that it converts
    at_us, bad = np.zeros(len(texts), np.int64), np.ones(len(texts), np.bool_)
    for convert, pattern in ((_zoned, _ZONED), (_named_utc, _NAMED_UTC), (lambda texts: _no_zone(texts, timezone), _NO_ZONE)):
        remaining = np.flatnonzero(bad)
        rest = texts.take(pa.array(remaining)) if len(remaining) < len(texts) else texts
        rows = np.flatnonzero(pc.match_substring_regex(rest, pattern).to_numpy(zero_copy_only=False))
        if len(rows) and (pattern is not _NO_ZONE or timezone):
            at_us[remaining[rows]], bad[remaining[rows]] = convert(rest.take(pa.array(rows)))
    return at_us, bad


def _zoned(texts: pa.Array) -> tuple[npt.NDArray[np.int64], Mask]:
    return texts.cast(_UTC_US).cast(pa.int64()).to_numpy(), np.zeros(len(texts), np.bool_)


def _named_utc(texts: pa.Array) -> tuple[npt.NDArray[np.int64], Mask]:
    if not pc.all(pc.ends_with(texts, " UTC")).as_py():
        raise pa.ArrowInvalid("not all end with UTC")
    naive = pc.utf8_slice_codeunits(texts, 0, -4).cast(_NAIVE_US)
    return naive.cast(pa.int64()).to_numpy(), np.zeros(len(texts), np.bool_)


def _no_zone(texts: pa.Array, timezone: str | None) -> tuple[npt.NDArray[np.int64], Mask]:
    if timezone is None:
        raise pa.ArrowInvalid("times have no zone")
    return _in_zone(texts.cast(_NAIVE_US), timezone)


def _in_zone(naive: pa.Array, timezone: str) -> tuple[npt.NDArray[np.int64], Mask]:
    """Local times as microseconds since 1970, and which of them clocks skip; a time that occurs twice is the first one."""
    zoned = pc.assume_timezone(naive, timezone, ambiguous="earliest", nonexistent="earliest")
    skipped = pc.not_equal(pc.local_timestamp(zoned), naive).to_numpy(zero_copy_only=False)
    return zoned.cast(pa.int64()).to_numpy(), skipped


def _numbers(column: pa.Array, unit: str) -> tuple[npt.NDArray[np.int64], Mask]:
    """Numbers in a unit as rounded microseconds, and which values aren't numbers."""
    nulls = column.is_null().to_numpy(zero_copy_only=False)
    if pa.types.is_null(column.type):
        return np.zeros(len(column), np.int64), nulls
    if pa.types.is_string(column.type):
        return _number_texts(column.fill_null(""), unit)
    if pa.types.is_integer(column.type):
        whole, too_large = _whole_numbers(column)
        at_us, out = _scaled(whole.fill_null(0).to_numpy(zero_copy_only=False), _FACTORS[unit])
        return at_us, nulls | too_large | out
    if not pa.types.is_floating(column.type) and not pa.types.is_decimal(column.type):
        raise SourceError(f"expected times in {_UNIT_NAMES[unit]} since 1970, found values of type {column.type}")
    at_us, out = _rounded(column.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False), _FACTORS[unit])
    return at_us, nulls | out


def _number_texts(texts: pa.Array, unit: str) -> tuple[npt.NDArray[np.int64], Mask]:
    whole, bad = decimals(texts)
    at_us, out = _scaled(whole.to_numpy(), _FACTORS[unit])
    bad = bad | out
    others = np.flatnonzero(bad)
    if len(others):
        rest = texts.take(pa.array(others))
        rows = np.flatnonzero(pc.match_substring_regex(rest, _NUMBER).to_numpy(zero_copy_only=False))
        numbers = rest.take(pa.array(rows)).cast(pa.float64()).to_numpy()
        at_us[others[rows]], bad[others[rows]] = _rounded(numbers, _FACTORS[unit])
    return at_us, bad


def _scaled(numbers: npt.NDArray[np.int64], factor: int) -> tuple[npt.NDArray[np.int64], Mask]:
    out = np.abs(numbers) > (2**62 // factor)
    return np.where(out, 0, numbers) * factor, out


def _rounded(numbers: npt.NDArray[np.float64], factor: int) -> tuple[npt.NDArray[np.int64], Mask]:
    scaled = np.rint(np.where(np.isfinite(numbers), numbers, np.inf) * factor)
    out = ~(np.abs(scaled) < 2**62)
    return np.where(out, 0, scaled).astype(np.int64), out


class Reasons:
    """Explains what is wrong with the values of a click: the column, what was expected, and what was found."""

    def __init__(self, layout: Layout, limits: Limits) -> None:
        self._layout = layout
        self._limits = limits
        self._possible = f"a time from {_day(limits.first_us)} (source.earliest) to {_day(limits.end_us - 1)} (a day after now)"
        self._n_rows = self._n_wrong = 0

    def of_rows(self, values: Values, columns: dict[str, pa.Array], rows: npt.NDArray[np.int64]) -> Iterable[str]:
        """The reason for each invalid row; hints depend on whether most rows so far were invalid."""
        layout, chosen = self._layout, pa.array(rows)
        self._n_wrong += len(rows)
        names = (layout.session_id, layout.item_id, layout.clicked_at)
        sessions, items, times = (_to_python(columns[name].take(chosen)) for name in names)
        offsets = columns[layout.time_offset].take(chosen).to_pylist() if layout.time_offset else [None] * len(rows)
        flags = (flag[rows].tolist() for flag in (values.is_bad_session, values.is_bad_item, values.is_bad_time))
        for session, item, time, offset, us, bad_session, bad_item, bad_time in zip(
            sessions, items, times, offsets, values.at_us[rows].tolist(), *flags, strict=True
        ):
            if bad_session:
                yield self.of_id(layout.session_id, session)
            elif bad_item:
                yield self.of_id(layout.item_id, item)
            elif bad_time:
                yield self._of_time(time, offset)
            else:
                yield self._of_impossible(time, us)

    def count(self, n_rows: int) -> None:
        """Counts rows, valid or not; called before `of_rows` explains the invalid ones among them."""
        self._n_rows += n_rows

    def of_id(self, name: str, value: Any) -> str:
        """What is wrong with an id."""
        if value is None or value == "":
            kind = "a non-negative 64-bit integer" if self._layout.id_type == "integer" else "a non-empty string"
            return f"column {name!r}: expected {kind}, found {'null' if value is None else 'nothing'}"
        if isinstance(value, float) or (isinstance(value, Decimal) and value % 1):
            expected = "a whole number that is stored exactly"
            return f"column {name!r}: expected {expected}, found {value} (store ids as integers or texts)"
        if self._layout.id_type == "string":
            return f"column {name!r}: expected a non-empty string, found {_shown(value)}"
        return (
            f"column {name!r}: expected a non-negative 64-bit integer in plain digits, found {_shown(value)} "
            "(for other ids, set source.id_type=string)"
        )

    def _of_time(self, value: Any, offset: Any) -> str:
        layout = self._layout
        place = f"column {layout.clicked_at!r}:"
        if value is None:
            return f"{place} expected a time, found null"
        text = str(value)
        is_right = _IS_NUMBER.match(text) if layout.time_unit != "iso" else layout.timezone and _IS_NO_ZONE.match(text)
        if layout.time_offset is not None and is_right:
            place, actual = f"column {layout.time_offset!r}:", "null" if offset is None else _shown(offset)
            return f"{place} expected milliseconds to add to the time, found {actual}"
        if layout.time_unit == "iso" and layout.timezone is None and _IS_NO_ZONE.match(text.strip(" \t")):
            return (
                f"{place} the time {_shown(value)} has no zone; set source.timezone to the zone it is in, "
                "such as UTC or Europe/Amsterdam"
            )
        expected = f"a time in {_UNIT_NAMES[layout.time_unit]} since 1970" if layout.time_unit != "iso" else _EXAMPLE
        return f"{place} expected {expected}, found {_shown(value)}{self._unit_hint(text)}"

    def _unit_hint(self, text: str) -> str:
        """A hint on the unit in which a text would be a time."""
        if self._layout.time_unit != "iso":
            return self._other_unit("iso", "it is ISO-8601") if re.match(r"\d{4}-\d\d-\d\d", text) else ""
        if _IS_NUMBER.match(text):
            return self._unit_of(text)
        if _HAS_NANOSECONDS.search(text):
            return " (seconds may have six decimals at most)"
        is_skipped = self._layout.timezone and _IS_NO_ZONE.match(text.strip(" \t"))
        return f" (the clocks of {self._layout.timezone} skip it)" if is_skipped else ""

    def _of_impossible(self, value: Any, us: int) -> str:
        text = str(value)
        hint = self._hint(text, us)
        day = "" if hint or text.startswith(_day(us)) else f", which is {_day(us)}"
        return f"column {self._layout.clicked_at!r}: expected {self._possible}, found {_shown(value)}{day}{hint}"

    def _hint(self, text: str, us: int) -> str:
        """A hint on the unit or zone with which a time would be possible."""
        if self._layout.time_unit != "iso" and _IS_NUMBER.match(text):
            return self._unit_of(text)
        if 0 <= us - self._limits.end_us < _MAX_OFFSET_US:
            return " (if it is local time, set source.timezone and write no zone)"
        return ""

    def _unit_of(self, text: str) -> str:
        number = float(text)
        for unit, factor in _FACTORS.items():
            if unit != self._layout.time_unit and abs(number * factor) < 2**62 and self._limits.hold(round(number * factor)):
                return self._other_unit(unit, f"in {_UNIT_NAMES[unit]} it is {_day(round(number * factor))}")
        if self._limits.hold(int(min(abs(number), 1e300) // 1_000)):
            return " (it counts nanoseconds: divide by 1,000 and set source.time_unit=us)"
        return ""

    def _other_unit(self, unit: str, what: str) -> str:
        """A hint on what to do about a time in another unit than the one set."""
        if not self._layout.unit_is_set:
            return f" ({what}; this format fixes the unit)"
        if self._n_wrong * 2 < self._n_rows:
            return f" ({what}, but most lines are in {_UNIT_NAMES[self._layout.time_unit]}: correct or drop this one)"
        return f" ({what}: set source.time_unit={unit})"


def _to_python(column: pa.Array) -> list[Any]:
    """Values for messages; times as texts, because Python's dates end earlier than Arrow's."""
    values: list[Any] = (column.cast(pa.string()) if pa.types.is_temporal(column.type) else column).to_pylist()
    return values


def _shown(value: Any) -> str:
    """A value for messages: in quotes, without control characters, and cut to 80 characters."""
    text = str(value)
    return repr(text if len(text) <= 80 else f"{text[:80]}...")


def _day(us: int) -> str:
    """The UTC day of a time, for messages."""
    return _day_name(us // _DAY_US)


@lru_cache
def _day_name(days: int) -> str:
    try:
        return (date(1970, 1, 1) + timedelta(days=days)).isoformat()
    except OverflowError:
        return "beyond any calendar"
