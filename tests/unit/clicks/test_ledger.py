from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from sbr_tasks.clicks.catalog import ClickCatalog
from sbr_tasks.clicks.ingest import ingest, ingest_missing
from sbr_tasks.clicks.ledger import Ledger
from sbr_tasks.errors import SourceError
from sbr_tasks.settings import load_settings
from sbr_tasks.store import NumberedLog, Store, kinds
from sbr_tasks.summary import in_one_line
from sbr_tasks.validation.closing import commit_closing
from sbr_tasks.validation.validate_days import validate_pending
from sbr_tasks.workspace import Workspace
from tests.unit.clicks.conftest import WriteSource

DAY, BEFORE = date(2020, 1, 3), date(2020, 1, 2)
Sbr = Callable[..., tuple[int, str, str]]


def line(day: int, session: int, item: int = 7, second: int = 0) -> str:
    return f"{session},2020-01-{day:02d}T10:00:{second:02d}Z,{item},0\n"


def lines(day: int, n: int, first: int = 0) -> str:
    return "".join(line(day, 1000 * day + session) for session in range(first, first + n))


HISTORY = lines(1, 3) + lines(2, 4) + lines(3, 5)


def test_each_line_is_stored_rejected_or_left_out_by_day_and_reason(write_source: WriteSource, store: Store) -> None:
    settings = write_source(lines(1, 3) + lines(2, 4), "window.days=3")
    ingest(store, settings)
    validate_pending(store, settings)
    content = lines(1, 3) + lines(2, 1, first=9) + lines(3, 5) + lines(9, 2) + "oops\n"
    ingested = ingest_missing(store, write_source(content, "window.days=3", "ingest.max_rejected=0.2"), DAY)
    assert ingested is not None
    assert ingested.ledger == Ledger(
        read=12,
        stored=5,
        rejected=1,
        left_out={"outside_window": {date(2020, 1, 9): 2}, "same": {date(2020, 1, 1): 3}, "different": {BEFORE: 1}},
    )


def test_days_read_before_from_the_same_source_count_as_the_same(write_source: WriteSource, store: Store) -> None:
    settings = write_source(HISTORY, "window.days=3")
    ingest_missing(store, settings, BEFORE)
    ingested = ingest_missing(store, settings, DAY)
    assert ingested is not None
    assert ingested.ledger.left_out == {"same": {date(2020, 1, 1): 3, BEFORE: 4}}
    assert not ingested.ledger.is_worth_showing


