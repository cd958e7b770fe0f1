from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sbr_tasks.clicks import formats
from sbr_tasks.clicks.formats import read_blocks
from sbr_tasks.clicks.ingest import read_files
from sbr_tasks.errors import SourceError
from sbr_tasks.settings import SourceSettings

GOOD = "1,2014-09-24T09:58:32.124Z,10,S\n"


def rows(file: Path, source: SourceSettings) -> list[tuple[object, ...]]:
    table = pa.concat_tables(block.table for block in read_blocks(file, source))
    at_us = table.column("clicked_at").cast(pa.int64()).to_pylist()
    names = ("session_id", "item_id", "category")
    others = zip(*(table.column(name).to_pylist() for name in names), strict=True)
    return [(session, item, us, category) for (session, item, category), us in zip(others, at_us, strict=True)]


@pytest.mark.parametrize(
    ("format_name", "text"),
    [
        ("yoochoose", "1,2014-09-24T09:58:32.124Z,10,S\n2,2014-09-24T09:58:33.000Z,11,0"),
        ("gru4rec", "Time\tSessionId\tItemId\n1411552712.124\t1\t10\n1411552713\t2\t11\n"),
        ("csv", "clicked_at,item_id,x,session_id\n2014-09-24T09:58:32.124Z,10,,1\n2014-09-24T09:58:33Z,11,,2\n"),
        (
            "jsonl",
            '{"session_id":1,"item_id":10,"clicked_at":"2014-09-24T09:58:32.124Z","x":[1]}\n'
            '{"clicked_at":"2014-09-24T09:58:33Z","item_id":11,"session_id":2}\n',
        ),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("block_bytes", [16 << 20, 60])
def test_format_is_read_to_the_microsecond(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_name: str, text: str, end: str, block_bytes: int
) -> None:
    monkeypatch.setattr(formats, "BLOCK_BYTES", block_bytes)
    plain, packed = tmp_path / "clicks", tmp_path / "clicks.gz"
    content = b"\xef\xbb\xbf" + text.replace("\n", end).encode()
    plain.write_bytes(content)
    packed.write_bytes(gzip.compress(content))
    categories = ("S", "0") if format_name == "yoochoose" else ("", "")
    expected = [(1, 10, 1411552712124000, categories[0]), (2, 11, 1411552713000000, categories[1])]
    source = SourceSettings(format=format_name)  # type: ignore[arg-type]
    assert rows(plain, source) == rows(packed, source) == expected


@pytest.mark.parametrize(
    "text",
    ["userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n", "1::31::2.5::1260759144\n", "1\t31\t3\t1260759144\n"],
)
def test_each_movielens_layout_is_recognized_by_its_first_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "ratings"
    file.write_text(text)
    assert rows(file, SourceSettings(format="movielens")) == [(1, 31, 1260759144000000, "")]


def test_string_ids_stay_strings(tmp_path: Path) -> None:
    file = tmp_path / "clicks.dat"
    file.write_text("s-1,2014-09-24T09:58:32.124Z,007,S\n")
    assert rows(file, SourceSettings(id_type="string")) == [("s-1", "007", 1411552712124000, "S")]


@pytest.mark.parametrize(("unit", "number"), [("s", 1411552712), ("ms", 1411552712000), ("us", 1411552712000000)])
def test_parquet_columns_are_mapped(tmp_path: Path, unit: str, number: int) -> None:
    file = tmp_path / "clicks.parquet"
    pq.write_table(pa.table({"visit": [1], "sku": [10], "ts": [number], "kind": ["a"]}), file)
    columns = {"session_id": "visit", "item_id": "sku", "clicked_at": "ts", "category": "kind"}
    source = SourceSettings.model_validate({"format": "parquet", "columns": columns, "time_unit": unit})
    assert rows(file, source) == [(1, 10, 1411552712000000, "a")]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (
            "2,2014-09-24T09:58:32.124Z,10",
            "line 2: expected 4 fields ('session_id,clicked_at,item_id,category'), found 3: '2,2014-09-24T09:58:32.124Z,10'",
        ),
        (
            "2,2014-09-24T29:58:32.124Z,10,S",
            "line 2: column 'clicked_at': expected a time such as 2014-09-24T09:58:32.124Z, found '2014-09-24T29:58:32.124Z'",
        ),
        (
            "2,2014-09-24T09:58:32.124,10,S",
            "line 2: column 'clicked_at': the time '2014-09-24T09:58:32.124' has no zone; set source.timezone to the zone it "
            "is in, such as UTC or Europe/Amsterdam",
        ),
        (
            "2,9014-09-24T09:58:32.124Z,10,S",
            "line 2: column 'clicked_at': expected a time from 2000-01-01 (source.earliest) to 2020-06-02 (a day after now), "
            "found '9014-09-24 09:58:32.124000Z'",
        ),
        (
            "-2,2014-09-24T09:58:32.124Z,10,S",
            "line 2: column 'session_id': expected a non-negative 64-bit integer in plain digits, found '-2' "
            "(for other ids, set source.id_type=string)",
        ),
        (
            "2,2014-09-24T09:58:32.124Z,9223372036854775808,S",
            "line 2: column 'item_id': expected a non-negative 64-bit integer in plain digits, found '9223372036854775808' "
            "(for other ids, set source.id_type=string)",
        ),
    ],
)
def test_bad_line_is_refused_with_its_number_and_reason(tmp_path: Path, line: str, fault: str) -> None:
    file = tmp_path / "clicks.dat"
    file.write_text(GOOD + line + "\n" + GOOD)
    with pytest.raises(SourceError) as caught:
        list(read_files([file], SourceSettings(), now=datetime(2020, 6, 1, tzinfo=UTC)))
    assert str(caught.value) == (
        f"1 of 3 lines can't be read, and none may be rejected. {file}, {fault}. "
        "Nothing was stored; correct the lines and ingest again, or allow more (ingest.max_rejected)."
    )


