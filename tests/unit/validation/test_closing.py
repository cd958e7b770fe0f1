from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from sbr_tasks import steps
from sbr_tasks.clicks.catalog import ClickCatalog
from sbr_tasks.clicks.ingest import ingest, ingest_missing
from sbr_tasks.errors import DayError, NotArrivedError
from sbr_tasks.report.runs import run_rows
from sbr_tasks.store import Store
from sbr_tasks.upkeep.check import check_store
from sbr_tasks.upkeep.copy import copy_store
from sbr_tasks.upkeep.inventory import take_inventory
from sbr_tasks.upkeep.plan import revision_files
from sbr_tasks.validation.checkpoint import validate_pending
from sbr_tasks.validation.closing import close_day
from tests.unit.days import parquet_settings, write_parquet
from tests.unit.validation.test_checkpoint import D, ingest_days, plain_day

CLOSED = D + timedelta(days=1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """D is accepted, the day after it is closed."""
    store = ingest_days(tmp_path, {D: plain_day(D)})
    validate_pending(store, parquet_settings(tmp_path))
    close_day(store, CLOSED, reason=" Whit Monday ", actor="ann@shop")
    return store


def test_closed_day_says_who_closed_it_and_why(store: Store) -> None:
    state = ClickCatalog(store).days()[CLOSED]
    assert state.status == "closed"
    assert state.closed is not None
    assert (state.closed["actor"], state.closed["reason"]) == ("ann@shop", "Whit Monday")
    assert [row.validation for row in run_rows(store, [CLOSED])] == ["closed"]


def test_run_of_a_closed_day_is_refused_and_not_waited_for(tmp_path: Path, store: Store) -> None:
    day = ClickCatalog(store).days()[CLOSED].closed["at"][:10]  # type: ignore[index]
    overrides = [f"store={tmp_path / 'store'}", f"source.path={tmp_path / 'in'}", "source.format=parquet"]
    for run in (steps.ingest_clicks, steps.ingest_clicks_once_there, steps.validate_clicks, steps.build_window):
        with pytest.raises(DayError) as caught:
            run(str(CLOSED), overrides=overrides)
        assert not isinstance(caught.value, NotArrivedError)
        assert str(caught.value) == (
            f"{CLOSED} is closed, so it has no clicks and no run (ann@shop on {day}: Whit Monday). If it has clicks after all, "
            "`sbr ingest` them: that reopens the day."
        )


def test_source_is_not_asked_for_a_closed_day(tmp_path: Path, store: Store) -> None:
    after = CLOSED + timedelta(days=1)
    write_parquet(tmp_path / "in" / f"{after}.parquet", plain_day(after))
    ingested = ingest_missing(store, parquet_settings(tmp_path, "window.days=3"), after)
    assert ingested is not None
    assert (ingested.days, ingested.empty) == ((after,), ())


def test_clicks_that_come_all_the_same_reopen_the_day(tmp_path: Path, store: Store) -> None:
    write_parquet(tmp_path / "in" / f"{CLOSED}.parquet", plain_day(CLOSED))
    settings = parquet_settings(tmp_path)
    ingest(store, settings)
    validate_pending(store, settings)
    state = ClickCatalog(store).days()[CLOSED]
    assert (state.status, state.closed) == ("accepted", None)


@pytest.mark.parametrize(("day", "reason"), [(D, "Sunday"), (CLOSED, " ")])
def test_day_with_clicks_and_closing_without_a_reason_are_refused(store: Store, day: date, reason: str) -> None:
    expected = "it is accepted" if reason.strip() else "needs a reason"
    n_commits = len(list(store.keys("commits")))
    with pytest.raises(DayError, match=expected):
        close_day(store, day, reason=reason, actor="ann")
    assert len(list(store.keys("commits"))) == n_commits


def test_store_with_a_closed_day_is_whole_and_can_be_copied_and_cleared(tmp_path: Path, store: Store) -> None:
    assert check_store(store).faults == ()
    copy = Store(str(tmp_path / "copy"))
    copy_store(store, copy)
    assert ClickCatalog(copy).days()[CLOSED].status == "closed"
    assert set(revision_files(take_inventory(store).commits)) == {D}


def test_command_closes_a_day(tmp_path: Path, command_line: Callable[..., tuple[int, str, str]]) -> None:
    close = ("days", "close", "2020-12-25", "--reason", "Christmas", "--set", f"store={tmp_path}", "--json")
    code, out, _ = command_line(*close)
    assert (code, json.loads(out)["reason"]) == (0, "Christmas")
    assert ClickCatalog(Store(str(tmp_path))).days()[date(2020, 12, 25)].status == "closed"