def test_ledger_is_in_the_log_and_in_the_commit(
    write_source: WriteSource, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    ingest_missing(store, write_source(HISTORY, "window.days=3"), BEFORE)
    said = "12 lines read = 7 stored + 0 rejected + 5 left out (outside the window: 5, 2020-01-03)"
    assert f"Ledger: {said}." in caplog.messages
    source = NumberedLog(store, kinds.COMMIT).entries()[-1].body["source"]
    assert source["ledger"] == {
        "read": 12,
        "stored": 7,
        "rejected": 0,
        "filtered": 0,
        "left_out": {"outside_window": {"2020-01-03": 5}},
    }
    ledger = ClickCatalog(store).ledger_of(BEFORE)
    assert ledger is not None
    assert ledger.in_words() == said


def test_ledger_is_in_the_summary_of_the_task(write_source: WriteSource, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = write_source(HISTORY)
    for name, value in {"STORE": settings.store, "SOURCE__PATH": settings.source.path, "SOURCE__SETTLE_SECONDS": 0}.items():
        monkeypatch.setenv(f"SBR_{name}", str(value))
    summary = Workspace.open().ingest_clicks(BEFORE).model_dump(mode="json")
    assert summary["ledger"]["left_out"] == {"outside_window": {"2020-01-03": 5}}
    assert "read 12, stored 7, rejected 0, filtered 0, left_out (outside_window (2020-01-03 5))" in in_one_line(summary)


def test_ledger_of_a_command_is_logged_once_and_in_json(
    command_line: Sbr, write_source: WriteSource, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = write_source(HISTORY)
    monkeypatch.setenv("SBR_STORE", settings.store)
    source = ("ingest", "--from", str(settings.source.path), "--format", "yoochoose")
    assert command_line(*source)[0] == 0
    caplog.clear()
    caplog.set_level("INFO")
    _, out, _ = command_line(*source)
    assert out == f"No new clicks in {settings.source.path}.\n"
    said = "12 lines read = 0 stored + 0 rejected + 12 left out (already stored and the same: 12, 2020-01-01 to 2020-01-03)"
    assert [line for line in caplog.messages if "lines read" in line] == [f"Ledger: {said}."]
    _, out, _ = command_line(*source, "--json")
    assert json.loads(out)["ledger"]["left_out"] == {"same": {"2020-01-01": 3, "2020-01-02": 4, "2020-01-03": 5}}


def test_ledger_of_a_day_names_its_clicks_that_a_later_import_left_out(write_source: WriteSource, store: Store) -> None:
    ingest(store, write_source(HISTORY))
    shrunk = ingest(store, write_source(HISTORY.replace(lines(3, 5), lines(3, 2))))
    assert shrunk.ledger.left_out["different"] == {DAY: 2}
    assert ClickCatalog(store).ledger_of(DAY) == shrunk.ledger
    assert ClickCatalog(store).ledger_of(BEFORE) != shrunk.ledger


def test_clicks_of_a_closed_day_are_left_out_by_name_and_with_the_command_that_takes_them(
    write_source: WriteSource, store: Store, command_line: Sbr
) -> None:
    commit_closing(store, BEFORE, reason="Holiday", actor="ann", now=datetime(2020, 1, 1, tzinfo=UTC))
    ingested = ingest_missing(store, write_source(HISTORY, "window.days=3"), DAY)
    assert ingested is not None
    assert ingested.ledger.left_out == {"closed": {BEFORE: 4}}
    assert ingested.ledger.is_worth_showing
    (warning,) = ingested.warnings
    assert warning.startswith(f"The source holds 4 clicks of {BEFORE}, which is closed (ann on ")
    assert ClickCatalog(store).days()[BEFORE].status == "closed"
    command = re.search("`sbr (.*)`", warning)
    assert command is not None
    assert command_line(*shlex.split(command[1]))[0] == 0
    assert ClickCatalog(store).days()[BEFORE].status == "incoming"


def test_days_between_two_far_clicks_are_not_listed_one_by_one(
    write_source: WriteSource, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    far = "1,2001-01-01T00:00:00Z,7,0\n" + lines(2, 4) + lines(4, 1)
    ingest(store, write_source(far))
    (commit,) = (tmp_path / "store").glob("commits/clicks/*.json")
    assert json.loads(commit.read_text())["empty"] == ["2001-01-02/2020-01-01", "2020-01-03"]
    assert commit.stat().st_size < 3000
    days = ClickCatalog(store).days()
    assert {days[date(2001, 1, 2)].status, days[date(2010, 6, 1)].status, days[date(2020, 1, 1)].status} == {"empty"}
    assert max(map(len, caplog.messages)) < 200
    assert "The source has no clicks on 2001-01-02 to 2020-01-01, 2020-01-03." in caplog.messages


def test_source_of_which_where_leaves_out_all_lines_says_so(tmp_path: Path, store: Store) -> None:
    file = tmp_path / "events.csv"
    file.write_text("session_id,item_id,clicked_at,kind\n1,1,2020-01-01T00:00:00Z,cart\n")
    settings = load_settings({"source.path": str(file), "source.format": "csv", "source.where": "kind = view"})
    with pytest.raises(SourceError, match=r"source\.where='kind = view' leaves out 1 of its 1 lines"):
        ingest(store, settings)


def test_ledger_that_does_not_balance_stores_nothing(
    write_source: WriteSource, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sbr_tasks.clicks.ingest._Spill.outside", lambda _: {})
    with pytest.raises(SourceError, match="12 lines were read and 7 are accounted for"):
        ingest_missing(store, write_source(HISTORY, "window.days=3"), BEFORE)
    assert not (tmp_path / "store" / "commits").exists()


def test_lines_that_are_not_asked_for_are_accounted_for(tmp_path: Path, store: Store) -> None:
    file = tmp_path / "events.csv"
    rows = [f"1,{item},2020-01-01T00:00:{item:02d}Z,{kind}" for item, kind in enumerate(("view", "cart", "view", "view"))]
    file.write_text("\n".join(["session_id,item_id,clicked_at,kind", *rows, ""]))
    ledger = ingest(
        store, load_settings({"source.path": str(file), "source.format": "csv", "source.where": "kind = view"})
    ).ledger
    assert (ledger.read, ledger.stored, ledger.filtered) == (4, 3, 1)
    assert ledger.in_words() == "4 lines read = 3 stored + 0 rejected + 1 filtered out (source.where) + 0 left out"


def test_ledger_refuses_unknown_fields() -> None:
    with pytest.raises(ValidationError):
        Ledger.model_validate({"read": 0, "stored": 0, "rejected": 0, "left_out": {}, "lost": 1})
