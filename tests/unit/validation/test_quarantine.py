from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sbr_tasks.cli import app
from sbr_tasks.clicks.catalog import ClickCatalog
from sbr_tasks.clicks.ingest import ingest
from sbr_tasks.errors import DayError, ReasonError
from sbr_tasks.report.runs import run_rows
from sbr_tasks.settings import Settings
from sbr_tasks.store import Store
from sbr_tasks.upkeep.check import verify_store
from sbr_tasks.upkeep.clear import remove_day
from sbr_tasks.validation.quarantine import commit_release, describe_quarantined, quarantine_rows
from sbr_tasks.validation.validate_days import validate_pending
from tests.unit.days import Click, at, parquet_settings
from tests.unit.validation.test_validate_days import D, claim_zone, ingest_days, plain_day

pytestmark = pytest.mark.slow

STRICT = 'validation.severities={"repeated_clicks": "critical"}'
RULE = "At most 1% of the clicks repeat another one (same session, item and time)"
EXAMPLE = "session 60301, item 0 at 2020-06-03 00:00:00+00:00"
FAILURE = f"{RULE}: broken by 1 of 13 clicks, such as {EXAMPLE}"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return parquet_settings(tmp_path, STRICT)


@pytest.fixture
def store(tmp_path: Path, settings: Settings) -> Store:
    """D is in quarantine because a click is there twice; the day before is accepted."""
    before = D - timedelta(days=1)
    store = ingest_days(tmp_path, {before: plain_day(before), D: [*plain_day(D), plain_day(D)[0]]})
    validate_pending(store, settings)
    return store


def test_days_in_quarantine_are_listed_with_reasons(store: Store) -> None:
    (row,) = quarantine_rows(store)
    assert (row.day, row.clicks, row.failures, row.accepted_rev) == (D, 13, (FAILURE,), None)


def test_day_in_quarantine_is_shown_with_facts_examples_and_files(store: Store) -> None:
    found = describe_quarantined(store, D)
    assert (found.status, found.failures, found.released) == ("quarantined", (FAILURE,), None)
    assert found.facts["clicks"] == 13
    assert found.examples == {RULE: (EXAMPLE,)}
    for place in (found.file, found.result, found.data_docs):
        assert Path(place).is_file()


def test_released_day_is_read_by_windows_and_says_so_for_ever(store: Store, settings: Settings) -> None:
    before = store.keys("clicks")
    released = commit_release(store, settings, D, reason="  the shop counts double clicks ", actor="ann@shop")
    state = ClickCatalog(store).days()[D]
    assert (state.status, state.quarantined, state.failures, state.accepted) == ("accepted", None, (), released)
    assert store.keys("clicks") == before
    assert ClickCatalog(store).read(released).num_rows == 13
    assert state.released is not None
    assert (state.released.actor, state.released.reason) == ("ann@shop", "the shop counts double clicks")
    day = datetime.fromisoformat(state.released.at).date()
    sentence = f"released from quarantine by ann@shop on {day}: the shop counts double clicks; failed: {FAILURE}"
    assert state.warnings == (sentence,)
    assert state.warnings_of(released.rev) == (sentence,)
    assert {row.day: row.validation for row in run_rows(store, [D])} == {D: "accepted, released"}
    assert describe_quarantined(store, D).status == "released"
    assert quarantine_rows(store) == []


def test_released_clicks_that_are_ingested_again_stay_released(store: Store, settings: Settings) -> None:
    released = commit_release(store, settings, D, reason="looked at", actor="ann")
    ingest(store, settings)
    assert validate_pending(store, settings).quarantined == ()
    state = ClickCatalog(store).days()[D]
    assert (state.status, state.accepted) == ("accepted", released)
    assert state.released is not None


def test_other_clicks_of_a_released_day_are_judged_again(tmp_path: Path, store: Store, settings: Settings) -> None:
    released = commit_release(store, settings, D, reason="looked at", actor="ann")
    ingest_days(tmp_path, {D: [*plain_day(D), *plain_day(D)[:2]]}, STRICT)
    validate_pending(store, settings)
    state = ClickCatalog(store).days()[D]
    assert (state.status, state.accepted) == ("quarantined", released)
    assert state.warnings_of(released.rev)[0].startswith("released from quarantine by ann")
    assert describe_quarantined(store, D).status == "quarantined"


def test_release_without_a_reason_is_refused(store: Store, settings: Settings) -> None:
    with pytest.raises(ReasonError, match="needs a reason"):
        commit_release(store, settings, D, reason=" \n", actor="ann")
    assert ClickCatalog(store).days()[D].status == "quarantined"


