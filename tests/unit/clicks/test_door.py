"""What is taken at the door and what is rejected: ids and times by their exact text, in every format alike."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sbr_tasks.clicks import formats
from sbr_tasks.clicks.formats import Block, read_blocks
from sbr_tasks.clicks.ingest import read_files
from sbr_tasks.clicks.lines import Indices, JsonParser, Lines, Parsed
from sbr_tasks.clicks.rejects import Reject, Rejects
from sbr_tasks.clicks.sessions import cut_sessions
from sbr_tasks.errors import SettingsError, SourceError
from sbr_tasks.settings import SourceSettings, load_settings

NOW = datetime(2020, 6, 1, tzinfo=UTC)
AT = "2020-01-01T10:00:00Z"
AT_US = 1_577_872_800_000_000


def source_of(format_name: str, **others: Any) -> SourceSettings:
    return SourceSettings.model_validate({"format": format_name, **others})


def read(file: Path, source: SourceSettings) -> tuple[list[tuple[Any, ...]], list[Reject], list[Block]]:
    """The clicks with times in microseconds, the rejected lines, and the blocks."""
    blocks = list(read_blocks(file, source, NOW))
    table = pa.concat_tables(block.table for block in blocks)
    table = table.set_column(2, "clicked_at", table.column("clicked_at").cast(pa.int64()))
    clicks = [tuple(row.values()) for row in table.to_pylist()]
    return clicks, [reject for block in blocks for reject in block.rejects], blocks


def write(folder: Path, lines: Sequence[str | bytes], header: str = "") -> Path:
    file = folder / "clicks"
    encoded = [line.encode() if isinstance(line, str) else line for line in lines]
    file.write_bytes(b"".join(line + b"\n" for line in ([header.encode()] if header else []) + encoded))
    return file


def write_item(folder: Path, kind: str, item: str) -> tuple[Path, SourceSettings]:
    """Three clicks, the second on an item that is written in a way of its own."""
    header = "session_id,item_id,clicked_at"
    if kind == "csv":
        return write(folder, [f"1,5,{AT}", f"1,{item},{AT}", f"1,6,{AT}"], header), source_of("csv")
    if kind == "quoted csv":
        return write(folder, [f"1,5,{AT}", f'1,"{item}",{AT}', f'1,"6",{AT}'], header), source_of("csv")
    if kind == "jsonl":
        lines = [json.dumps({"session_id": 1, "item_id": one, "clicked_at": AT}) for one in (5, item, "6")]
        return write(folder, lines), source_of("jsonl")
    table = pa.table({"session_id": ["1"] * 3, "item_id": ["5", item, "6"], "clicked_at": [AT] * 3})
    pq.write_table(table, folder / "clicks.parquet")
    return folder / "clicks.parquet", source_of("parquet")


KINDS = ["csv", "quoted csv", "jsonl", "parquet"]
ODD_IDS = [
    "007",
    "+5",
    "-5",
    "-0",
    "0x10",
    "0xFFFFFFFF",
    "1e3",
    "1,000",
    "\u0665",
    "\uff15",
    " 5",
    "5 ",
    "5.0",
    "9223372036854775808",
    "9" * 4301,
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("item", ODD_IDS, ids=lambda item: ascii(item)[:24])
def test_id_that_is_no_canonical_decimal_is_rejected_with_a_hint(tmp_path: Path, kind: str, item: str) -> None:
    file, source = write_item(tmp_path, kind, item if kind != "csv" else item.replace(",", "."))
    clicks, rejects, _ = read(file, source)
    assert [click[1] for click in clicks] == [5, 6]
    assert len(rejects) == 1
    assert "column 'item_id'" in rejects[0].reason
    assert "set source.id_type=string" in rejects[0].reason


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("item", [item for item in ODD_IDS if "," not in item], ids=lambda item: ascii(item)[:24])
def test_string_ids_are_kept_to_the_letter(tmp_path: Path, kind: str, item: str) -> None:
    file, source = write_item(tmp_path, kind, item)
    clicks, rejects, _ = read(file, source.model_copy(update={"id_type": "string"}))
    assert [click[1] for click in clicks] == ["5", item, "6"]
    assert not rejects


@pytest.mark.parametrize("largest", [0, 9, 10, 2**53 + 1, 2**63 - 1])
@pytest.mark.parametrize("kind", KINDS)
def test_every_64_bit_id_is_stored_exactly(tmp_path: Path, kind: str, largest: int) -> None:
    file, source = write_item(tmp_path, kind, str(largest))
    assert [click[1] for click in read(file, source)[0]] == [5, largest, 6]


def test_json_ids_and_categories_are_read_by_value(tmp_path: Path) -> None:
    values = [(1, "a"), ("2", 7), (3, 2.50), (4, True), ("5", None), (6, "b")]
    lines = [
        json.dumps({"session_id": 1, "item_id": item, "clicked_at": AT, "kind": kind}).replace("2.5", "2.50")
        for item, kind in values
    ]
    file, columns = write(tmp_path, lines), {"category": "kind"}
    clicks, _, _ = read(file, source_of("jsonl", columns=columns))
    assert [(click[1], click[3]) for click in clicks] == [(1, "a"), (2, "7"), (3, "2.50"), (4, "true"), (5, ""), (6, "b")]
    texts, _, _ = read(file, source_of("jsonl", columns=columns, id_type="string"))
    assert [click[1] for click in texts] == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize("number", ["1", "-0", "1.50", "1e3", "12345678901234567890"])
def test_json_number_as_string_id_is_its_text(tmp_path: Path, number: str) -> None:
    line = f'{{"session_id": "a", "item_id": {number}, "clicked_at": "{AT}"}}'
    assert read(write(tmp_path, [line, line]), source_of("jsonl", id_type="string"))[0][0][1] == number


@pytest.mark.parametrize("item", ["null", "true", "[1]", '{"a": 1}', '"\\ud800"', "1e3", "1.0", "9007199254740993.0", '""'])
def test_json_value_that_is_no_id_is_rejected(tmp_path: Path, item: str) -> None:
    good = f'{{"session_id": 1, "item_id": 5, "clicked_at": "{AT}"}}'
    clicks, rejects, _ = read(write(tmp_path, [good, good.replace("5", item, 1), good]), source_of("jsonl"))
    assert [click[1] for click in clicks] == [5, 5]
    assert [(reject.line, "item_id" in reject.reason) for reject in rejects] == [(2, True)]


GOOD = f'{{"session_id": 1, "item_id": 5, "clicked_at": "{AT}", "x": "}} {{"}}'


@pytest.mark.parametrize(
    "bad",
    [
        "null",
        "5",
        "[]",
        '"text"',
        "true",
        GOOD + GOOD,
        GOOD + " null",
        GOOD + " null " + GOOD,
        GOOD + "\r" + GOOD,
        GOOD + "," + GOOD,
        GOOD[:-1],
        GOOD[1:],
        "}" + GOOD[1:],
        GOOD.replace("}", "\0}"),
        GOOD.replace('"x"', '"item_id": 6, "x"'),
        GOOD.encode().replace(b"} {", b"\xff"),
        GOOD.encode().replace(b"} {", b"\xed\xa0\x80"),
        "[" * 100_000,
    ],
    ids=lambda bad: ascii(bad)[:40],
)
@pytest.mark.parametrize("n_good", [1, 3000])
def test_bad_json_line_harms_no_other_line(tmp_path: Path, bad: str | bytes, n_good: int) -> None:
    clicks, rejects, _ = read(write(tmp_path, [GOOD] * n_good + [bad] + [GOOD] * n_good), source_of("jsonl"))
    assert len(clicks) == 2 * n_good
    assert [reject.line for reject in rejects] == [n_good + 1]


PLAIN = GOOD.replace('"} {"', "0")
"""A line that Arrow reads together with others."""

ODD_LINES = [
    GOOD.replace('"} {"', "NaN"),
    GOOD.replace('"} {"', "-Infinity"),
    GOOD.replace('"} {"', "Inf"),
    GOOD.replace('"} {"', "-NaN"),
    GOOD.replace('"} {"', "[" * 3000 + "]" * 3000),
    GOOD.replace('"} {"', '{"a":' * 3000 + "1" + "}" * 3000),
    GOOD.replace('"} {"', "9" * 5000),
    GOOD.replace('"} {"', r'"\ud83d"'),
    GOOD.replace('"} {"', '"\x01"'),
    PLAIN.replace("item_id", r"item\u005fid"),
    PLAIN.replace('"x"', r'"item\u005fid": 6, "x"'),
    PLAIN.replace(" 5,", " NaN,"),
    PLAIN.replace(" 5,", " -0,"),
    PLAIN.replace(" 5,", ' "5",'),
    PLAIN.replace(" 5,", " [5],"),
    PLAIN.replace(" 5,", " false,"),
    PLAIN.replace(" 5,", " 5.5,"),
    PLAIN.replace('"x"', '"item_id": 6, "x"'),
    "  " + PLAIN + "  ",
]


@pytest.mark.parametrize("line", ODD_LINES, ids=lambda line: ascii(line)[:90])
@pytest.mark.parametrize(
    "beside", [[PLAIN], [PLAIN] * 3000, [PLAIN, PLAIN.replace(" 5,", " true,")], [PLAIN, PLAIN.replace(" 5,", ' "5",')]]
)
def test_odd_json_line_fares_alike_beside_any_others(tmp_path: Path, line: str, beside: list[str]) -> None:
    alone, _, _ = read(write(tmp_path, [PLAIN, line]), source_of("jsonl"))
    others, _, _ = read(write(tmp_path, beside), source_of("jsonl"))
    together, _, _ = read(write(tmp_path, [*beside, line]), source_of("jsonl"))
    assert len(together) - len(others) == len(alone) - 1


@pytest.mark.parametrize("bad", [" [5],", " true,", ' "x",', " 5.5,", ' 5, "item_id": 6,'])
def test_good_lines_beside_bad_ones_are_not_read_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: str) -> None:
    numbers_read: list[int] = []
    parse_each = JsonParser._parse_each

    def count(self: JsonParser, lines: Lines, numbers: Indices) -> Parsed:
        numbers_read.extend(numbers)
        return parse_each(self, lines, numbers)

    monkeypatch.setattr(JsonParser, "_parse_each", count)
    clicks, rejects, _ = read(write(tmp_path, [*[PLAIN] * 9, PLAIN.replace(" 5,", bad)] * 500), source_of("jsonl"))
    assert (len(clicks), len(rejects)) == (4500, 500)
    assert numbers_read == list(range(9, 5000, 10))


def test_two_lines_that_share_an_object_are_two_bad_lines(tmp_path: Path) -> None:
    first, second = GOOD.split(", ", 1)
    clicks, rejects, _ = read(write(tmp_path, [GOOD, first + ",", second, GOOD + GOOD, GOOD]), source_of("jsonl"))
    assert len(clicks) == 2
    assert [reject.line for reject in rejects] == [2, 3, 4]


def test_clicks_keep_the_order_of_their_lines_around_bad_ones(tmp_path: Path) -> None:
    lines = [f'{{"session_id": 1, "item_id": {i}, "clicked_at": "{AT}"}}' for i in range(6000)]
    lines[10], lines[4000] = lines[10].replace("10", '"10"', 1), "null"
    clicks, _, _ = read(write(tmp_path, lines), source_of("jsonl"))
    assert [click[1] for click in clicks] == [i for i in range(6000) if i != 4000]


@pytest.mark.parametrize("bad", [b"1,\xff,5", b"1,a\r2,5", b'1,"a,5', b'1,a"b,5,"', b"1,a", b"1,a,5,6", b'"1"",a,5', b"\xff"])
@pytest.mark.parametrize("n_good", [1, 3000])
def test_bad_csv_line_harms_no_other_line(tmp_path: Path, bad: bytes, n_good: int) -> None:
    good = f"{AT},a,5".encode()
    lines = [good] * n_good + [bad.replace(b"1", AT.encode(), 1)] + [good] * n_good
    source = source_of("csv", columns={"session_id": "s", "item_id": "i", "clicked_at": "t"}, id_type="string")
    clicks, rejects, _ = read(write(tmp_path, lines, "t,s,i"), source)
    assert len(clicks) == 2 * n_good
    assert [reject.line for reject in rejects] == [n_good + 2]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_blank_lines_may_come_before_the_first_line(tmp_path: Path, kind: str, end: str) -> None:
    lines = [f"session_id,item_id,clicked_at{end}1,5,{AT}", "1,x,noon"] if kind == "csv" else [GOOD, "null"]
    file = tmp_path / "c"
    file.write_text(f"{end}{end}{end.join(lines)}{end}", newline="")
    clicks, rejects, _ = read(file, source_of(kind))
    assert clicks == [(1, 5, AT_US, "")]
    assert [reject.line for reject in rejects] == [5 if kind == "csv" else 4]


@pytest.mark.parametrize("text", ["\n\n", "\r\n", " \n\n"])
def test_file_of_blank_lines_is_an_empty_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "c").write_text(text)
    with pytest.raises(SourceError, match="found an empty file"):
        read(tmp_path / "c", source_of("csv"))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-16", "utf-32"])
def test_wide_text_is_called_so_with_and_without_a_mark(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "c").write_bytes(f"session_id,item_id,clicked_at\n1,5,{AT}\n".encode(encoding))
    with pytest.raises(SourceError, match="it is UTF-16 text; save it as UTF-8"):
        read(tmp_path / "c", source_of("csv"))


@pytest.mark.parametrize("encoded", [pa.string(), pa.large_string(), pa.string_view(), pa.binary()])
def test_parquet_text_that_is_no_utf8_is_a_bad_line(tmp_path: Path, encoded: pa.DataType) -> None:
    items = pa.array([b"a", b"\xff", b"c"], pa.binary())
    if encoded == pa.string():
        items = pa.Array.from_buffers(pa.string(), 3, items.buffers())
    elif encoded != pa.binary():
        items = pa.array([b"a", b"\xff", b"c"], pa.large_binary() if encoded == pa.large_string() else pa.binary_view())
        items = items.view(encoded) if encoded == pa.large_string() else items
    pq.write_table(pa.table({"session_id": ["s"] * 3, "item_id": items, "clicked_at": [AT] * 3}), tmp_path / "c.parquet")
    clicks, rejects, _ = read(tmp_path / "c.parquet", source_of("parquet", id_type="string"))
    assert [click[1] for click in clicks] == ["a", "c"]
    assert [reject.place for reject in rejects] == ["row 2 (row group 0)"]
    assert rejects[0].reason == r"column 'item_id': expected UTF-8 text, found '\\xff'"


NAIVE = pa.array([AT_US], pa.timestamp("us"))


@pytest.mark.parametrize(
    "times",
    [
        pa.array([AT]).dictionary_encode(),
        pa.array([AT], pa.large_string()),
        pa.array([AT], pa.string_view()),
        pa.array([AT.encode()], pa.binary()),
        pa.array([AT_US * 1000], pa.timestamp("ns", tz="Asia/Tokyo")),
        pa.array([AT_US // 1_000_000], pa.timestamp("s", tz="UTC")),
    ],
    ids=lambda times: str(times.type),
)
def test_parquet_times_are_read_in_any_encoding(tmp_path: Path, times: pa.Array) -> None:
    pq.write_table(pa.table({"session_id": [1], "item_id": [5], "clicked_at": times}), tmp_path / "c.parquet")
    assert read(tmp_path / "c.parquet", source_of("parquet"))[0] == [(1, 5, AT_US, "")]


@pytest.mark.parametrize(
    ("category", "expected"),
    [
        (pa.array([5]), "5"),
        (pa.array([2.5]), "2.5"),
        (pa.array([True]), "true"),
        (pa.nulls(1), ""),
        (pa.array([None], pa.string()), ""),
        (pa.array(["a"]).dictionary_encode(), "a"),
        (pa.array(["a"], pa.string_view()), "a"),
        (pa.array(["a"], pa.large_string()), "a"),
    ],
    ids=str,
)
def test_parquet_category_may_be_of_any_type(tmp_path: Path, category: pa.Array, expected: str) -> None:
    pq.write_table(pa.table({"session_id": [1], "item_id": [5], "clicked_at": [AT], "kind": category}), tmp_path / "c.parquet")
    assert read(tmp_path / "c.parquet", source_of("parquet", columns={"category": "kind"}))[0][0][3] == expected


def test_doubles_are_ids_up_to_2_to_the_53(tmp_path: Path) -> None:
    items = pa.array([5.0, 2.0**53, 2.0**53 + 2, 1.5, float("nan")])
    pq.write_table(pa.table({"session_id": [1] * 5, "item_id": items, "clicked_at": [AT] * 5}), tmp_path / "c.parquet")
    clicks, rejects, _ = read(tmp_path / "c.parquet", source_of("parquet"))
    assert [click[1] for click in clicks] == [5, 2**53]
    assert [reject.line for reject in rejects] == [3, 4, 5]


def item_ids(folder: Path, items: pa.Array, id_type: str) -> tuple[list[Any], list[Reject]]:
    table = pa.table({"session_id": [1] * len(items), "item_id": items, "clicked_at": [AT] * len(items)})
    pq.write_table(table, folder / "c.parquet")
    clicks, rejects, _ = read(folder / "c.parquet", source_of("parquet", id_type=id_type))
    return [click[1] for click in clicks], rejects


@pytest.mark.parametrize("kind", [pa.decimal128(20, 0), pa.decimal128(38, 18), pa.decimal256(40, 2), pa.uint64()], ids=str)
def test_wide_numbers_of_parquet_are_exact_ids(tmp_path: Path, kind: pa.DataType) -> None:
    numbers = [0, 7, 2**53 + 1, 2**63 - 1, None, 2**63]
    items = pa.array([None if number is None else Decimal(number) for number in numbers], kind)
    found, rejects = item_ids(tmp_path, items, "integer")
    assert found == numbers[:-1]
    assert [reject.line for reject in rejects] == [6]
    assert "source.id_type=string" in rejects[0].reason
    found, rejects = item_ids(tmp_path, items, "string")
    assert found == [None if number is None else str(number) for number in numbers]
    assert not rejects


@pytest.mark.parametrize("id_type", ["integer", "string"])
@pytest.mark.parametrize(
    ("items", "expected", "bad_rows"),
    [
        (pa.array([Decimal("5.0"), Decimal("6.5")], pa.decimal128(20, 1)), [5], [2]),
        (pa.array([Decimal(3), Decimal("1E-18")], pa.decimal128(38, 18)), [3], [2]),
        (pa.array([2.0**24, 2.0**24 + 2], pa.float32()), [2**24], [2]),
        (pa.array([2.0**11, 2.0**11 + 2]).cast(pa.float16()), [2**11], [2]),
    ],
    ids=str,
)
def test_number_that_may_have_been_rounded_is_no_id(
    tmp_path: Path, id_type: str, items: pa.Array, expected: list[int], bad_rows: list[int]
) -> None:
    found, rejects = item_ids(tmp_path, items, id_type)
    assert found == (expected if id_type == "integer" else [str(one) for one in expected])
    assert [reject.line for reject in rejects] == bad_rows
    assert all("store ids as integers or texts" in reject.reason for reject in rejects)


def test_int96_is_utc_whatever_the_zone(tmp_path: Path) -> None:
    table = pa.table({"session_id": [1], "item_id": [5], "clicked_at": NAIVE})
    pq.write_table(table, tmp_path / "c.parquet", use_deprecated_int96_timestamps=True)
    for timezone in (None, "Asia/Tokyo"):
        assert read(tmp_path / "c.parquet", source_of("parquet", timezone=timezone))[0] == [(1, 5, AT_US, "")]


def test_parquet_times_without_a_zone_need_source_timezone(tmp_path: Path) -> None:
    pq.write_table(pa.table({"session_id": [1], "item_id": [5], "clicked_at": NAIVE}), tmp_path / "c.parquet")
    with pytest.raises(SourceError, match=r"c\.parquet, row group 0: .*'clicked_at' have no zone .*set source\.timezone"):
        read(tmp_path / "c.parquet", source_of("parquet"))
    clicks, _, _ = read(tmp_path / "c.parquet", source_of("parquet", timezone="Europe/Amsterdam"))
    assert clicks[0][2] == AT_US - 3_600_000_000


def test_null_time_of_parquet_is_named_with_file_row_and_column(tmp_path: Path) -> None:
    times = pa.array([AT_US, AT_US, None], pa.timestamp("us", tz="UTC"))
    table = pa.table({"session_id": [1] * 3, "item_id": [5] * 3, "clicked_at": times})
    pq.write_table(table, tmp_path / "c.parquet", row_group_size=2)
    with pytest.raises(
        SourceError, match=r"c\.parquet, row 3 \(row group 1\): column 'clicked_at': expected a time, found null"
    ):
        list(read_files([tmp_path / "c.parquet"], source_of("parquet"), now=NOW))


@pytest.mark.parametrize(
    ("text", "timezone", "expected"),
    [
        ("2020-01-01 10:00:00 UTC", None, AT_US),
        ("2020-01-01 10:00:00 UTC", "Asia/Tokyo", AT_US),
        ("2020-01-01T10:00:00+00", None, AT_US),
        ("2020-01-01 10:00:00", "UTC", AT_US),
        ("2020-01-01 11:00:00", "Europe/Amsterdam", AT_US),
        ("2020-01-01", "UTC", AT_US - 36_000_000_000),
    ],
)
@pytest.mark.parametrize("beside", [[], [f"1,6,{AT}"], ["1,6,noon"]])
def test_zone_of_a_time_is_its_own_or_the_one_that_is_set(
    tmp_path: Path, text: str, timezone: str | None, expected: int, beside: list[str]
) -> None:
    file = write(tmp_path, [f"1,5,{text}", *beside], "session_id,item_id,clicked_at")
    assert read(file, source_of("csv", timezone=timezone))[0][0] == (1, 5, expected, "")


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_missing_zone_is_called_by_its_name(tmp_path: Path, kind: str) -> None:
    naive = "2020-01-01 10:00:00"
    if kind == "csv":
        file = write(tmp_path, [f"1,5,{AT}", f"1,5,{naive}"], "session_id,item_id,clicked_at")
    else:
        file = write(tmp_path, [json.dumps({"session_id": 1, "item_id": 5, "clicked_at": one}) for one in (AT, naive)])
    (reject,) = read(file, source_of(kind))[1]
    assert reject.reason.startswith(f"column 'clicked_at': the time '{naive}' has no zone; set source.timezone")


def test_hour_that_a_zone_skips_is_no_time(tmp_path: Path) -> None:
    lines = ["1,5,2020-03-29 02:30:00", "1,5,2020-03-29 03:30:00"]
    file = write(tmp_path, lines, "session_id,item_id,clicked_at")
    clicks, rejects, _ = read(file, source_of("csv", timezone="Europe/Amsterdam"))
    assert len(clicks) == 1
    assert "the clocks of Europe/Amsterdam skip it" in rejects[0].reason


@pytest.mark.parametrize(
    ("time", "unit", "hint"),
    [
        ("1577872800", "ms", "in seconds it is 2020-01-01: set source.time_unit=s"),
        ("1577872800000", "s", "in milliseconds it is 2020-01-01: set source.time_unit=ms"),
        ("1577872800000", "us", "in milliseconds it is 2020-01-01: set source.time_unit=ms"),
        ("1577872800000000", "ms", "in microseconds it is 2020-01-01: set source.time_unit=us"),
        ("1577872800000000000", "us", "it counts nanoseconds: divide by 1,000 and set source.time_unit=us"),
        ("1577872800", "iso", "in seconds it is 2020-01-01: set source.time_unit=s"),
        (AT, "s", "set source.time_unit=iso"),
        ("2020-06-02T09:00:00Z", "iso", "if it is local time, set source.timezone"),
        ("2020-01-01T10:00:00.1234567Z", "iso", "seconds may have six decimals at most"),
        ("0", "s", "found '0', which is 1970-01-01"),
        ("1999-12-31T23:59:59Z", "iso", "expected a time from 2000-01-01 (source.earliest) to 2020-06-02 (a day after now)"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_impossible_time_is_rejected_with_what_would_fit(tmp_path: Path, time: str, unit: str, hint: str, kind: str) -> None:
    good = AT if unit == "iso" else str(AT_US * {"s": 1, "ms": 1_000, "us": 1_000_000}[unit] // 1_000_000)
    if kind == "csv":
        file = write(tmp_path, [f"1,5,{good}", f"1,5,{time}"], "session_id,item_id,clicked_at")
    else:
        file = write(tmp_path, [json.dumps({"session_id": 1, "item_id": 5, "clicked_at": one}) for one in (good, time)])
    clicks, rejects, _ = read(file, source_of(kind, time_unit=unit))
    assert [click[2] for click in clicks] == [AT_US]
    assert len(rejects) == 1
    assert hint in rejects[0].reason


def test_clock_and_earliest_day_bound_the_times(tmp_path: Path) -> None:
    lines = [f"1,5,{at}" for at in ("2020-06-02T00:00:00Z", "2020-06-02T00:00:01Z", "1996-01-01T00:00:00Z")]
    file = write(tmp_path, lines, "session_id,item_id,clicked_at")
    assert [reject.line for reject in read(file, source_of("csv"))[1]] == [3, 4]
    assert [reject.line for reject in read(file, source_of("csv", earliest=date(1995, 1, 1)))[1]] == [3]


def test_two_columns_of_one_name_are_ambiguous(tmp_path: Path) -> None:
    file = write(tmp_path, [f"1,5,{AT},6"], "session_id,item_id,clicked_at,item_id")
    with pytest.raises(SourceError, match=r"Expected one column 'item_id' .*ambiguous"):
        read(file, source_of("csv"))
    table = pa.Table.from_arrays(
        [pa.array([1]), pa.array([5]), pa.array([AT]), pa.array([6])], ["session_id", "item_id", "clicked_at", "item_id"]
    )
    pq.write_table(table, tmp_path / "c.parquet")
    with pytest.raises(SourceError, match=r"Expected one column 'item_id' .*ambiguous"):
        read(tmp_path / "c.parquet", source_of("parquet"))


def test_control_characters_of_a_header_reach_no_message(tmp_path: Path) -> None:
    file = write(tmp_path, [f"1,5,{AT}"], "session_id,item\x1b[31m_id,clicked_at")
    with pytest.raises(SourceError, match=r"found session_id,\s?item\?\[31m_id"):
        read(file, source_of("csv"))


def test_quoted_header_may_hold_the_delimiter(tmp_path: Path) -> None:
    file = write(tmp_path, [f"1,9.99,5,{AT}"], 'session_id,"price, EUR",item_id,clicked_at')
    assert read(file, source_of("csv"))[0] == [(1, 5, AT_US, "")]


def test_tab_is_a_delimiter_on_the_command_line(tmp_path: Path) -> None:
    file = write(tmp_path, [f"1\t5\t{AT}"], "session_id\titem_id\tclicked_at")
    settings = load_settings({"source.format": "csv", "source.delimiter": "\\t"})
    assert read(file, settings.source)[0] == [(1, 5, AT_US, "")]


@pytest.mark.parametrize("delimiter", ['"', "é", "\n", ";;"])
def test_delimiter_that_separates_nothing_is_refused(delimiter: str) -> None:
    with pytest.raises(SettingsError, match=r"source\.delimiter"):
        load_settings({"source": {"delimiter": delimiter}})


def test_old_mac_line_ends_are_called_so(tmp_path: Path) -> None:
    file = tmp_path / "c.csv"
    file.write_bytes(f"session_id,item_id,clicked_at\r1,5,{AT}\r".encode())
    with pytest.raises(SourceError, match="found carriage returns alone"):
        read(file, source_of("csv"))


def test_gap_without_end_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"source\.session_gap.*finite"):
        load_settings({"source.session_gap": float("inf")})


def test_movielens_file_with_only_a_header_holds_no_clicks(tmp_path: Path) -> None:
    file = write(tmp_path, [], "userId,movieId,rating,timestamp")
    assert list(read_files([file], source_of("movielens"))) == []


@pytest.mark.parametrize("error", [ValueError("columns of\nunequal size"), pa.ArrowNotImplementedError("no"), KeyError("x")])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_whatever_fails_in_a_reader_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    file, source = write_item(tmp_path, kind, "5")
    monkeypatch.setattr(formats, "_ClickMaker", fail)
    with pytest.raises(SourceError, match=r"can't be read: .*Check that the file is complete") as caught:
        read(file, source)
    assert "\n" not in str(caught.value)


def test_hopeless_import_stops_as_soon_as_the_share_cant_be_met() -> None:
    rejects, bad = Rejects(0.1), tuple(Reject("f", i, "bad", "") for i in range(20))
    rejects.add(100, bad, max_lines_left=100)
    with pytest.raises(SourceError, match=r"^21 of 101 lines read so far can't be read"):
        rejects.add(1, bad[:1], max_lines_left=100)


def test_bad_line_ends_an_import_that_allows_none_after_its_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "BLOCK_BYTES", 2_000)
    lines = [f"1,5,{AT}"] * 100 + ["oops"] * 50 + [f"1,5,{AT}"] * 500
    rejects = Rejects(0.0)
    with pytest.raises(SourceError, match="lines read so far can't be read, and none may be rejected") as caught:
        list(read_files([write(tmp_path, lines, "session_id,item_id,clicked_at")], source_of("csv"), rejects, NOW))
    assert 100 < rejects.lines < 300
    assert [f"line {102 + i}: " in str(caught.value) for i in range(11)] == [True] * 10 + [False]


def test_hopeless_file_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "BLOCK_BYTES", 2_000)
    good = f"1,5,{AT}"
    file = write(tmp_path, [good] * 10 + ["oops"] * 500 + [good] * 500, "session_id,item_id,clicked_at")
    rejects = Rejects(0.1)
    with pytest.raises(SourceError, match="lines read so far can't be read"):
        list(read_files([file], source_of("csv"), rejects, NOW))
    assert rejects.lines < 1010


@pytest.mark.parametrize(
    ("delimiter", "written", "used"),
    [(",", ";", ";"), (",", "\t", r"\\t"), (",", "|", r"\|"), (";", ",", ","), ("\t", ";", ";")],
)
@pytest.mark.parametrize("quote", ["", '"'])
def test_header_of_one_column_names_the_delimiter_that_fits(
    tmp_path: Path, delimiter: str, written: str, used: str, quote: str
) -> None:
    names = [f"{quote}{name}{quote}" for name in ("session_id", "item_id", "clicked_at")]
    file = write(tmp_path, [written.join(["1", "5", AT])], written.join(names))
    with pytest.raises(SourceError, match=rf"the header has one column, .*; set source\.delimiter={used}\.$"):
        read(file, source_of("csv", delimiter=delimiter))


@pytest.mark.parametrize("written", [";", "\t", "|"])
def test_lines_without_a_header_name_the_delimiter_they_have(tmp_path: Path, written: str) -> None:
    file = write(tmp_path, [written.join(["1", AT, "5", "0"])] * 3)
    with pytest.raises(SourceError, match=r"Its lines seem to be separated by '(;|\\t|\|)', not by ','.*source\.delimiter="):
        read(file, source_of("yoochoose"))


def test_json_lines_are_not_taken_for_a_header_with_another_delimiter(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"It looks like jsonl: try --format jsonl\.$") as caught:
        read(write(tmp_path, [GOOD]), source_of("csv", delimiter=";"))
    assert "source.delimiter" not in str(caught.value)


def refusal(tmp_path: Path, times: Sequence[object], unit: str, kind: str = "csv") -> str:
    """What an import says that may reject nothing."""
    if kind == "csv":
        file = write(tmp_path, [f"1,5,{time}" for time in times], "session_id,item_id,clicked_at")
    else:
        file = write(tmp_path, [json.dumps({"session_id": 1, "item_id": 5, "clicked_at": time}) for time in times])
    with pytest.raises(SourceError) as caught:
        list(read_files([file], source_of(kind, time_unit=unit), Rejects(), NOW))
    return str(caught.value)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize(
    ("unit", "usual", "odd", "hint"),
    [
        (
            "ms",
            AT_US // 1_000,
            AT_US // 1_000_000,
            "in seconds it is 2020-01-01, but most lines are in milliseconds: correct or",
        ),
        (
            "s",
            AT_US // 1_000_000,
            AT_US // 1_000,
            "in milliseconds it is 2020-01-01, but most lines are in seconds: correct or",
        ),
        ("s", AT_US // 1_000_000, AT, "it is ISO-8601, but most lines are in seconds: correct or"),
        ("iso", AT, AT_US // 1_000, "in milliseconds it is 2020-01-01, but most lines are in ISO-8601: correct or"),
    ],
)
def test_few_lines_of_another_unit_are_called_so_once(
    tmp_path: Path, kind: str, unit: str, usual: object, odd: object, hint: str
) -> None:
    message = refusal(tmp_path, [usual] * 40 + [odd] * 12, unit, kind)
    assert message.startswith("12 of 52 lines can't be read, and none may be rejected.")
    assert message.count(hint) == 1
    assert "source.time_unit" not in message
    assert message.count(str(odd)) == 10
    assert "(and 2 more)" in message
    assert len(message) < 1_000


def test_error_on_many_lines_of_another_unit_names_the_unit(tmp_path: Path) -> None:
    message = refusal(tmp_path, [AT_US // 1_000] * 3 + [AT_US // 1_000_000] * 12, "ms")
    assert message.count("in seconds it is 2020-01-01: set source.time_unit=s") == 1


def test_allowed_share_is_a_percentage_in_the_message() -> None:
    with pytest.raises(SourceError, match=r"^2 of 2 lines can't be read, and at most 12\.5% of all lines may be rejected"):
        Rejects(0.125).add(2, (Reject("f", 1, "bad", ""), Reject("f", 2, "bad", "")), max_lines_left=0)


def test_several_parquet_files_are_read_no_further_than_the_share_can_be_met(tmp_path: Path) -> None:
    def parquet(name: str, times: list[int | None]) -> Path:
        at = pa.array(times, pa.timestamp("us", tz="UTC"))
        pq.write_table(pa.table({"session_id": [1] * len(at), "item_id": [5] * len(at), "clicked_at": at}), tmp_path / name)
        return tmp_path / name

    files = [parquet("a", [AT_US] * 10 + [None] * 10), parquet("b", [AT_US] * 79), parquet("c", [AT_US])]
    rejects = Rejects(0.1)
    list(read_files(files, source_of("parquet"), rejects, NOW))
    assert (rejects.lines, rejects.rejected) == (100, 10)
    rejects = Rejects(0.1)
    with pytest.raises(SourceError, match=r"^10 of 20 lines read so far can't be read"):
        list(read_files(files[:2], source_of("parquet"), rejects, NOW))
    assert rejects.lines == 20


@pytest.mark.parametrize("delimiter", [",", "::", "\t"])
def test_movielens_header_may_be_separated_as_the_lines_are(tmp_path: Path, delimiter: str) -> None:
    lines = [delimiter.join(["1", "31", "2.5", "1260759144"])]
    file = write(tmp_path, lines, delimiter.join(["userId", "movieId", "rating", "timestamp"]))
    clicks, rejects, _ = read(file, source_of("movielens"))
    assert (clicks, rejects) == ([(1, 31, 1260759144000000, "")], [])


def test_clicks_of_one_user_at_one_time_keep_their_order() -> None:
    at = pa.array([0, 0, 0]).cast(pa.timestamp("us", tz="UTC"))
    table = pa.table([[7, 7, 7], [3, 1, 2], at, [""] * 3], schema=formats.click_schema("integer"))
    assert cut_sessions(table, 30).column("item_id").to_pylist() == [3, 1, 2]