def test_quote_in_a_format_without_quotes_is_a_character(tmp_path: Path) -> None:
    file = tmp_path / "clicks.dat"
    file.write_text(GOOD.replace("S", '"S') + GOOD * 2)
    assert [row[3] for row in rows(file, SourceSettings())] == ['"S', "S", "S"]


def test_quote_that_is_not_closed_costs_its_own_line_only(tmp_path: Path) -> None:
    file = tmp_path / "clicks.csv"
    header, line = "session_id,item_id,clicked_at,kind\n", "1,10,2014-09-24T09:58:32.124Z,a\n"
    file.write_text(header + line.replace("a\n", '"a\n') + line * 2)
    (block,) = read_blocks(file, SourceSettings.model_validate({"format": "csv", "columns": {"category": "kind"}}))
    assert block.table.column("category").to_pylist() == ["a", "a"]
    assert [(reject.line, reject.reason) for reject in block.rejects] == [
        (2, "expected each quote to be closed, found '1,10,2014-09-24T09:58:32.124Z,\"a'")
    ]


def test_line_numbers_count_from_the_start_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "BLOCK_BYTES", 100)
    file = tmp_path / "clicks.dat"
    file.write_text(GOOD * 50 + "oops\n")
    with pytest.raises(SourceError, match="line 51: expected 4 fields"):
        list(read_files([file], SourceSettings()))


def test_first_ten_wrong_lines_are_shown_and_the_source_is_read_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "BLOCK_BYTES", 100)
    first, second = tmp_path / "a.dat", tmp_path / "b.dat"
    first.write_text("oops\n" * 12 + GOOD * 5)
    second.write_text("oops\n" * 5)
    with pytest.raises(SourceError) as caught:
        list(read_files([first, second], SourceSettings()))
    message = str(caught.value)
    assert message.startswith(f"12 of 14 lines read so far can't be read, and none may be rejected. {first}, line 1:")
    assert message.count("'session_id,clicked_at,item_id,category'") == 1
    assert "; line 10: 1: 'oops' (and 2 more)." in message
    assert "b.dat" not in message


