from __future__ import annotations

import json
import random
import re
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from sbr_tasks.clicks.catalog import ClickCatalog
from sbr_tasks.clicks.formats import click_schema
from sbr_tasks.clicks.ingest import ingest, ingest_missing, sort_clicks
from sbr_tasks.errors import SourceError
from sbr_tasks.settings import load_settings
from sbr_tasks.store import FileRecord, NumberedLog, Store, kinds
from sbr_tasks.validation.validate_days import validate_pending
from tests.unit.clicks.conftest import WriteSource
from tests.unit.days import Click, at, parquet_settings, write_parquet

LINES = [
    "1,2014-09-23T23:59:59.999Z,10,S\n",
    "1,2014-09-24T00:00:00.000Z,11,S\n",
    "2,2014-09-24T09:00:00.000Z,10,0\n",
    "3,2014-09-26T09:00:00.000Z,12,0\n",
]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_clicks_are_grouped_by_day_and_nothing_is_left_in_scratch(write_source: WriteSource, store: Store) -> None:
    settings = write_source("".join(LINES))
    ingested = ingest(store, settings)
    assert (ingested.rows, ingested.rejected) == (4, 0)
    assert {str(r.day): (r.rows, r.sessions, r.items) for r in ingested.revisions} == {
        "2014-09-23": (1, 1, 1),
        "2014-09-24": (2, 2, 2),
        "2014-09-26": (1, 1, 1),
    }
    assert [str(day) for day in ingested.empty] == ["2014-09-25"]
    assert list(Path(settings.scratch or "").iterdir()) == []


def test_day_belongs_to_the_zone_of_the_shop(write_source: WriteSource, store: Store) -> None:
    ingested = ingest(store, write_source("".join(LINES), "timezone=America/New_York"))
    assert [str(day) for day in ingested.days] == ["2014-09-23", "2014-09-24", "2014-09-26"]
    assert ingested.revisions[0].rows == 2


def test_order_of_lines_does_not_change_a_revision(write_source: WriteSource, store: Store) -> None:
    first = ingest(store, write_source("".join(LINES)))
    again = ingest(store, write_source("".join(random.Random(1).sample(LINES, len(LINES)))))
    assert again.revisions == ()
    states = ClickCatalog(store).days()
    assert tuple(states[revision.day].incoming for revision in first.revisions) == first.revisions


def test_stored_clicks_are_those_of_the_file_sorted_by_session_and_time(write_source: WriteSource, store: Store) -> None:
    ingest(store, write_source("".join(reversed(LINES))))
    catalog = ClickCatalog(store)
    table = catalog.read(catalog.days()[date(2014, 9, 24)].incoming)  # type: ignore[arg-type]
    assert table.schema.field("clicked_at").type == pa.timestamp("us", tz="UTC")
    assert table.column("session_id").to_pylist() == [1, 2]
    assert table.column("clicked_at").cast(pa.int64()).to_pylist() == [1411516800000000, 1411549200000000]
    assert table.column("category").to_pylist() == ["S", "0"]


def test_late_clicks_make_a_new_revision_and_the_old_one_stays(write_source: WriteSource, store: Store) -> None:
    old = ingest(store, write_source("".join(LINES))).revisions[1]
    (new,) = ingest(store, write_source("".join(LINES) + "2,2014-09-24T10:00:00.000Z,13,0\n")).revisions
    assert (old.day, old.rows, new.rows) == (new.day, 2, 3)
    assert old.rev != new.rev
    assert len(store.read(old.file)) == old.file.size


@pytest.mark.parametrize(
    "content",
    ["1,2014-09-24T09:58:32.124Z\n", "1,then,2,0\n", "-1,2014-09-24T09:58:32.124Z,1,0\n", ""],
    ids=["too few fields", "bad timestamp", "negative id", "empty file"],
)
def test_bad_input_leaves_the_store_untouched(write_source: WriteSource, store: Store, tmp_path: Path, content: str) -> None:
    ingest(store, write_source("".join(LINES)))
    before = snapshot(tmp_path / "store")
    with pytest.raises(SourceError):
        ingest(store, write_source(LINES[0] * 3 + content if content else ""))
    assert snapshot(tmp_path / "store") == before


def test_lines_that_do_not_parse_are_kept_with_their_reasons(write_source: WriteSource, store: Store) -> None:
    settings = write_source(LINES[0] + "oops\n" + "".join(LINES[1:]), "ingest.max_rejected=0.2")
    ingested = ingest(store, settings)
    assert (ingested.rows, ingested.rejected) == (4, 1)
    record = NumberedLog(store, kinds.COMMIT).entries()[-1].body["source"]
    assert (record["rows"], record["rejected"], record["rejects"]["count"]) == (4, 1, 1)
    reject = json.loads(store.read(FileRecord.model_validate(record["rejects"]["file"])))
    assert reject == {
        "file": settings.source.path,
        "line": 2,
        "reason": "expected 4 fields ('session_id,clicked_at,item_id,category'), found 1: 'oops'",
        "text": "oops",
    }


