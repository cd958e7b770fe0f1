from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from sbr_tasks.clicks.catalog import ClickCatalog
from sbr_tasks.clicks.ingest import ingest, ingest_missing
from sbr_tasks.errors import DayError, NotArrivedError, ReasonError
from sbr_tasks.report.runs import run_rows
from sbr_tasks.store import Store
from sbr_tasks.upkeep.check import verify_store
from sbr_tasks.upkeep.copy import copy_objects
from sbr_tasks.upkeep.inventory import take_inventory
from sbr_tasks.upkeep.plan import revision_files
from sbr_tasks.validation.closing import commit_closing, commit_opening, day_rows
from sbr_tasks.validation.validate_days import validate_pending
from sbr_tasks.workspace import Workspace
from tests.unit.days import at, parquet_settings, write_parquet
from tests.unit.validation.test_validate_days import D, ingest_days, plain_day

pytestmark = pytest.mark.slow

CLOSED = D + timedelta(days=1)
NOW = at(D, 0)
WHY = f"ann@shop on {D}: Whit Monday"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """D is accepted, the day after it is closed."""
    store = ingest_days(tmp_path, {D: plain_day(D)})
    validate_pending(store, parquet_settings(tmp_path))
    commit_closing(store, CLOSED, reason=" Whit Monday ", actor="ann@shop", now=NOW)
    return store


def test_closed_day_says_who_closed_it_and_why(store: Store) -> None:
    state = ClickCatalog(store).days()[CLOSED]
    assert state.status == "closed"
    assert state.closed is not None
    assert (state.closed.actor, state.closed.reason) == ("ann@shop", "Whit Monday")
    assert [row.validation for row in run_rows(store, [CLOSED])] == ["closed"]


def test_run_of_a_closed_day_is_refused_and_not_waited_for(tmp_path: Path, store: Store) -> None:
    overrides = {"store": str(tmp_path / "store"), "source.path": str(tmp_path / "in"), "source.format": "parquet"}
    shop = Workspace.open(overrides)
    for run in (shop.ingest_clicks, shop.validate_clicks, shop.build_window):
        with pytest.raises(DayError) as caught:
            run(CLOSED)
        assert not isinstance(caught.value, NotArrivedError)
        assert str(caught.value) == (
            f"{CLOSED} is closed, so it has no clicks and no run ({WHY}). If it has clicks after all, open it with "
            f"`sbr days open {CLOSED} --reason REASON` and run it again."
        )


def test_source_is_not_asked_for_a_closed_day(tmp_path: Path, store: Store) -> None:
    after = CLOSED + timedelta(days=1)
    write_parquet(tmp_path / "in" / f"{after}.parquet", plain_day(after))
    ingested = ingest_missing(store, parquet_settings(tmp_path, "window.days=3"), after)
    assert ingested is not None
    assert (ingested.days, ingested.empty) == ((after,), ())


