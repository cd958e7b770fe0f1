from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from benchmarks.records import source_record_of
from sbr_tasks.clicks.catalog import ClickCatalog, OvertakenError
from sbr_tasks.clicks.changed import Difference, difference
from sbr_tasks.clicks.commits import Judgement, Revision
from sbr_tasks.clicks.formats import click_schema
from sbr_tasks.clicks.ingest import fitting_unit, ingest, ingest_missing, no_clicks_of
from sbr_tasks.errors import DayError, NotArrivedError
from sbr_tasks.settings import IngestSettings, Settings, load_settings
from sbr_tasks.store import Store
from sbr_tasks.validation.validate_days import validate_pending
from sbr_tasks.workspace import Workspace
from tests.unit.clicks.conftest import WriteSource

from .test_ledger import BEFORE, DAY, HISTORY, lines

pytestmark = pytest.mark.slow

Sbr = Callable[..., tuple[int, str, str]]


def accepted_rows(store: Store, day: date) -> int | None:
    state = ClickCatalog(store).days()[day]
    return state.accepted.rows if state.accepted else None


def table(*clicks: tuple[int, int, int, str], id_type: str = "integer") -> pa.Table:
    columns = [pa.array(column) for column in zip(*clicks, strict=True)]
    return pa.table(columns, names=click_schema("integer").names).cast(click_schema(id_type))


CLICK, OTHER = (1, 7, 0, "S"), (2, 7, 0, "S")


@pytest.mark.parametrize(
    ("stored", "offered", "expected"),
    [
        ([CLICK], [CLICK], Difference(0, 0)),
        ([CLICK, OTHER], [OTHER, CLICK], Difference(0, 0)),
        ([CLICK], [CLICK, CLICK], Difference(0, 1)),
        ([CLICK, CLICK], [CLICK, OTHER], Difference(1, 1)),
        ([CLICK], [(1, 7, 0, "")], Difference(1, 1)),
        ([CLICK], [(1, 8, 0, "S")], Difference(1, 1)),
        ([CLICK], [(1, 7, 1, "S")], Difference(1, 1)),
    ],
    ids=["same", "other order", "twice", "once less", "other category", "other item", "other time"],
)
def test_days_are_compared_as_multisets_of_clicks(
    stored: list[tuple[int, int, int, str]], offered: list[tuple[int, int, int, str]], expected: Difference
) -> None:
    assert difference(table(*stored), table(*offered)) == expected


def test_ids_of_another_type_are_compared_by_their_text() -> None:
    assert difference(table(CLICK, OTHER), table(OTHER, CLICK, id_type="string")) == Difference(0, 0)


@pytest.mark.parametrize(
    ("policy", "content", "expected"),
    [
        ("take_grown", lines(2, 6), 6),
        ("take_grown", lines(2, 2), 4),
        ("take_grown", lines(2, 6, first=1), 4),
        ("warn", lines(2, 6), 4),
        ("take", lines(2, 2), 2),
    ],
    ids=["grown", "shrunk", "others", "warn", "take"],
)
def test_changed_day_of_the_window_is_taken_as_the_setting_says(
    write_source: WriteSource, store: Store, policy: str, content: str, expected: int
) -> None:
    settings = write_source(HISTORY, "window.days=3")
    ingest_missing(store, settings, DAY)
    validate_pending(store, settings)
    changed = write_source(lines(1, 3) + content + lines(3, 5), "window.days=3", f"ingest.changed_days={policy}")
    ingested = ingest_missing(store, changed, DAY)
    assert ingested is not None
    assert ClickCatalog(store).days()[BEFORE].status == ("incoming" if expected != 4 else "accepted")
    assert len(ingested.warnings) == (1 if expected == 4 else 0)
    validate_pending(store, changed)
    assert accepted_rows(store, BEFORE) == expected


def test_day_that_was_read_while_half_written_is_completed_by_the_next_run(write_source: WriteSource, store: Store) -> None:
    half = write_source(lines(1, 3) + lines(2, 3)[:-15], "window.days=3", "ingest.max_rejected=0.2")
    ingest_missing(store, half, BEFORE)
    validate_pending(store, half)
    assert accepted_rows(store, BEFORE) == 2
    whole = write_source(HISTORY, "window.days=3")
    ingest_missing(store, whole, DAY)
    validate_pending(store, whole)
    assert accepted_rows(store, BEFORE) == 4


