"""Parses lines of text into columns of raw values, with Arrow if lines are valid.

Lines that are known to be invalid never reach Arrow's parsers: they would crash the process (a JSON line `null`) or affect
other lines (an unclosed quote). They are found by checking the bytes of a whole block at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.json as pajson

from sbr_tasks.clicks.layouts import Layout, printable
from sbr_tasks.clicks.values import one_chunk
from sbr_tasks.errors import first_line

_PIECE_LINES = 2_000
"""Lines that are parsed one by one if Arrow rejects them together."""

_FEW_BYTES = 1 << 16
"""Below this size, decoding in Python is faster than validating with Arrow."""
_MAX_DEPTH = 500
"""A JSON line with more objects and lists is parsed by Python, which rejects deep nesting; Arrow has no limit."""
_MAX_ODD_SHARE = 0.5
"""Maximum share of a block's lines to parse one by one because of their types; above it, mixed types are normal."""
_MAX_REFUSED = 3
"""Pieces that Arrow may reject, more than it accepted, before the remaining lines are parsed one by one."""

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Parsed:
    """Columns of some lines.

    Attributes:
        columns: Raw values by name, one per click, in the order of the lines.
        line_of: The line of each click, from 0; None if the n-th click is the n-th line.
        faults: What is wrong with lines that aren't clicks, by line number.
    """

    columns: dict[str, pa.Array]
    line_of: Indices | None
    faults: dict[int, str] = field(default_factory=dict)

    def lines_of(self, rows: Indices) -> Indices:
        """The lines of some clicks."""
        return rows if self.line_of is None else self.line_of[rows]


class Lines:
    """A block of whole lines, with the start and end of each."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.bytes = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(self.bytes == ord("\n"))
        self.ends = ends if data.endswith(b"\n") else np.append(ends, len(data))
        self.starts = np.concatenate([[0], self.ends[:-1] + 1])

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: int) -> bytes:
        """A line without its line end."""
        return self.data[self.starts[i] : self.ends[i]].removesuffix(b"\r")

    def pick(self, numbers: Indices) -> list[bytes]:
        """Some lines without their line ends; many times faster than one by one."""
        data, starts, ends = self.data, self.starts[numbers].tolist(), self.ends[numbers].tolist()
        return [data[start:end].removesuffix(b"\r") for start, end in zip(starts, ends, strict=True)]

    @staticmethod
    def last_of(data: bytes) -> bytes:
        """The last line of some bytes."""
        start = data.rfind(b"\n", 0, -1) + 1
        return data[start:].removesuffix(b"\n").removesuffix(b"\r")

    def of(self, places: Indices) -> Indices:
        """The distinct lines of the bytes at these positions."""
        return np.unique(np.searchsorted(self.ends, places))

    def as_array(self) -> pa.Array:
        """The lines with their line ends as an Arrow string array, without copying; they may not be UTF-8."""
        offsets = np.append(self.starts, len(self.data)).astype(np.int32)
        return pa.Array.from_buffers(pa.string(), len(self), [None, pa.py_buffer(offsets), pa.py_buffer(self.data)])

    def find(self, byte: str) -> Indices:
        """The positions of a byte."""
        return np.flatnonzero(self.bytes == ord(byte))

    def with_lone_return(self) -> Indices:
        """The lines with a carriage return inside, which Arrow would read as a line end."""
        returns = self.find("\r")
        if not len(returns):
            return returns
        inside = returns[np.append(self.bytes, ord("\n"))[returns + 1] != ord("\n")]
        return self.of(inside)

    def not_utf8(self) -> Indices:
        """The lines that aren't UTF-8."""
        if self.data.isascii() or is_utf8(self.data):
            return np.zeros(0, np.int64)
        suspects = self.of(np.flatnonzero(self.bytes >= 128))
        return np.array([i for i in suspects if not is_utf8(self[int(i)])], np.int64)

    def without(self, left_out: Indices) -> tuple[bytes, Indices]:
        """The other lines, and their numbers."""
        kept = np.ones(len(self), np.bool_)
        kept[left_out] = False
        numbers = np.flatnonzero(kept)
        if not len(left_out) or not len(numbers):
            return (self.data if len(numbers) else b""), numbers
        breaks = np.flatnonzero(np.diff(numbers) > 1)
        first = numbers[np.concatenate([[0], breaks + 1])]
        last = numbers[np.concatenate([breaks, [len(numbers) - 1]])]
        view = memoryview(self.data)
        return b"".join(view[a : b + 1] for a, b in zip(self.starts[first], self.ends[last], strict=True)), numbers


