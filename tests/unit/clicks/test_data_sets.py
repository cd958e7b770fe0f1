"""Public data sets with one word, and the general settings that they are made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sbr_tasks.clicks.formats import read_blocks
from sbr_tasks.clicks.ingest import read_files
from sbr_tasks.clicks.rejects import Rejects
from sbr_tasks.clicks.sources import find_files
from sbr_tasks.errors import NotArrivedError, SettingsError, SourceError
from sbr_tasks.settings import Condition, SourceSettings, load_settings, parse_where

DAY_US = 1_462_752_000_000_000
"""Midnight UTC of 9 May 2016."""


def clicks(file: Path, **source: Any) -> list[tuple[Any, ...]]:
    """Session, item, microseconds and category of each click."""
    table = pa.concat_tables(read_files([file], SourceSettings.model_validate(source)))
    table = table.set_column(2, "clicked_at", table.column("clicked_at").cast(pa.int64()))
    return [tuple(row.values()) for row in table.to_pylist()]


@pytest.mark.parametrize(
    "header", ["sessionId;userId;itemId;timeframe;eventdate", "session_id;user_id;item_id;timeframe;eventdate"]
)
def test_diginetica_adds_milliseconds_to_the_date(tmp_path: Path, header: str) -> None:
    file = tmp_path / "train-item-views.csv"
    file.write_text(f"{header}\n1;NA;501;526309;2016-05-09\n2;17;504;0;2016-05-10\n")
    assert clicks(file, format="diginetica") == [
        (1, 501, DAY_US + 526_309_000, ""),
        (2, 504, DAY_US + 86_400_000_000, ""),
    ]


@pytest.mark.parametrize("offset", ["", "-1", "soon"])
def test_offset_that_is_no_number_is_named_with_its_column(tmp_path: Path, offset: str) -> None:
    file = tmp_path / "clicks.csv"
    file.write_text(f"session_id;item_id;timeframe;eventdate\n1;5;0;2016-05-09\n1;5;{offset};2016-05-09\n")
    with pytest.raises(SourceError, match=rf"line 3: column 'timeframe': expected milliseconds .*found '{offset}'"):
        clicks(file, format="diginetica")


def test_retailrocket_cuts_the_views_of_a_visitor(tmp_path: Path) -> None:
    file = tmp_path / "events.csv"
    at = DAY_US // 1_000
    rows = [(at, 9, "view", 1), (at + 1, 9, "addtocart", 1), (at + 60_000, 9, "view", 2), (at + 3_600_000, 9, "view", 3)]
    file.write_text("timestamp,visitorid,event,itemid,transactionid\n" + "".join(f"{t},{v},{e},{i},\n" for t, v, e, i in rows))
    first, second = 9 * 2**32 + DAY_US // 1_000_000, 9 * 2**32 + DAY_US // 1_000_000 + 3_600
    assert [click[:2] for click in clicks(file, format="retailrocket")] == [(first, 1), (first, 2), (second, 3)]


def test_both_names_of_a_column_in_one_header_are_ambiguous(tmp_path: Path) -> None:
    file = tmp_path / "train-item-views.csv"
    file.write_text("sessionId;itemId;item_id;timeframe;eventdate\n1;5;6;0;2016-05-09\n")
    with pytest.raises(SourceError, match=r"Expected one column 'itemId' .*ambiguous"):
        clicks(file, format="diginetica")
    assert clicks(file, format="diginetica", columns={"item_id": "item_id"}) == [(1, 6, DAY_US, "")]


def test_rees46_keeps_views_with_a_session(tmp_path: Path) -> None:
    file = tmp_path / "2019-Oct.csv"
    file.write_text(
        "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
        "2016-05-09 00:00:00 UTC,view,1001,20,,acme,1.0,5,s-1\n"
        "2016-05-09 00:00:01 UTC,cart,1001,20,,acme,1.0,5,s-1\n"
        "2016-05-09 00:00:02 UTC,view,1002,21,,acme,1.0,5,\n"
    )
    assert clicks(file, format="rees46") == [("s-1", "1001", DAY_US, "20")]


def test_otto_reads_the_clicks_in_the_list_of_a_session(tmp_path: Path) -> None:
    file, at = tmp_path / "train.jsonl", DAY_US // 1_000
    events = [{"aid": 1, "ts": at, "type": "clicks"}, {"aid": 2, "ts": at + 1, "type": "carts"}]
    lines = [{"session": 0, "events": events}, {"session": 1, "events": []}, {"session": 2, "events": events[:1]}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert clicks(file, format="otto") == [(0, 1, DAY_US, ""), (2, 1, DAY_US, "")]


@pytest.mark.parametrize(
    "event", ['{"aid": -1, "ts": 1, "type": "clicks"}', "null", "5", '{"ts": 1462752000000, "type": "clicks"}']
)
def test_session_with_a_bad_click_is_one_bad_line(tmp_path: Path, event: str) -> None:
    good = '{"aid": 1, "ts": 1462752000000, "type": "clicks"}'
    file = tmp_path / "train.jsonl"
    file.write_text("".join(f'{{"session": {i}, "events": [{good}, {event if i == 1 else good}]}}\n' for i in range(3)))
    (block,) = read_blocks(file, SourceSettings(format="otto"))
    assert block.table.column("session_id").to_pylist() == [0, 0, 2, 2]
    assert [reject.line for reject in block.rejects] == [2]
    assert block.lines == 5


def test_30music_is_tab_separated_with_unix_seconds(tmp_path: Path) -> None:
    file = tmp_path / "30music.csv"
    file.write_text(f"SessionId\tUserId\tItemId\tTime\n1\t7\t5\t{DAY_US // 1_000_000}\n")
    assert clicks(file, format="30music") == [(1, 5, DAY_US, "")]


def test_what_a_person_sets_wins_over_a_data_set() -> None:
    settings = load_settings(
        {"source.format": "otto", "source.where": "events[].type = carts", "source.columns.item_id": "events[].id"}
    )
    assert settings.source.where == "events[].type = carts"
    assert settings.source.columns.item_id == "events[].id"
    assert settings.source.columns.clicked_at == "events[].ts"
    assert settings.source.time_unit == "ms"


def test_lines_that_where_leaves_out_are_counted_and_never_judged(tmp_path: Path) -> None:
    header = "session_id,item_id,clicked_at,type\n"
    (tmp_path / "c.csv").write_text(header + "1,5,2016-05-09T00:00:00Z,view\n,,,start\n1,x,noon,view\n")
    objects = [
        {"session_id": 1, "item_id": 5, "clicked_at": "2016-05-09T00:00:00Z", "type": "view"},
        {"type": "start", "item_id": [1]},
        {"session_id": 1, "item_id": "x", "clicked_at": "noon", "type": "view"},
    ]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(one) + "\n" for one in objects))
    for name in ("csv", "jsonl"):
        (block,) = read_blocks(tmp_path / f"c.{name}", SourceSettings(format=name, where="type = view"))  # type: ignore[arg-type]
        assert (len(block.table), block.filtered, len(block.rejects), block.lines) == (1, 1, 1, 3)


def test_where_filters_parquet_by_text(tmp_path: Path) -> None:
    at = pa.array([DAY_US] * 3, pa.timestamp("us", tz="UTC"))
    pq.write_table(
        pa.table({"session_id": [1] * 3, "item_id": [5, 6, 7], "clicked_at": at, "bot": [True, False, None]}), tmp_path / "c"
    )
    assert [click[1] for click in clicks(tmp_path / "c", format="parquet", where="bot != true")] == [6, 7]


@pytest.mark.parametrize(
    ("text", "conditions"),
    [
        ("event_type = view", [("event_type", True, "view")]),
        ("a=1 AND b!='x and y'", [("a", True, "1"), ("b", False, "x and y")]),
        ('my column != ""', [("my column", False, "")]),
    ],
)
def test_where_is_read_as_conditions(text: str, conditions: list[tuple[str, bool, str]]) -> None:
    assert list(parse_where(text)) == [Condition(*one) for one in conditions]


@pytest.mark.parametrize("text", ["", "view", "a > 1", "a = b or c = d", "a = b and", "a = 'b"])
def test_where_that_is_not_understood_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"source\.where"):
        load_settings({"source": {"where": text}})


def test_any_source_with_users_is_cut_into_sessions(tmp_path: Path) -> None:
    file = tmp_path / "c.csv"
    file.write_text("user,item_id,clicked_at\nu,a,2016-05-09T00:00:00Z\nu,b,2016-05-09T00:11:00Z\nu,c,2016-05-09T00:15:00Z\n")
    source = {"format": "csv", "id_type": "string", "session_gap": 10, "columns": {"user_id": "user"}}
    assert [click[0] for click in clicks(file, **source)] == ["u@1462752000", "u@1462752660", "u@1462752660"]
    with pytest.raises(SettingsError, match="set session_gap to the minutes"):
        load_settings({"source.columns.user_id": "user"})


@pytest.mark.parametrize(("users", "id_type"), [([7, None, -1], "integer"), (["u", None, ""], "string")])
def test_row_without_a_user_is_a_bad_line_where_users_are_cut(tmp_path: Path, users: list[Any], id_type: str) -> None:
    table = {"user": users, "item_id": [1, 2, 3], "clicked_at": ["2016-05-09T00:00:00Z"] * 3}
    pq.write_table(pa.table(table), tmp_path / "c")
    columns = {"user_id": "user"}
    source = SourceSettings.model_validate({"format": "parquet", "session_gap": 30, "id_type": id_type, "columns": columns})
    rejects = Rejects(0.9)
    (kept,) = read_files([tmp_path / "c"], source, rejects)
    assert [str(item) for item in kept.column("item_id").to_pylist()] == ["1"]
    assert (rejects.lines, rejects.rejected) == (3, 2)


def test_columns_of_two_lists_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "c.jsonl"
    file.write_text('{"session_id": 1, "a": [{"item": 5}], "b": [{"at": "2016-05-09T00:00:00Z"}]}\n')
    with pytest.raises(SourceError, match=r"Expected columns of one list in .*found settings that name a, b"):
        clicks(file, format="jsonl", columns={"item_id": "a[].item", "clicked_at": "b[].at"})


SPARK = ("day=2020-01-01/part-0.parquet", "day=2020-01-02/hour=03/part-0.parquet")
SKIPPED = (
    "_SUCCESS",
    ".hidden.parquet",
    "a.parquet.part",
    "b.parquet.tmp",
    "day=2020-01-01/.part-0.parquet.crc",
    "day=2020-01-01/_SUCCESS",
    "_temporary/part-0.parquet",
    "archive/old.parquet",
)


def test_partitions_are_read_and_what_is_still_written_is_skipped(tmp_path: Path) -> None:
    for name in (*SPARK, *SKIPPED):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [str(file) for file in find_files(str(tmp_path))] == [str(tmp_path / name) for name in SPARK]
    assert [str(file) for file in find_files(str(tmp_path / "day=2020-01-01" / "*"))] == [str(tmp_path / SPARK[0])]
    assert [str(file) for file in find_files(str(tmp_path / "*.part"))] == [str(tmp_path / "a.parquet.part")]


def test_partitions_of_a_bucket_are_read_as_folders_are(s3_options: dict[str, str]) -> None:
    import obstore

    from sbr_tasks.store import open_backend

    backend = open_backend("s3://clicks", s3_options)
    for name in (*SPARK, *SKIPPED):
        obstore.put(backend, f"spark/{name}", b"x")
    assert [str(file) for file in find_files("s3://clicks/spark", s3_options)] == [
        f"s3://clicks/spark/{name}" for name in SPARK
    ]
    globbed = find_files("s3://clicks/spark/*/*", s3_options)
    assert [str(file) for file in globbed] == ["s3://clicks/spark/archive/old.parquet", f"s3://clicks/spark/{SPARK[0]}"]


def test_folder_without_files_says_how_other_folders_are_read(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a.csv").touch()
    with pytest.raises(NotArrivedError, match=r"found none\. .*folders that aren't partitions .*a glob such as '.*/\*/\*'"):
        find_files(str(tmp_path))
    assert [file.name for file in find_files(f"{tmp_path}/*/*")] == ["a.csv"]


def test_file_name_that_is_no_utf8_is_one_sentence(tmp_path: Path) -> None:
    (Path(tmp_path) / "clicks-\udcff.csv").touch()
    for path in (tmp_path, tmp_path / "*.csv"):
        with pytest.raises(
            SourceError, match=r"Expected file names in UTF-8 in .*, found 'clicks-\\udcff\.csv'\. Rename the file"
        ):
            find_files(str(path))