LINES_OF = {
    "yoochoose": ("", "{i},2014-09-24T09:58:32.124Z,10,S", "{i},2014-09-24T09:58:32.124Z,10"),
    "gru4rec": ("SessionId\tItemId\tTime", "{i}\t10\t1411552712", "{i}\t10\tnoon"),
    "movielens": ("", "{i}::10::3::1411552712", "{i}::10::1411552712"),
    "csv": ("session_id,item_id,clicked_at", '{i},"10",2014-09-24T09:58:32.124Z', '{i},"10,2014-09-24T09:58:32.124Z'),
    "jsonl": (
        "",
        '{{"session_id":{i},"item_id":10,"clicked_at":"2014-09-24T09:58:32.124Z"}}',
        '{{"session_id":{i},"item_id":10',
    ),
}


@pytest.mark.parametrize("format_name", LINES_OF)
@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("block_bytes", [16 << 20, 1_000])
def test_all_right_lines_beside_wrong_ones_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_name: str, suffix: str, block_bytes: int
) -> None:
    monkeypatch.setattr(formats, "BLOCK_BYTES", block_bytes)
    header, good, bad = LINES_OF[format_name]
    wrong = {0, 7, 8, 1500, 2999} if format_name != "movielens" else {7, 8, 1500, 2999}
    lines = [header] if header else []
    lines += [(bad if i in wrong else good).format(i=i) for i in range(3000)]
    file = tmp_path / f"clicks{suffix}"
    content = ("\n".join(lines) + "\n\n").encode()
    file.write_bytes(gzip.compress(content) if suffix else content)
    blocks = list(read_blocks(file, SourceSettings(format=format_name)))  # type: ignore[arg-type]
    sessions = [i for block in blocks for i in block.table.column("session_id").to_pylist()]
    assert sorted(sessions) == [i for i in range(3000) if i not in wrong]
    first = 2 if header else 1
    assert [(r.line, r.text) for block in blocks for r in block.rejects] == [
        (i + first, bad.format(i=i)) for i in sorted(wrong)
    ]
    assert sum(block.lines for block in blocks) == 3000


@pytest.mark.parametrize(
    "line",
    [
        "1,2014-09-24T09:58Z,10,S",
        "1,2014-09-24 09:58:32+02,10,S",
        "1,2014-09-24T09:58:32.1234567Z,10,S",
        " 1,2014-09-24T09:58:32Z,10,S",
        "1,2014-09-24T09:58:32Z,007,S",
        "0x1A,2014-09-24T09:58:32Z,10,S",
        "+1,2014-09-24T09:58:32Z,10,S",
        "1, 2014-09-24T09:58:32Z,10,S",
    ],
)
def test_fate_of_a_line_does_not_depend_on_the_lines_beside_it(tmp_path: Path, line: str) -> None:
    clean, mixed = tmp_path / "clean", tmp_path / "mixed"
    clean.write_text(GOOD + line + "\n")
    mixed.write_text(GOOD + line + "\noops\n")
    assert sorted(rows(clean, SourceSettings())) == sorted(rows(mixed, SourceSettings()))


def test_file_without_one_right_line_is_of_another_format(tmp_path: Path) -> None:
    file = tmp_path / "clicks.dat"
    file.write_text("1::31::2.5::1260759144\n" * 20)
    with pytest.raises(SourceError) as caught:
        list(read_blocks(file, SourceSettings()))
    assert str(caught.value) == (
        f"None of the first 20 lines of {file} can be read as yoochoose. Line 1: expected 4 fields "
        "('session_id,clicked_at,item_id,category'), found 1: '1::31::2.5::1260759144'. Check the settings of the source, such "
        "as its format (source.format or --format). It looks like movielens: try --format movielens."
    )