def is_utf8(data: bytes) -> bool:
    """Whether bytes are UTF-8; Arrow validates them without a copy."""
    if len(data) < _FEW_BYTES:
        try:
            data.decode()
        except UnicodeDecodeError:
            return False
        return True
    offsets = pa.py_buffer(np.array([0, len(data)], np.int32))
    try:
        pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(data)]).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def count_lines(data: bytes) -> int:
    """The number of lines, including a last one without a line end."""
    return data.count(b"\n") + (not data.endswith(b"\n"))


def one_line(error: BaseException) -> str:
    """The first line of an error's text, printable and without a final full stop."""
    return printable(first_line(error)[:300].rstrip(". ")) or type(error).__name__


def shown(line: bytes) -> str:
    """A line for a message."""
    text = line.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 80 else f"{text[:80]}...")


class CsvParser:
    """Parses lines with separated fields; ids and other values remain texts."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._types: dict[str, pa.DataType] = dict.fromkeys(layout.needed, pa.string())
        self._is_clean = True
        if layout.time_unit == "iso" and not layout.where and not layout.time_offset:
            self._types[layout.clicked_at] = pa.timestamp("us", tz="UTC")
        self._line = _line_pattern(layout) if layout.is_quoted else None

    def parse(self, data: bytes) -> Parsed:
        """The columns of some whole lines."""
        if self._layout.double_colon:
            data = data.replace(b"::", b":")
        parsed = self._parse_clean(data) if self._is_clean else None
        if parsed is not None:
            return parsed
        self._is_clean = False  # later blocks probably have invalid lines too, so checking first is faster
        return self._parse_checked(Lines(data))

    def _parse_clean(self, data: bytes) -> Parsed | None:
        """All lines if each is valid; else None."""
        if b"\r" in data and data.count(b"\r") != data.count(b"\r\n"):  # looking for one is much faster than counting
            return None
        if not (data.isascii() or is_utf8(data)):
            return None
        if self._line is not None and not self._line[1].fullmatch(Lines.last_of(data)):
            return None  # Arrow accepts an unclosed quote at the end of its input
        columns = self._read(data, 1 << 20)
        if columns is None or len(columns[self._layout.item_id]) != count_lines(data):
            return None
        return Parsed(columns, None)

    def _parse_checked(self, lines: Lines) -> Parsed:
        faults = self._faults(lines)
        wrong = np.array(sorted(faults), np.int64)
        data, numbers = lines.without(np.union1d(wrong, self._blank(lines)))
        columns = self._read(data, 1 << 20) or self._read(data, len(data) + 1)
        reported = {i: fault for i, fault in faults.items() if fault}
        if columns is not None and len(columns[self._layout.item_id]) == len(numbers):
            return Parsed(columns, numbers, reported)
        return self._parse_each(lines, numbers, reported)

    def _parse_each(self, lines: Lines, numbers: Indices, faults: dict[int, str]) -> Parsed:
        """Parses line by line, because Arrow rejects lines without a fault that is known here."""
        parts, kept = [], []
        for i in numbers.tolist():
            columns = self._read(lines[i] + b"\n", len(lines[i]) + 2)
            if columns is not None and len(columns[self._layout.item_id]) == 1:
                parts.append(columns)
                kept.append(i)
            else:
                faults[i] = f"expected a click, found {shown(lines[i])}"
        joined = {name: pa.concat_arrays([part[name] for part in parts] or [pa.array([], pa.string())]) for name in self._types}
        return Parsed(joined, np.array(kept, np.int64), faults)

    def _read(self, data: bytes, block_size: int) -> dict[str, pa.Array] | None:
        """The needed columns; None if Arrow rejects a line."""
        if not data:
            return {name: pa.array([], kind) for name, kind in self._types.items()}
        layout = self._layout
        clicked_at = layout.clicked_at
        for kind in dict.fromkeys([self._types[clicked_at], pa.string()]):
            types = {**self._types, clicked_at: kind}
            try:
                table = pacsv.read_csv(
                    pa.BufferReader(data),
                    read_options=pacsv.ReadOptions(column_names=list(layout.columns), block_size=block_size),
                    parse_options=pacsv.ParseOptions(delimiter=layout.delimiter, quote_char='"' if layout.is_quoted else False),
                    convert_options=pacsv.ConvertOptions(
                        column_types=types, include_columns=list(types), null_values=[], strings_can_be_null=False
                    ),
                )
            except pa.ArrowInvalid:
                continue
            self._types[clicked_at] = kind  # a file with times of another kind probably has more of them
            return {name: one_chunk(table.column(name)) for name in types}
        return None

    def _blank(self, lines: Lines) -> Indices:
        return np.array([i for i in np.flatnonzero(lines.ends - lines.starts <= 1) if not lines[int(i)]], np.int64)

    def _faults(self, lines: Lines) -> dict[int, str]:
        """The faults of lines that Arrow must not see, by line number; empty for blank lines."""
        layout = self._layout
        faults: dict[int, str] = {}
        n_delimiters = np.bincount(np.searchsorted(lines.ends, lines.find(layout.delimiter)), minlength=len(lines))
        ragged = n_delimiters != len(layout.columns) - 1
        quoted = lines.of(lines.find('"')) if layout.is_quoted else np.zeros(0, np.int64)
        ragged[quoted] = False
        names = layout.delimiter.join(layout.columns)
        wrong = np.flatnonzero(ragged)
        for i, line, n_fields in zip(wrong.tolist(), lines.pick(wrong), (n_delimiters[wrong] + 1).tolist(), strict=True):
            faults[i] = (
                f"expected {len(layout.columns)} fields ({names!r}), found {n_fields}: {shown(line)}" if line.strip() else ""
            )
        for i, line in zip(quoted.tolist(), lines.pick(quoted), strict=True):
            fault = self._quoted_fault(line, names)
            if fault:
                faults[i] = fault
        for i in lines.with_lone_return().tolist():
            faults[i] = f"expected one line, found a carriage return within it: {shown(lines[i])}" if lines[i].strip() else ""
        for i in lines.not_utf8().tolist():
            faults[i] = f"expected UTF-8 text, found {shown(lines[i])}"
        return faults

    def _quoted_fault(self, line: bytes, names: str) -> str | None:
        assert self._line is not None  # noqa: S101 (for mypy)
        field_pattern, whole = self._line
        if whole.fullmatch(line):
            return None
        rest, n_fields = line, 0
        while match := field_pattern.match(rest):
            n_fields += 1
            rest = rest[match.end() :]
            if not rest:
                return f"expected {len(self._layout.columns)} fields ({names!r}), found {n_fields}: {shown(line)}"
            rest = rest[1:]
        return f"expected each quote to be closed, found {shown(line)}"


def _line_pattern(layout: Layout) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Patterns of a field and of a line, as Arrow parses quotes: one at the start of a field opens it, two inside are one."""
    other = rb"[^" + re.escape(layout.delimiter.encode()) + rb"]*"
    field = rb'(?:"(?:[^"]|"")*+"' + other + rb'|(?!")' + other + rb")"
    rest = rb"(?:" + re.escape(layout.delimiter.encode()) + field + rb"){" + str(len(layout.columns) - 1).encode() + rb"}"
    return re.compile(field, re.DOTALL), re.compile(field + rest, re.DOTALL)