def test_more_rejected_lines_than_allowed_store_nothing(write_source: WriteSource, store: Store, tmp_path: Path) -> None:
    before = snapshot(tmp_path / "store")
    with pytest.raises(SourceError, match=r"^1 of 5 lines can't be read, and at most 19% of all lines may be rejected\."):
        ingest(store, write_source(LINES[0] + "oops\n" + "".join(LINES[1:]), "ingest.max_rejected=0.19"))
    assert snapshot(tmp_path / "store") == before


def test_rejects_file_is_bounded_and_the_count_is_not(
    write_source: WriteSource, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sbr_tasks.clicks.rejects.KEPT_BYTES", 300)
    ingested = ingest(store, write_source("".join(LINES) + "oops\n" * 20, "ingest.max_rejected=0.9"))
    record = NumberedLog(store, kinds.COMMIT).entries()[-1].body["source"]
    assert (ingested.rejected, record["rejected"], record["rejects"]["count"]) == (20, 20, 2)


def test_file_that_is_not_there_is_named(store: Store, tmp_path: Path) -> None:
    settings = load_settings({"store": f"{tmp_path}/store", "source.path": f"{tmp_path}/nowhere.dat"})
    with pytest.raises(SourceError) as caught:
        ingest(store, settings)
    assert str(caught.value) == (
        f"Expected clicks in {tmp_path}/nowhere.dat, but there is no such file. Check the path (source.path or --from)."
    )


def test_source_that_is_not_set_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"^No source of clicks is set\. Set source\.path"):
        ingest(store, load_settings({"store": f"{tmp_path}/store"}))


def test_folder_and_glob_are_read_as_one_source(write_source: WriteSource, store: Store, tmp_path: Path) -> None:
    write_source(LINES[0], name="a.dat")
    write_source("".join(LINES[1:]), name="b.dat")
    for place in (tmp_path / "in", tmp_path / "in" / "*.dat"):
        settings = load_settings({"store": f"{tmp_path}/store", "source.path": str(place)})
        assert ingest(store, settings).ledger.read == 4


def test_run_ingests_its_window_once_and_its_day_again_when_the_source_changed(write_source: WriteSource, store: Store) -> None:
    settings = write_source("".join(LINES), "window.days=3")
    first = ingest_missing(store, settings, date(2014, 9, 24))
    assert first is not None
    assert [str(day) for day in (*first.days, *first.empty)] == ["2014-09-23", "2014-09-24", "2014-09-22"]
    assert ingest_missing(store, settings, date(2014, 9, 24)) is None
    write_source("".join(LINES) + "9,2014-09-24T10:00:00.000Z,13,0\n9,2014-09-22T10:00:00.000Z,13,0\n")
    late = ingest_missing(store, settings, date(2014, 9, 24))
    assert late is not None
    assert [str(day) for day in late.days] == ["2014-09-22", "2014-09-24"]


@pytest.mark.slow
def test_day_in_quarantine_is_ingested_again_once_the_source_was_fixed(tmp_path: Path) -> None:
    earlier, day = date(2020, 6, 2), date(2020, 6, 3)
    settings = parquet_settings(tmp_path, "window.days=3")
    store = Store.open(settings)
    good: list[Click] = [(1, 10, at(earlier, 1)), (1, 11, at(day, 1))]
    write_parquet(tmp_path / "in" / "clicks.parquet", [*good, (2, -1, at(earlier, 2))])
    ingest_missing(store, settings, day)
    validate_pending(store, settings)
    assert ClickCatalog(store).days()[earlier].status == "quarantined"
    assert ingest_missing(store, settings, day) is None
    write_parquet(tmp_path / "in" / "clicks.parquet", [*good, (2, 12, at(earlier, 2))])
    mended = ingest_missing(store, settings, day)
    assert mended is not None
    assert earlier in mended.days
    validate_pending(store, settings)
    assert ClickCatalog(store).days()[earlier].status == "accepted"


def test_milliseconds_read_as_seconds_are_refused(write_source: WriteSource, store: Store) -> None:
    settings = write_source("SessionId\tItemId\tTime\n1\t2\t1411552712124\n", format="gru4rec")
    with pytest.raises(SourceError, match=r"found '1411552712124' \(in milliseconds it is 2014-09-24;"):
        ingest(store, settings)


def test_day_is_ingested_again_when_it_is_to_be_read_in_another_way(write_source: WriteSource, store: Store) -> None:
    day = date(2014, 9, 24)
    ingest_missing(store, write_source("".join(LINES), "window.days=3"), day)
    as_strings = write_source("".join(LINES), "window.days=3", "source.id_type=string")
    again = ingest_missing(store, as_strings, day)
    assert again is not None
    assert again.days == (date(2014, 9, 23), day)
    incoming = ClickCatalog(store).days()[day].incoming
    assert incoming is not None
    assert store.read_table(incoming.file).schema.field("item_id").type == pa.string()