def test_file_with_late_clicks_does_not_replace_a_day(write_source: WriteSource, store: Store) -> None:
    settings = write_source(lines(2, 120))
    ingest(store, settings)
    late = write_source(lines(2, 6, first=200), name="late.dat")
    ingest(store, late)
    validate_pending(store, settings)
    assert accepted_rows(store, BEFORE) == 120
    ingest(store, late)
    assert accepted_rows(store, BEFORE) == 120


def test_warning_names_both_counts_and_the_command_that_takes_the_clicks(
    write_source: WriteSource, store: Store, command_line: Sbr, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(store, write_source(lines(2, 120)))
    late = write_source(lines(2, 6, first=200) + lines(3, 1), name="late clicks.dat")
    (warning,) = ingest(store, late).warnings
    assert warning.startswith(f"The source holds 6 clicks of {BEFORE}, which differ from the 120 that are stored: ")
    command = re.search(r"`sbr (.*)`", warning)
    assert command is not None
    monkeypatch.setenv("SBR_STORE", late.store)
    assert command_line(*shlex.split(command[1]))[0] == 0
    incoming = ClickCatalog(store).days()[BEFORE].incoming
    assert incoming is not None
    assert incoming.rows == 6


def test_command_of_a_warning_reads_the_source_as_the_import_did(
    write_source: WriteSource, store: Store, command_line: Sbr, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def rows(n: int) -> str:
        return "user;item;at\n" + "".join(f"{session};7;{1577959200000 + session}\n" for session in range(n)) + "oops\n"

    columns = ("session_id=user", "item_id=item", "clicked_at=at")
    options = ("source.delimiter=;", "source.time_unit=ms", "source.id_type=string", "timezone=Europe/Amsterdam")
    options += ("ingest.max_rejected=0.5", *(f"source.columns.{column}" for column in columns))
    ingest(store, write_source(rows(9), *options, name="it's.csv", format="csv"))
    (warning,) = ingest(store, write_source(rows(3), *options, name="it's.csv", format="csv")).warnings
    command = re.search(r"`sbr (.*)`", warning)
    assert command is not None
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert command_line(*shlex.split(command[1]))[0] == 0
    assert {state.incoming.rows for state in ClickCatalog(store).days().values() if state.incoming} == {3}


def test_clicks_that_replace_a_day_in_quarantine_are_warned_about_with_both_counts(
    write_source: WriteSource, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    settings = write_source(lines(2, 2) * 10)
    ingest(store, settings)
    validate_pending(store, settings)
    assert ClickCatalog(store).days()[BEFORE].status == "quarantined"
    ingest(store, write_source(lines(2, 6, first=50), name="late.dat"))
    assert f"Replaced the clicks of {BEFORE} by those of the source: 6 instead of 20." in caplog.messages


USERS = ("source.session_gap=30", "source.columns.user_id=user", "source.columns.item_id=item", "source.columns.clicked_at=at")
EVENING, NIGHT, MORNING = "ann,5,2020-01-01T23:50:00Z", "ann,7,2020-01-02T00:05:00Z", "ann,8,2020-01-02T09:00:00Z"


@pytest.mark.parametrize("id_type", ["integer", "string"])
@pytest.mark.parametrize(
    ("offered", "gap", "expected"),
    [
        ([NIGHT, MORNING], 30, "same"),
        ([EVENING, NIGHT, MORNING], 60, "same"),
        ([EVENING, NIGHT, "ann,9,2020-01-02T08:55:00Z", MORNING], 30, "stored"),
        ([EVENING, NIGHT, MORNING], 600, "recut"),
        ([EVENING, NIGHT], 30, "different"),
    ],
    ids=["day before is gone", "another gap, same sessions", "late first click", "other sessions", "shrunk"],
)
def test_sessions_of_users_are_compared_by_what_was_clicked(
    write_source: WriteSource, store: Store, offered: list[str], gap: int, expected: str, id_type: str
) -> None:
    def source(rows: list[str], *overrides: str) -> Settings:
        text = "\n".join(["user,item,at", *rows, ""]).replace("ann", "17")
        return write_source(text, *USERS, f"source.id_type={id_type}", *overrides, format="csv")

    ingest(store, source([EVENING, NIGHT, MORNING]))
    ingested = ingest(store, source(offered, f"source.session_gap={gap}"), days=[BEFORE])
    assert ingested.days == ((BEFORE,) if expected == "stored" else ())
    assert (BEFORE in ingested.ledger.left_out.get("same", {})) == (expected == "same")
    assert [("cut into other sessions" in warning) for warning in ingested.warnings] == {
        "recut": [True],
        "different": [False],
    }.get(expected, [])


def test_difference_is_warned_about_by_each_run_until_it_is_taken(
    write_source: WriteSource, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    ingest(store, write_source(HISTORY))
    shrunk = write_source(lines(1, 3) + lines(2, 2) + lines(3, 5), "window.days=3")
    first = ingest_missing(store, shrunk, DAY)
    assert first is not None
    assert len(first.warnings) == 1
    caplog.clear()
    assert ingest_missing(store, shrunk, DAY) is None  # the source is unchanged, so it isn't read again
    assert f"The source still has other clicks of {BEFORE} than the store." in caplog.text
    next_day = ingest_missing(store, shrunk, DAY + timedelta(days=1))
    assert next_day is not None
    assert len(next_day.warnings) == 1
    taking = shrunk.model_copy(update={"ingest": shrunk.ingest.model_copy(update={"changed_days": "take"})})
    taken = ingest_missing(store, taking, DAY)
    assert taken is not None
    assert taken.days == (BEFORE,)
    caplog.clear()
    assert ingest_missing(store, shrunk, DAY) is None
    assert "still holds" not in caplog.text


def test_grown_day_that_was_only_warned_about_is_taken_once_the_setting_says_so(
    write_source: WriteSource, store: Store
) -> None:
    ingest(store, write_source(HISTORY))
    careful = write_source(HISTORY + lines(2, 2, first=50), "window.days=3", "ingest.changed_days=warn")
    first = ingest_missing(store, careful, DAY)
    assert first is not None
    assert first.days == ()
    default = careful.model_copy(update={"ingest": IngestSettings()})
    second = ingest_missing(store, default, DAY)
    assert second is not None
    assert second.days == (BEFORE,)


def test_source_that_holds_new_days_only_leaves_the_stored_ones(
    write_source: WriteSource, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    settings = write_source(lines(1, 3) + lines(2, 4), "window.days=3")
    ingest(store, settings)
    validate_pending(store, settings)
    ingested = ingest_missing(store, write_source(lines(3, 5), "window.days=3"), DAY)
    assert ingested is not None
    assert (ingested.days, ingested.empty, ingested.warnings) == ((DAY,), (), ())
    assert accepted_rows(store, BEFORE) == 4
    assert "no clicks" not in caplog.text


def test_accepted_clicks_that_come_back_replace_those_in_quarantine(write_source: WriteSource, store: Store) -> None:
    settings = write_source(lines(2, 4))
    ingest(store, settings)
    validate_pending(store, settings)
    catalog = ClickCatalog(store)
    ingest(store, write_source(lines(2, 6)))
    pending = catalog.days()[BEFORE].pending
    assert pending is not None
    judged = Judgement(rev=pending.rev, accepted=False, failures=("odd",), result="", data_docs="")
    catalog.commit_validation({BEFORE: judged}, at="2020-01-05T00:00:00+00:00")
    assert catalog.days()[BEFORE].status == "quarantined"
    ingest(store, write_source(lines(2, 4)))
    assert catalog.days()[BEFORE].status == "accepted"
    assert accepted_rows(store, BEFORE) == 4


def other_import(store: Store, settings: Settings) -> Callable[[], None]:
    """What commits another import of all days, once, when it is called."""
    called: list[bool] = []

    def commit() -> None:
        if not called:
            called.append(True)
            ingest(store, settings)

    return commit


def test_stalled_import_does_not_overwrite_a_newer_one(
    write_source: WriteSource, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = write_source(HISTORY + lines(2, 2, first=50), name="newer.dat")
    stalled = write_source(HISTORY, "window.days=3")
    overtake, publish = other_import(store, newer), store.publish

    def slow(key: str, data: bytes) -> object:
        overtake()
        return publish(key, data)

    monkeypatch.setattr(store, "publish", slow)
    ingested = ingest_missing(store, stalled, DAY)
    assert ingested is not None
    assert ingested.ledger.left_out == {
        "same": {date(2020, 1, 1): 3, DAY: 5},
        "different": {BEFORE: 4},
    }
    incoming = ClickCatalog(store).days()[BEFORE].incoming
    assert incoming is not None
    assert incoming.rows == 6


def test_stalled_import_does_not_overwrite_clicks_that_a_newer_one_found_unchanged(
    write_source: WriteSource, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(store, write_source(HISTORY))
    stalled, publish = write_source(lines(2, 2), "ingest.changed_days=take"), store.publish
    corrected: list[Settings] = []

    def slow(key: str, data: bytes) -> object:
        if not corrected:
            corrected.append(write_source(HISTORY))
            ingest(store, corrected[0])
        return publish(key, data)

    monkeypatch.setattr(store, "publish", slow)
    assert ingest(store, stalled).days == ()
    incoming = ClickCatalog(store).days()[BEFORE].incoming
    assert incoming is not None
    assert incoming.rows == 4


def test_commit_that_was_overtaken_is_refused_if_it_names_the_same_day(write_source: WriteSource, store: Store) -> None:
    catalog = ClickCatalog(store)
    settings = write_source(lines(2, 4))
    source = source_record_of(settings)
    ingest(store, settings)
    revision = catalog.days()[BEFORE].incoming
    assert isinstance(revision, Revision)
    with pytest.raises(OvertakenError, match=f"Commit 1 .import. named {BEFORE} while this import read its source"):
        catalog.commit_import([revision], empty=[], source=source, at="2020-01-05T00:00:00+00:00", since=0)
    other = [DAY + timedelta(days=1)]
    catalog.commit_import([], empty=other, source=source, at="2020-01-05T00:00:00+00:00", since=0)
    assert catalog.days()[other[0]].status == "empty"


def with_source(monkeypatch: pytest.MonkeyPatch, settings: Settings, settle_seconds: int = 60) -> None:
    names = {"STORE": settings.store, "SOURCE__PATH": settings.source.path, "SOURCE__SETTLE_SECONDS": settle_seconds}
    for name, value in names.items():
        monkeypatch.setenv(f"SBR_{name}", str(value))


def test_file_that_just_changed_has_not_arrived_and_is_not_read(
    write_source: WriteSource, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = write_source(HISTORY)
    with_source(monkeypatch, settings)
    with pytest.raises(NotArrivedError, match=r"clicks\.dat changed \d+ s ago, so it may be half written\. Nothing was read"):
        Workspace.open().ingest_clicks(DAY)
    assert ClickCatalog(store).days() == {}
    file, old = Path(str(settings.source.path)), time.time() - 61
    os.utime(file, (old, old))
    assert Workspace.open().ingest_clicks(DAY).clicks == 5


def test_file_that_just_changed_is_read_where_nothing_is_to_settle(
    write_source: WriteSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_source(monkeypatch, write_source(HISTORY), settle_seconds=0)
    assert Workspace.open().ingest_clicks(DAY).clicks == 5


def test_command_reads_a_file_that_it_names_at_once_and_says_so(
    write_source: WriteSource, command_line: Sbr, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = write_source(HISTORY)
    with_source(monkeypatch, settings)
    caplog.set_level("INFO")
    code, _, err = command_line("ingest")
    assert code == 1
    assert "may be half written. Nothing was read." in err
    assert command_line("ingest", "--from", str(settings.source.path))[0] == 0
    assert "may be half written. Reading now" in caplog.text


def test_clock_of_another_machine_does_not_hold_a_file_back_for_ever(
    write_source: WriteSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = write_source(HISTORY)
    with_source(monkeypatch, settings)
    ahead = time.time() + 3600
    os.utime(str(settings.source.path), (ahead, ahead))
    assert Workspace.open().ingest_clicks(DAY).clicks == 5


def test_missing_day_says_which_days_the_source_holds(write_source: WriteSource, monkeypatch: pytest.MonkeyPatch) -> None:
    with_source(monkeypatch, write_source(HISTORY), settle_seconds=0)
    for _ in range(2):  # the second time the source is unchanged, and isn't read again
        with pytest.raises(
            NotArrivedError, match=r"2020-01-09 has no clicks in .*: it holds clicks of 2020-01-01 to 2020-01-03\."
        ):
            Workspace.open().ingest_clicks("2020-01-09")


@pytest.mark.parametrize(
    ("days", "time_unit", "expected"),
    [
        (["1970-01-17", "1970-01-18"], "ms", "s"),
        (["1970-01-18"], "us", "ms"),
        (["1970-01-01"], "us", "s"),
        (["1970-01-18"], "s", None),
        (["1970-01-18"], "iso", None),
        (["1970-01-18", "2020-01-01"], "ms", None),
        ([], "ms", None),
    ],
)
def test_unit_that_fits_times_of_january_1970_is_named(days: list[str], time_unit: str, expected: str | None) -> None:
    assert fitting_unit([date.fromisoformat(day) for day in days], time_unit) == expected


def test_missing_day_names_the_unit_that_fits() -> None:
    settings = load_settings({"source.time_unit": "ms", "source.path": "/clicks.csv"})
    said = no_clicks_of(DAY, [date(1970, 1, 18)], settings)
    assert said.startswith(f"{DAY} has no clicks in /clicks.csv: it holds clicks of 1970-01-18.")
    assert said.endswith("source.time_unit=ms. Try source.time_unit=s.")


def test_changed_time_zone_is_refused_on_a_store_with_days(write_source: WriteSource, store: Store) -> None:
    settings = write_source(HISTORY, "window.days=3")
    ingest(store, settings)
    moved = write_source(HISTORY, "window.days=3", "timezone=America/New_York")
    with pytest.raises(DayError) as caught:
        ingest_missing(store, moved, DAY)
    assert str(caught.value) == (
        f"The days of this store were cut at midnights of UTC (the newest is {DAY}), and the setting timezone is "
        "America/New_York. Days of two zones overlap, so nothing was ingested. Set timezone back to UTC, or give "
        "America/New_York a store of its own (SBR_STORE) and ingest the history into it."
    )
    with pytest.raises(DayError, match="Set timezone back to UTC"):
        ingest(store, moved)
    without_source = load_settings({"store": settings.store, "timezone": "America/New_York"})
    with pytest.raises(DayError, match="Set timezone back to UTC"):
        ingest_missing(store, without_source, DAY)


def test_time_zone_may_change_while_the_store_has_no_days(write_source: WriteSource, store: Store) -> None:
    nine = date(2020, 1, 9)
    with pytest.raises(NotArrivedError):
        Workspace.open({"store": store.url, "source.path": "/nowhere"}).ingest_clicks(nine)
    ingest_missing(store, write_source(HISTORY, "window.days=3"), nine)
    assert ClickCatalog(store).days()[nine].status == "empty"
    moved = ingest_missing(store, write_source(HISTORY, "window.days=3", "timezone=America/New_York"), DAY)
    assert moved is not None
    assert DAY in moved.days


def test_days_are_read_again_as_strings_where_the_id_type_changes(write_source: WriteSource, store: Store) -> None:
    settings = write_source(HISTORY, "window.days=3")
    ingest_missing(store, settings, DAY)
    validate_pending(store, settings)
    as_strings = write_source(HISTORY, "window.days=3", "source.id_type=string")
    ingest_missing(store, as_strings, DAY)
    validate_pending(store, as_strings)
    for state in ClickCatalog(store).days().values():
        assert state.accepted is not None
        assert store.read_table(state.accepted.file).schema.field("item_id").type == pa.string()


def test_import_that_would_mix_id_types_stores_nothing(write_source: WriteSource, store: Store) -> None:
    settings = write_source(HISTORY, "window.days=3")
    ingest_missing(store, settings, DAY)
    before = ClickCatalog(store).look()
    shrunk = write_source(lines(1, 3) + lines(2, 2) + lines(3, 6), "window.days=3", "source.id_type=string")
    with pytest.raises(DayError, match=f"ids of type integer on {BEFORE}, .* source.id_type is string"):
        ingest_missing(store, shrunk, DAY)
    with pytest.raises(DayError, match="ids of type integer on 2020-01-01 to 2020-01-02"):
        ingest(store, write_source(lines(3, 6), "source.id_type=string"))
    assert ClickCatalog(store).look() == before