class _Number(str):
    """A number as it is written in JSON."""

    __slots__ = ()


class _Constant(float):
    """NaN or an infinity: not valid JSON and no value of a click, but accepted in fields that aren't read."""


_decode: Callable[[str], tuple[Any, int]] = json.JSONDecoder(
    parse_int=_Number, parse_float=_Number, parse_constant=_Constant, object_pairs_hook=tuple
).raw_decode
"""Decodes the first value of a text, and returns its end; objects are tuples of pairs, to detect repeated keys."""
_PLAIN = frozenset([str, _Number, type(None)])


def _with_texts(kind: Any) -> Any:
    """A schema or a type with strings instead of numbers."""
    if isinstance(kind, pa.Schema):
        return pa.schema([(field.name, _with_texts(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(_with_texts(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _with_texts(field.type)) for field in kind])
    return kind if pa.types.is_boolean(kind) else pa.string()


def _escaped(key: str) -> bytes:
    """A pattern for a key as written in JSON, without its quotes."""
    return re.escape(json.dumps(key, ensure_ascii=False)[1:-1].encode())


class _LineError(Exception):
    """What is wrong with a line."""


class JsonParser:
    """Parses lines with one JSON object each; a text and a number may be the same id."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._list_key = layout.list_key
        self._schema: pa.Schema | None = None
        self._kinds: dict[str, pa.DataType] = {}
        self._is_mixed = False
        self._required = {layout.session_id, layout.item_id, layout.clicked_at, *filter(None, [layout.time_offset])}
        start = "" if self._list_key is None else f"{self._list_key}[]."
        self._names = layout.needed
        self._places = [(name.removeprefix(start), name.startswith(start)) for name in self._names]
        self._keys = [key for key, _ in self._places]
        self._number = re.compile(rb"(\"(?:" + b"|".join(map(_escaped, self._keys)) + rb")\"\s*:\s*)" + _JSON_NUMBER)

    def parse(self, data: bytes) -> Parsed:
        """The columns of some whole lines."""
        lines = Lines(data)
        suspects = self._suspects(lines)
        rest, numbers = lines.without(suspects)
        parts: list[Parsed] = []
        if len(numbers):
            self._schema = self._schema or self._guess(lines, numbers)
            whole = self._read_alike(rest, numbers) if self._is_mixed else self._read(rest, numbers, self._schema)
            parts = [whole] if whole is not None else list(self._without_odd(lines, suspects, numbers))
        if len(suspects):
            parts.append(self._parse_each(lines, suspects))
        return self._in_order(parts)

    def _suspects(self, lines: Lines) -> Indices:
        """Lines that may not be exactly one JSON object, on which Arrow would crash, or which it would split."""
        padded = np.append(lines.bytes, ord("\n"))
        ends = lines.ends - (padded[np.maximum(lines.ends - 1, 0)] == ord("\r"))
        is_object = (padded[lines.starts] == ord("{")) & (padded[np.maximum(ends - 1, 0)] == ord("}"))
        closed = lines.find("}")
        follows = padded[closed + 1]
        continues = closed[~np.isin(follows, np.frombuffer(b",}]\r\n", np.uint8))]
        parts = [np.flatnonzero(~is_object), lines.of(continues), lines.with_lone_return(), lines.not_utf8()]
        if b"\0" in lines.data:
            parts.append(lines.of(lines.find("\0")))
        if any(start in lines.data for start in (b":-0", b" -0", b"\t-0")):  # which Arrow reads as 0
            parts.append(lines.of(np.array([match.start() for match in _MINUS_ZERO.finditer(lines.data)], np.int64)))
        if b"NaN" in lines.data or b"Inf" in lines.data:  # Arrow accepts more of them than JSON writers use
            parts.append(lines.of(np.array([match.start() for match in _CONSTANT.finditer(lines.data)], np.int64)))
        long = np.flatnonzero(lines.ends - lines.starts > 2 * _MAX_DEPTH)
        openers = (line.count(b"[") + line.count(b"{") for line in lines.pick(long))
        parts.append(long[np.fromiter(openers, np.int64, len(long)) > _MAX_DEPTH])
        suspects: Indices = np.unique(np.concatenate(parts)).astype(np.int64)
        return suspects

    def _guess(self, lines: Lines, numbers: Indices) -> pa.Schema:
        """The types of values in the first lines. Lines with other types are parsed one by one."""
        examples: dict[str, Any] = {}
        for i in numbers[:20].tolist():
            with suppress(_LineError):
                for click in self._clicks_of(lines[i])[:1]:
                    present = {name: value for name, value in zip(self._names, click, strict=True) if value is not None}
                    examples = {**present, **examples}
        self._kinds = {name: self._type_of(name, examples.get(name)) for name in self._names}
        fields = list(self._kinds.items())
        if self._list_key is None:
            return pa.schema(fields)
        start = f"{self._list_key}[]."
        inside = pa.struct([(name.removeprefix(start), kind) for name, kind in fields if name.startswith(start)])
        return pa.schema([*(field for field in fields if not field[0].startswith(start)), (self._list_key, pa.list_(inside))])

    def _type_of(self, name: str, example: Any) -> pa.DataType:
        if isinstance(example, _Number):
            if name == self._layout.clicked_at:
                return {"iso": pa.string(), "s": pa.float64()}.get(self._layout.time_unit, pa.int64())
            return pa.int64()
        return pa.bool_() if isinstance(example, bool) and name not in self._required else pa.string()

    def _without_odd(self, lines: Lines, suspects: Indices, numbers: Indices) -> Iterator[Parsed]:
        """Parses lines that Arrow rejects together: the probable causes one by one, if they are few, the others together."""
        odd = np.intersect1d(self._odd(lines), numbers)
        if 0 < len(odd) <= _MAX_ODD_SHARE * len(numbers):
            rest, others = lines.without(np.union1d(suspects, odd))
            parsed = self._read_alike(rest, others)
            if parsed is not None:
                yield parsed
                yield self._parse_each(lines, odd)
                return
        yield from self._in_pieces(lines, numbers)

    def _odd(self, lines: Lines) -> Indices:
        """Lines with a repeated needed key, or with a value of another type than in the first lines."""
        texts = lines.as_array()
        misfits = []
        is_odd = np.zeros(len(lines), np.bool_)
        for name, (key, is_inside) in zip(self._names, self._places, strict=True):
            start = _escaped(key).decode()
            misfits.append(rf'"{start}"\s*:\s*(?:{_MIXED_MISFIT if self._is_mixed else _MISFIT[self._kinds[name]]})')
            quoted = json.dumps(key, ensure_ascii=False)
            if (self._list_key is None or not is_inside) and lines.data.count(quoted.encode()) > len(lines):
                is_odd |= pc.count_substring(texts, quoted).to_numpy() > 1
        is_odd |= pc.match_substring_regex(texts, "|".join(misfits)).to_numpy(zero_copy_only=False)
        return np.flatnonzero(is_odd)

    def _in_pieces(self, lines: Lines, numbers: Indices) -> Iterator[Parsed]:
        """Parses lines that Arrow rejects together in pieces, and the lines of rejected pieces one by one."""
        n_refused = n_taken = 0
        for piece in np.array_split(numbers, -(-len(numbers) // _PIECE_LINES)):
            parsed = None
            if len(numbers) > _PIECE_LINES and n_refused <= n_taken + _MAX_REFUSED:
                parsed = self._read_alike(b"\n".join([*lines.pick(piece), b""]), piece)
                n_refused, n_taken = n_refused + (parsed is None), n_taken + (parsed is not None)
            yield parsed if parsed is not None else self._parse_each(lines, piece)

    def _read_alike(self, data: bytes, numbers: Indices) -> Parsed | None:
        """The columns of lines that Arrow accepts, if needed with numbers as texts; else None."""
        parsed = None if self._is_mixed else self._read(data, numbers, self._schema)
        if parsed is None:
            parsed = self._read(self._number.sub(rb'\1"\2"', data), numbers, _with_texts(self._schema))
            self._is_mixed = self._is_mixed or parsed is not None  # later blocks probably have both too
        return parsed

    def _read(self, data: bytes, numbers: Indices, schema: pa.Schema) -> Parsed | None:
        try:
            table = pajson.read_json(
                pa.BufferReader(data),
                read_options=pajson.ReadOptions(block_size=len(data) + 1),
                parse_options=pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
            )
        except pa.ArrowException:
            return None
        if len(table) != len(numbers):
            return None
        columns = {name: one_chunk(table.column(name)) for name in table.column_names}
        if self._list_key is None:
            return Parsed(columns, numbers)
        clicks = columns.pop(self._list_key)
        if clicks.null_count or clicks.flatten().null_count:
            return None
        row_of = pc.list_parent_indices(clicks)
        objects = clicks.flatten()
        flat = {name: column.take(row_of) for name, column in columns.items()}
        inside = zip(objects.type, objects.flatten(), strict=True)
        flat.update({f"{self._list_key}[].{field.name}": one_chunk(column) for field, column in inside})
        return Parsed(flat, numbers[row_of.to_numpy()])

    def _in_order(self, parts: Sequence[Parsed]) -> Parsed:
        """Joins parts in the order of the lines; columns with different types become texts."""
        if len(parts) == 1:
            return parts[0]
        columns = {}
        for name in self._names:
            arrays = [part.columns[name] for part in parts if len(part.columns[name])]
            kinds = {array.type for array in arrays}
            if len(kinds) > 1:
                arrays = [array.cast(pa.string()) for array in arrays]
            columns[name] = pa.concat_arrays(arrays) if arrays else pa.array([], pa.string())
        line_of = np.concatenate([part.line_of for part in parts if part.line_of is not None] or [np.zeros(0, np.int64)])
        faults = {i: fault for part in parts for i, fault in part.faults.items()}
        if (np.diff(line_of) < 0).any():
            order = np.argsort(line_of, kind="stable")
            columns = {name: column.take(pa.array(order)) for name, column in columns.items()}
            line_of = line_of[order]
        return Parsed(columns, line_of, faults)

    def _parse_each(self, lines: Lines, numbers: Indices) -> Parsed:
        """Parses lines one by one, independently of each other."""
        rows: list[list[str | None]] = []
        line_of: list[int] = []
        faults: dict[int, str] = {}
        for i, line in zip(numbers.tolist(), lines.pick(numbers), strict=True):
            if not line.strip():
                continue
            try:
                clicks = [self._texts_of(click, line) for click in self._clicks_of(line)]
            except _LineError as error:
                faults[i] = str(error)
                continue
            rows += clicks
            line_of += [i] * len(clicks)
        texts = zip(*rows, strict=True) if rows else [()] * len(self._names)
        columns = {name: pa.array(column, pa.string()) for name, column in zip(self._names, texts, strict=True)}
        return Parsed(columns, np.array(line_of, np.int64), faults)

    def _clicks_of(self, line: bytes) -> list[list[Any]]:
        """The needed values of each click of a line, in the order of `Layout.needed`; None for missing ones."""
        try:
            text = line.decode().strip(" \t")
            pairs, end = _decode(text)
        except UnicodeDecodeError:
            raise _LineError(f"expected UTF-8 text, found {shown(line)}") from None
        except RecursionError:
            raise _LineError(f"expected a JSON object that isn't nested so deeply, found {shown(line)}") from None
        except ValueError as error:
            raise _LineError(f"expected a JSON object, found {shown(line)} ({error})") from None
        if end != len(text):
            raise _LineError(f"expected one JSON object, found more after it: {shown(line)}")
        outer = self._values(pairs, line)
        if self._list_key is None:
            return [[outer.get(key) for key in self._keys]]
        clicks = outer.get(self._list_key)
        if not isinstance(clicks, list):
            raise _LineError(f"column {self._list_key!r}: expected a list of objects, found {shown(line)}")
        inner = [self._values(click, line) for click in clicks]
        return [[(values if is_inside else outer).get(key) for key, is_inside in self._places] for values in inner]

    def _values(self, pairs: Any, line: bytes) -> dict[str, Any]:
        """An object's values by key."""
        if not isinstance(pairs, tuple):
            raise _LineError(f"expected a JSON object, found {shown(line)}")
        values = dict(pairs)
        if len(values) != len(pairs):
            keys = [key for key, _ in pairs]
            for name in [self._list_key, *self._keys]:
                if keys.count(name) > 1:
                    raise _LineError(f"expected the key {name!r} once, found it twice, which is ambiguous: {shown(line)}")
        return values

    def _texts_of(self, click: list[Any], line: bytes) -> list[str | None]:
        """A click's values as texts."""
        if _PLAIN.issuperset(map(type, click)) and b"\\u" not in line:
            return click
        if self._layout.where:
            value_of = dict(zip(self._names, click, strict=True))
            compared = {
                condition.column: self._text_of(condition.column, value_of[condition.column], line)
                for condition in self._layout.where
            }
            if any((compared[condition.column] == condition.value) != condition.is_equal for condition in self._layout.where):
                return [compared.get(name) for name in self._names]  # left out, whatever its other values
        return [self._text_of(name, value, line) for name, value in zip(self._names, click, strict=True)]

    def _text_of(self, name: str, value: Any, line: bytes) -> str | None:
        if isinstance(value, str):
            if value.isascii() or is_utf8(value.encode("utf-8", "surrogatepass")):
                return value
            raise _LineError(f"column {name!r}: expected UTF-8 text, found half of a character: {shown(line)}")
        if value is None:
            return None if name in self._required else ""
        if isinstance(value, bool) and name not in self._required:
            return "true" if value else "false"
        kinds = "a text or a number" if name in self._required else "a text, a number, true, false or null"
        names = {tuple: "an object", list: "a list", _Constant: "NaN or an infinity"}
        actual = names.get(type(value)) or str(value).lower()
        raise _LineError(f"column {name!r}: expected {kinds}, found {actual}: {shown(line)}")


_JSON_NUMBER = rb"(-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)(?=[\s,}\]])"
_MISFIT = {
    pa.int64(): r"[^-\s0-9n]|-?[0-9]+[.eE]|-?[0-9]{19}",
    pa.float64(): r"[^-\s0-9n]",
    pa.string(): r'[^"\sn]',
    pa.bool_(): r"[^tf\sn]",
}
"""The beginning of a value that is neither of a type nor null."""
_MIXED_MISFIT = r'[^-\s0-9"n]'
_CONSTANT = re.compile(rb"[:\[,]\s*-?(?:NaN|Inf)")
_MINUS_ZERO = re.compile(rb":\s*-0")