def test_run_without_a_source_takes_what_was_ingested_before(write_source: WriteSource, store: Store, tmp_path: Path) -> None:
    ingest(store, write_source("".join(LINES)))
    settings = load_settings({"store": f"{tmp_path}/store"})
    assert ingest_missing(store, settings, date(2014, 9, 24)) is None
    with pytest.raises(SourceError, match="No source of clicks is set"):
        ingest_missing(store, settings, date(2014, 9, 27))


def test_yoochoose_sample_arrives_complete_to_the_millisecond(shared_data: Path, store: Store, tmp_path: Path) -> None:
    file = shared_data / "yoochoose-raw-sample" / "yoochoose-clicks.csv"
    settings = load_settings({"store": f"{tmp_path}/store", "source.path": str(file)})
    assert ingest(store, settings).rows == 4299
    catalog = ClickCatalog(store)
    stored = []
    for state in catalog.days().values():
        table = catalog.read(state.incoming)  # type: ignore[arg-type]
        times = table.column("clicked_at").to_pylist()
        ids = zip(table.column("session_id").to_pylist(), table.column("item_id").to_pylist(), strict=True)
        for (session, item), clicked_at, category in zip(ids, times, table.column("category").to_pylist(), strict=True):
            stored.append(
                f"{session},{clicked_at.strftime('%Y-%m-%dT%H:%M:%S')}.{clicked_at.microsecond // 1000:03d}Z,{item},{category}"
            )
    assert sorted(stored) == sorted(file.read_text().splitlines())


@pytest.mark.parametrize("id_type", ["integer", "string"])
@pytest.mark.parametrize("largest", [3, 2**62])
def test_clicks_are_sorted_by_session_and_time_and_else_stay_in_order(id_type: str, largest: int) -> None:
    draw = random.Random(3)
    sessions = [draw.choice([0, 1, 2, largest]) for _ in range(2000)]
    columns = [
        pa.array(sessions).cast(pa.int64() if id_type == "integer" else pa.string()),
        pa.array([draw.randrange(3) for _ in sessions]).cast(pa.int64() if id_type == "integer" else pa.string()),
        pa.array([draw.randrange(50) * 1_000_000 for _ in sessions]).cast(pa.timestamp("us", tz="UTC")),
        pa.array([draw.choice(["", "S", "0"]) for _ in sessions]),
    ]
    clicks = pa.table(columns, schema=click_schema(id_type))
    rows = clicks.to_pylist()
    assert sort_clicks(clicks).to_pylist() == sorted(rows, key=lambda row: (row["session_id"], row["clicked_at"]))


def test_clicks_with_equal_times_are_stored_in_the_order_of_the_source(write_source: WriteSource, store: Store) -> None:
    items = [7, 3, 9, 1, 8, 2]
    lines = [f"{session},2014-09-24T09:00:00Z,{item},{item % 2}\n" for item in items for session in (2, 1)]
    settings = write_source("".join([*lines[:5], "2,never,7,0\n", *lines[5:]]))
    forgiving = settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"max_rejected": 0.5})})
    (revision,) = ingest(store, forgiving).revisions
    stored = ClickCatalog(store).read(revision)
    assert stored.column("item_id").to_pylist() == items * 2


def test_files_of_a_folder_follow_each_other_by_name(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, item in (("b.csv", 1), ("a.csv", 2), ("c.csv", 0)):
        (folder / name).write_text(f"1,2014-09-24T09:00:00Z,{item},0\n")
    (revision,) = ingest(store, load_settings({"source.path": str(folder), "source.format": "yoochoose"})).revisions
    assert ClickCatalog(store).read(revision).column("item_id").to_pylist() == [2, 1, 0]


def test_days_more_than_65536_apart_are_distinguished(write_source: WriteSource, store: Store) -> None:
    lines = ["1,2199-12-31T00:00:00Z,10,S\n", "1,1970-01-01T00:00:00Z,11,S\n", "2,2014-09-24T09:00:00Z,10,0\n"]
    settings, now = write_source("".join(lines), "source.earliest=1970-01-01"), datetime(2199, 12, 31, tzinfo=UTC)
    assert [str(r.day) for r in ingest(store, settings, now=now).revisions] == [
        "1970-01-01",
        "2014-09-24",
        "2199-12-31",
    ]


def test_log_lines_of_an_import_carry_clicks_rate_and_time_left(
    write_source: WriteSource, store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sbr_tasks.progress.LOG_EVERY_S", 0.0)
    monkeypatch.setattr("sbr_tasks.clicks.formats.BLOCK_BYTES", 4 << 20)
    caplog.set_level("INFO")
    ingest(store, write_source("".join(LINES) * 50_000))
    line = next(message for message in caplog.messages if message.startswith("Reading clicks.dat"))
    assert re.fullmatch(r"Reading clicks\.dat: \d+% \([\d.]+ [MG]B/s, about \d+ s left\) [\d,]+ clicks", line)
    assert any(re.fullmatch(r"Storing 3 days: .* clicks/s, .* 3 of 3 days", message) for message in caplog.messages)