@pytest.mark.parametrize(("day", "status"), [(D - timedelta(days=1), "accepted"), (D + timedelta(days=1), "unknown")])
def test_day_that_is_not_in_quarantine_is_refused(store: Store, settings: Settings, day: date, status: str) -> None:
    sentence = f"{day} isn't in quarantine: it is {status}. `sbr quarantine list` shows the days that are."
    with pytest.raises(DayError) as caught:
        commit_release(store, settings, day, reason="because", actor="ann")
    assert str(caught.value) == sentence
    with pytest.raises(DayError) as caught:
        describe_quarantined(store, day)
    assert str(caught.value) == sentence


def test_second_release_at_once_is_refused(store: Store, settings: Settings) -> None:
    revision = ClickCatalog(store).days()[D].quarantined
    assert revision is not None
    commit_release(store, settings, D, reason="because", actor="ann")
    with pytest.raises(DayError, match="is accepted; only the clicks of a day in quarantine"):
        ClickCatalog(store).commit_release(revision, actor="bob", reason="because", at="2020-06-05")


def test_validation_that_ends_after_the_release_does_not_undo_it(store: Store, settings: Settings) -> None:
    catalog = ClickCatalog(store)
    state = catalog.days()[D]
    assert state.quarantined is not None
    judged = state.decided[state.quarantined.rev]
    commit_release(store, settings, D, reason="because", actor="ann")
    catalog.commit_validation({D: judged}, at="2020-06-05")
    assert catalog.days()[D].status == "accepted"
    assert catalog.days()[D].released is not None


def test_validation_that_ends_after_its_day_was_forgotten_is_not_recorded(store: Store) -> None:
    catalog = ClickCatalog(store)
    state = catalog.days()[D]
    assert state.quarantined is not None
    judged = state.decided[state.quarantined.rev]
    remove_day(store, D, reason="bots", now=datetime.now(UTC))
    assert catalog.commit_validation({D: judged}, at="2020-06-05") == {}
    assert catalog.days()[D].status == "removed"
    assert verify_store(store).faults == ()


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ((None, 1, at(D, 9)), "1 clicks have no session_id"),
        ((9, None, at(D, 9)), "1 clicks have no item_id"),
        ((9, -5, at(D, 9)), "1 clicks have an item_id that is negative or empty"),
    ],
)
def test_clicks_that_windows_cannot_hold_are_never_released(tmp_path: Path, bad: Click, why: str) -> None:
    store = ingest_days(tmp_path, {D: [*plain_day(D), bad]})
    settings = parquet_settings(tmp_path)
    validate_pending(store, settings)
    with pytest.raises(DayError) as caught:
        commit_release(store, settings, D, reason="because", actor="ann")
    assert str(caught.value) == (
        f"{D} can't be released, because a window can't hold its clicks: {why}. Correct the source and run the day again."
    )
    assert ClickCatalog(store).days()[D].status == "quarantined"


def test_clicks_outside_their_day_are_never_released(tmp_path: Path) -> None:
    store = ingest_days(tmp_path, {D: [*plain_day(D), (9, 5, at(D, 86_399))]})
    settings = parquet_settings(tmp_path, "timezone=Europe/Amsterdam")
    claim_zone(store, D, settings.timezone)
    validate_pending(store, settings)
    with pytest.raises(DayError, match="1 clicks are outside the day"):
        commit_release(store, settings, D, reason="because", actor="ann")


def test_empty_item_ids_are_never_released(tmp_path: Path) -> None:
    store = ingest_days(tmp_path, {D: [("a", "", at(D, 1)), ("a", "x", at(D, 2))]}, "source.id_type=string")
    settings = parquet_settings(tmp_path)
    validate_pending(store, settings)
    with pytest.raises(DayError, match="1 clicks have an item_id that is negative or empty"):
        commit_release(store, settings, D, reason="because", actor="ann")


def test_command_line_lists_shows_and_releases(store: Store) -> None:
    def sbr(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["quarantine", *arguments, "--set", f"store={store.url}"])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert FAILURE[:40] in sbr("list")
    assert json.loads(sbr("list", "--json"))["quarantine"][0]["day"] == str(D)
    assert json.loads(sbr("show", str(D), "--json"))["failures"] == [FAILURE]
    assert json.loads(sbr("release", str(D), "--reason", "fine", "--json"))["reason"] == "fine"
    assert sbr("list") == "No day is in quarantine.\n"
    assert json.loads(sbr("show", str(D)))["released"]["reason"] == "fine"