def test_import_of_clicks_opens_the_day_and_warns(tmp_path: Path, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    write_parquet(tmp_path / "in" / f"{CLOSED}.parquet", plain_day(CLOSED))
    settings = parquet_settings(tmp_path)
    (warning,) = ingest(store, settings).warnings
    assert warning == f"{CLOSED} was closed ({WHY}), and is open again because the source holds 12 clicks of it."
    assert warning in caplog.messages
    validate_pending(store, settings)
    state = ClickCatalog(store).days()[CLOSED]
    assert (state.status, state.closed) == ("accepted", None)


def test_run_warns_of_clicks_of_a_closed_day_of_its_window(tmp_path: Path, store: Store) -> None:
    after = CLOSED + timedelta(days=1)
    for day in (CLOSED, after):
        write_parquet(tmp_path / "in" / f"{day}.parquet", plain_day(day))
    settings = parquet_settings(tmp_path, "window.days=3")
    ingested = ingest_missing(store, settings, after)
    assert ingested is not None
    (warning,) = ingested.warnings
    assert warning.startswith(f"The source holds 12 clicks of {CLOSED}, which is closed ({WHY}).")
    commit_opening(store, CLOSED, reason="it was open", actor="ann", now=NOW)
    ingested = ingest_missing(store, settings, after)
    assert ingested is not None
    assert (ingested.days, ingested.warnings) == ((CLOSED,), ())


def test_closing_again_keeps_the_first_reason(store: Store) -> None:
    n_commits = len(list(store.keys("commits")))
    commit_closing(store, CLOSED, reason="Whit Monday", actor="bob", now=NOW)
    with pytest.raises(DayError, match=r"closed already \(ann@shop on .*: Whit Monday\)\."):
        commit_closing(store, CLOSED, reason="strike", actor="bob", now=NOW)
    assert len(list(store.keys("commits"))) == n_commits
    commit_opening(store, CLOSED, reason="wrong reason", actor="bob", now=NOW)
    commit_closing(store, CLOSED, reason="strike", actor="bob", now=NOW)
    assert str(ClickCatalog(store).days()[CLOSED].closed) == f"bob on {D}: strike"


@pytest.mark.parametrize(("days_ahead", "is_taken"), [(366, True), (367, False)])
def test_day_may_be_closed_a_year_ahead(store: Store, days_ahead: int, is_taken: bool) -> None:
    day = D + timedelta(days=days_ahead)
    if not is_taken:
        with pytest.raises(DayError, match=f"Expected a day up to .*, a year ahead; found {day}"):
            commit_closing(store, day, reason="holiday", actor="ann", now=NOW)
    else:
        commit_closing(store, day, reason="holiday", actor="ann", now=NOW)
    assert (day in ClickCatalog(store).days()) is is_taken


def test_opened_day_is_as_before_it_was_closed(store: Store) -> None:
    commit_opening(store, CLOSED, reason="open after all", actor="ann", now=NOW)
    assert ClickCatalog(store).days()[CLOSED].status == "unknown"
    with pytest.raises(DayError, match=f"{CLOSED} isn't closed: it is unknown"):
        commit_opening(store, CLOSED, reason="again", actor="ann", now=NOW)
    with pytest.raises(DayError, match=f"{D} isn't closed: it is accepted"):
        commit_opening(store, D, reason="why not", actor="ann", now=NOW)
    with pytest.raises(ReasonError, match="needs a reason"):
        commit_opening(store, CLOSED, reason=" ", actor="ann", now=NOW)


def test_days_are_listed_with_who_closed_them(store: Store) -> None:
    closed = {"actor": "ann@shop", "at": NOW.isoformat(timespec="seconds"), "reason": "Whit Monday"}
    assert [row.model_dump(mode="json") for row in day_rows(store)] == [
        {"day": str(D), "status": "accepted", "clicks": 12, "closed": None},
        {"day": str(CLOSED), "status": "closed", "clicks": None, "closed": closed},
    ]


@pytest.mark.parametrize(("day", "reason"), [(D, "Sunday"), (CLOSED, " ")])
def test_day_with_clicks_and_closing_without_a_reason_are_refused(store: Store, day: date, reason: str) -> None:
    expected = "it is accepted" if reason.strip() else "needs a reason"
    n_commits = len(list(store.keys("commits")))
    with pytest.raises(DayError if reason.strip() else ReasonError, match=expected):
        commit_closing(store, day, reason=reason, actor="ann", now=NOW)
    assert len(list(store.keys("commits"))) == n_commits


def test_store_with_closed_and_opened_days_is_whole_and_can_be_copied(tmp_path: Path, store: Store) -> None:
    opened = CLOSED + timedelta(days=1)
    commit_closing(store, opened, reason="strike", actor="ann", now=NOW)
    commit_opening(store, opened, reason="no strike", actor="ann", now=NOW)
    assert verify_store(store).faults == ()
    copy = Store(str(tmp_path / "copy"))
    copy_objects(store, copy)
    assert [ClickCatalog(copy).days()[day].status for day in (CLOSED, opened)] == ["closed", "unknown"]
    assert set(revision_files(take_inventory(store).commits)) == {D}


def test_commands_close_list_and_open_a_day(tmp_path: Path, command_line: Callable[..., tuple[int, str, str]]) -> None:
    close = ("days", "close", "2020-12-25", "--reason", "Christmas", "--set", f"store={tmp_path}", "--json")
    code, out, _ = command_line(*close)
    assert (code, json.loads(out)["reason"]) == (0, "Christmas")
    (day,) = json.loads(command_line("days", "list", "--set", f"store={tmp_path}", "--json")[1])["days"]
    assert (day["day"], day["status"], day["closed"]["reason"]) == ("2020-12-25", "closed", "Christmas")
    assert f"{day['closed']['at'][:10]}: Christmas" in command_line("days", "list", "--set", f"store={tmp_path}")[1]
    reopen = ("days", "open", "2020-12-25", "--reason", "open this year", "--set", f"store={tmp_path}")
    assert command_line(*reopen)[0] == 0
    assert ClickCatalog(Store(str(tmp_path))).days()[date(2020, 12, 25)].status == "unknown"


def test_command_refuses_a_day_that_is_far_ahead(tmp_path: Path, command_line: Callable[..., tuple[int, str, str]]) -> None:
    far = datetime.now(UTC).date() + timedelta(days=400)
    code, _, err = command_line("days", "close", str(far), "--reason", "typo", "--set", f"store={tmp_path}")
    assert (code, str(far) in err) == (1, True)
    assert not list(Store(str(tmp_path)).keys("commits"))