def test_wrong_format_is_recognized_by_the_header(tmp_path: Path) -> None:
    file = tmp_path / "clicks.dat"
    file.write_text(GOOD)
    with pytest.raises(SourceError) as caught:
        list(read_blocks(file, SourceSettings(format="gru4rec")))
    assert str(caught.value) == (
        f"Expected a tab-separated header with SessionId, ItemId, Time in {file}, found {GOOD.strip()}; "
        "missing: SessionId, ItemId, Time. Check the format (source.format) and the column names (source.columns). "
        "It looks like yoochoose: try --format yoochoose."
    )


def test_empty_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "clicks.dat"
    file.touch()
    with pytest.raises(SourceError) as caught:
        list(read_blocks(file, SourceSettings()))
    assert str(caught.value) == f"Expected clicks in {file}, found an empty file. Check that its upload is complete."


def test_truncated_gzip_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "clicks.gz"
    file.write_bytes(gzip.compress(GOOD.encode() * 1000)[:-12])
    with pytest.raises(SourceError, match=r"can't be read: .*Check that the file is complete"):
        list(read_blocks(file, SourceSettings()))


def test_damaged_gzip_is_refused_wherever_the_damage_is(tmp_path: Path) -> None:
    whole = gzip.compress("".join(GOOD.replace("10", str(10 + i * 7919 % 1000)) for i in range(500)).encode(), mtime=0)
    file = tmp_path / "clicks.gz"
    for place in range(10, len(whole), 40):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with pytest.raises(SourceError, match=r"can't be read: .*Check that the file is complete"):
            list(read_blocks(file, SourceSettings()))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (gzip.compress(GOOD.encode()), r"is a gzip file; give it a name that ends with \.gz"),
        (GOOD.encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
        (b"PK\x03\x04rest", "is a zip archive"),
        (b"PAR1rest", "is a Parquet file; read it as such"),
    ],
    ids=["gzip", "utf-16", "zip", "parquet"],
)
def test_file_of_another_kind_is_called_what_it_is(tmp_path: Path, content: bytes, what: str) -> None:
    file = tmp_path / "clicks.dat"
    file.write_bytes(content)
    with pytest.raises(SourceError, match=rf"clicks\.dat, but it {what}"):
        rows(file, SourceSettings())


@pytest.mark.parametrize(
    ("format_name", "given", "text"),
    [
        ("gru4rec", "yoochoose", "SessionId\tItemId\tTime\n1\t10\t1411552712\n1\t11\t1411552713\n"),
        ("movielens", "yoochoose", "1::31::2.5::1260759144\n1::32::2.5::1260759145\n"),
        ("csv", "yoochoose", "clicked_at,item_id,session_id\n2014-09-24T09:58:32Z,10,1\n2014-09-24T09:58:33Z,11,1\n"),
        ("jsonl", "gru4rec", '{"session_id":1,"item_id":10,"clicked_at":"2014-09-24T09:58:32Z"}\n'),
        ("yoochoose", "movielens", GOOD * 2),
        ("yoochoose", "csv", GOOD * 2),
    ],
)
def test_file_that_looks_like_another_format_is_named_so(tmp_path: Path, format_name: str, given: str, text: str) -> None:
    file = tmp_path / "clicks"
    file.write_text(text)
    with pytest.raises(SourceError, match=rf"It looks like {format_name}: try --format {format_name}\."):
        rows(file, SourceSettings(format=given))  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["Delivered by night.\n", "Delivered by night.\nAll of it.\n"])
def test_stray_file_among_clicks_is_named_with_how_to_leave_it_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "clicks.dat").write_text(GOOD * 3)
    (tmp_path / "NOTES.txt").write_text(text)
    with pytest.raises(SourceError, match=r"NOTES\.txt.*to leave it out, move it away, let its name begin with '_'"):
        list(read_files([tmp_path / "NOTES.txt", tmp_path / "clicks.dat"], SourceSettings()))
