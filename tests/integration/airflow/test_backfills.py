"""Backfills by a real scheduler: what the log says afterwards, whatever the order of the days."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pyarrow.compute as pc
import pytest

from sbr_tasks.registry.gate import Outcome
from sbr_tasks.registry.log import Decision, Entry, LogState, Rollback, fold
from sbr_tasks.registry.versions import load_version, version_names
from sbr_tasks.settings import load_settings
from sbr_tasks.store import Store
from sbr_tasks.window.record import load_window
from tests.integration.conftest import Json
from tests.integration.history import assert_explained, assert_projections_follow, contents_of, entries_of, store_of
from tests.integration.shops import new_shop, run_days
from tools.wait import wait_for

from .conftest import Platform

LAST = date(2014, 9, 24)
REASON = "worse in the shop"

Daily = Callable[[Sequence[date]], Future[Path]]


def days_until(last: date, n: int) -> list[date]:
    """The `n` days that end with `last`."""
    return [last - timedelta(days=n - 1 - i) for i in range(n)]


THREE, FIVE, FOURTEEN = days_until(LAST, 3), days_until(LAST, 5), days_until(date(2014, 9, 30), 14)


@pytest.fixture(scope="module")
def daily(tmp_path_factory: pytest.TempPathFactory, demo_clicks: Path) -> Iterator[Daily]:
    """Begins shops in which `sbr retrain` is run day by day, on an empty registry, while the scheduler does something else."""
    shops: dict[tuple[date, ...], Future[Path]] = {}
    with ThreadPoolExecutor() as pool:

        def begun(days: Sequence[date]) -> Future[Path]:
            if tuple(days) not in shops:
                shop = new_shop(tmp_path_factory.mktemp("daily") / "shop", demo_clicks)
                shops[tuple(days)] = pool.submit(run_days, shop, retrain=days)
            return shops[tuple(days)]

        yield begun


@dataclass
class Story:
    """What happened to a shop whose days were backfilled in order and then run again.

    Attributes:
        shop: Its folder.
        runs: The runs of the backfill, by day.
        log: The log after the backfill, as `contents_of`.
        announced: What the events of the asset `champion` said after the backfill.
        again: The log after the newest day, by hand, and the oldest one, by a backfill, were run again.
        announced_again: What the events said then.
    """

    shop: Path
    runs: dict[date, str] = field(default_factory=dict)
    log: list[Json] = field(default_factory=list)
    announced: list[Json] = field(default_factory=list)
    again: list[Json] = field(default_factory=list)
    announced_again: list[Json] = field(default_factory=list)


@pytest.fixture(scope="module", params=[THREE, pytest.param(FOURTEEN, marks=pytest.mark.long)], ids=lambda days: f"{len(days)}")
def days(request: pytest.FixtureRequest) -> list[date]:
    return list(request.param)


@pytest.fixture(scope="module")
def story(
    platform: Platform, daily: Daily, demo_clicks: Path, days: list[date], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Story]:
    daily(days)
    found = Story(new_shop(tmp_path_factory.mktemp("backfill") / "shop", demo_clicks))
    with platform.using(found.shop, demo_clicks):
        n_events = len(announced(platform))
        assert platform.backfill(days[0], days[-1]) == []
        for run in platform.runs(run_type="backfill", logical_date_gte=at(days[0]), logical_date_lte=at(days[-1])):
            found.runs[datetime.fromisoformat(run["logical_date"]).date()] = run["dag_run_id"]
        found.log, found.announced = contents_of(entries_of(found.shop)), announced(platform)[n_events:]
        newest = platform.trigger("daily_retrain", {"day": str(days[-1])})
        assert platform.backfill(days[0], days[0]) == []
        assert platform.finished(newest)["state"] == "success"
        found.again, found.announced_again = contents_of(entries_of(found.shop)), announced(platform)[n_events:]
        yield found


class RollbackRun(NamedTuple):
    """A run of the DAG `rollback_champion`: the version it returned to, what its event said, and what was published then."""

    run_id: str
    to: str
    event: Json
    published: Json


@pytest.fixture(scope="module")
def rollback(story: Story, platform: Platform) -> tuple[LogState, RollbackRun]:
    """What the log said before a rollback to the oldest champion, and the rollback."""
    state = fold(entries_of(story.shop))
    return state, roll_back(platform, min(state.were_champion, key=state.days.__getitem__))


def test_backfill_in_order_gives_the_log_of_daily_runs(story: Story, daily: Daily, days: list[date]) -> None:
    assert story.log == contents_of(entries_of(daily(days).result()))
    assert [entry["day"] for entry in story.log] == [str(day) for day in days]
    assert story.log[0]["outcome"] == Outcome.FIRST_CHAMPION
    assert_follows(story.shop)


def test_days_that_are_run_again_keep_their_decisions_and_versions(story: Story, days: list[date]) -> None:
    assert story.again == story.log
    assert len(version_names(store_of(story.shop))) == len(days)


def test_each_promotion_and_nothing_else_updates_the_asset(story: Story, platform: Platform, days: list[date]) -> None:
    moves = [
        {"model_version": entry["version"], "day": entry["day"], "log_entry": number}
        for number, entry in enumerate(story.log, 1)
        if entry["champion"] == entry["version"]
    ]
    assert story.announced == moves
    assert story.announced_again == moves
    states = {str(day): platform.tasks(run)["announce_champion"]["state"] for day, run in story.runs.items()}
    moved = {move["day"] for move in moves} - {str(days[0])}  # the first day was run again, and moved nothing then
    assert states == {str(day): "success" if str(day) in moved else "skipped" for day in days}


def test_no_model_was_trained_on_clicks_of_a_day_that_it_is_judged_on(story: Story, days: list[date]) -> None:
    judged = 0
    for entry in entries_of(story.shop)[: len(days)]:
        assert isinstance(entry, Decision)
        for name in filter(None, (entry.version, entry.opponent)):
            judged += 1
            version = load_version(store_of(story.shop), name)
            assert last_training_click(store_of(story.shop), name) < min(entry.day, version.day - timedelta(days=1))
    assert judged == 2 * len(days) - 1


def test_rollback_moves_the_champion_and_publishes_its_recommendations(
    story: Story, rollback: tuple[LogState, RollbackRun]
) -> None:
    state, run = rollback
    left, to = state.champion, run.to
    assert left != to
    *_, entry = entries_of(story.shop)
    assert isinstance(entry, Rollback)
    assert (entry.number, entry.before, entry.champion, entry.actor) == (state.n_entries + 1, left, to, run.run_id)
    assert (entry.reason, fold(entries_of(story.shop)).retired) == (REASON, {left})
    assert_follows(story.shop)
    assert run.event == {"model_version": to, "day": to[:10], "log_entry": entry.number, "retired": left, "pinned": False}
    assert run.published["model_version"] == to
    assert Path(run.published["file"]).read_bytes()[:4] == b"PAR1"


def test_rollback_triggered_again_ends_well_with_the_entry_that_is_there(
    story: Story, rollback: tuple[LogState, RollbackRun], platform: Platform
) -> None:
    _, first = rollback
    entries = entries_of(story.shop)
    again = roll_back(platform, first.to)
    assert again.run_id != first.run_id
    assert entries_of(story.shop) == entries
    assert (again.event, again.published) == (first.event, first.published)
    assert_follows(story.shop)


@pytest.mark.long
@pytest.mark.parametrize(("at_once", "backwards"), [(4, False), (1, True)], ids=["side by side", "backwards"])
def test_other_orders_give_the_same_models_and_a_log_that_explains_itself(
    platform: Platform, daily: Daily, demo_clicks: Path, tmp_path: Path, at_once: int, backwards: bool
) -> None:
    shop, reference = new_shop(tmp_path / "shop", demo_clicks), daily(FIVE).result()
    with platform.using(shop, demo_clicks):
        assert platform.backfill_out_of_order(FIVE[0], FIVE[-1], at_once=at_once, backwards=backwards) == []
        entries = entries_of(shop)
        for day in (FIVE[-1], FIVE[0]):
            assert platform.finished(platform.trigger("daily_retrain", {"day": str(day)}))["state"] == "success"
    assert contents_of(entries_of(shop)) == contents_of(entries)
    assert sorted(entry.day for entry in entries) == FIVE
    if backwards:
        assert [entry.day for entry in entries] == FIVE[::-1]
    assert weights_of(shop) == weights_of(reference)
    assert challenger_scores(entries) == challenger_scores(entries_of(reference))
    moves = [entry for entry in entries if entry.champion == entry.version]
    assert entries[-1].champion == max(moves, key=lambda entry: entry.day).version
    assert_follows(shop)


def assert_follows(shop: Path) -> None:
    """The log explains itself, and MLflow and the serving copy follow it."""
    settings = load_settings(cwd=shop)
    assert_explained(entries_of(shop), settings, store_of(shop))
    assert_projections_follow(store_of(shop), settings)


def events_of(platform: Platform) -> list[Json]:
    """The events of the asset `champion`, oldest first."""
    # Airflow answers 500 while a run that an event created is queued and so has no start yet.
    found = platform.airflow.api.get("assets/events", attempts=60, order_by="timestamp", limit=100)["asset_events"]
    return [event for event in found if event["name"] == "champion"]


def roll_back(platform: Platform, to: str) -> RollbackRun:
    """Triggers the DAG, which must succeed, as must the publishing that follows."""
    run_id = platform.trigger("rollback_champion", {"to": to, "reason": REASON})
    assert platform.finished(run_id, "rollback_champion")["state"] == "success"
    event = wait_for(lambda: found if (found := events_of(platform)[-1])["created_dagruns"] else None)
    assert (event["source_dag_id"], event["source_run_id"]) == ("rollback_champion", run_id)
    published = event["created_dagruns"][0]["run_id"]
    assert platform.finished(published, "publish_recommendations")["state"] == "success"
    written = platform.returned(published, "publish_next_items", "publish_recommendations")
    return RollbackRun(run_id, to, event["extra"], written)


def announced(platform: Platform) -> list[Json]:
    """What the events of the asset say, oldest first."""
    return [event["extra"] for event in events_of(platform)]


def last_training_click(store: Store, name: str) -> date:
    """The UTC day of the last click that a version, or one that its training started from, was trained on."""
    version = load_version(store, name)
    part = load_window(store, version.day, version.window).parts["train"]
    clicked_at = store.read_table(part.file).column("clicked_at")
    last: datetime = pc.max(clicked_at).as_py()
    parent = version.inputs.parent
    return max(last.date(), last_training_click(store, parent)) if parent else last.date()


def weights_of(shop: Path) -> dict[str, dict[str, str]]:
    """The hash of each file of each version."""
    store = store_of(shop)
    versions = {name: load_version(store, name).files for name in version_names(store)}
    return {name: {file: record.sha256 for file, record in files.items()} for name, files in versions.items()}


def challenger_scores(entries: Sequence[Entry]) -> dict[str, Json]:
    """What each version and the baselines scored on its own day."""
    decisions = [entry for entry in entries if isinstance(entry, Decision)]
    return {entry.version: {"challenger": entry.challenger_metrics, **entry.baselines} for entry in decisions}


def at(day: date) -> str:
    return f"{day}T00:00:00+00:00"
