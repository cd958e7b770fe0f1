from __future__ import annotations

import logging
from datetime import date, timedelta
from pathlib import Path

import pytest

from benchmarks.records import version_record_of
from sbr_tasks.clicks.catalog import ClickCatalog
from sbr_tasks.clicks.ingest import ingest, ingest_missing
from sbr_tasks.registry.listing import describe_version, model_rows
from sbr_tasks.registry.staleness import Staleness, stale_days
from sbr_tasks.registry.versions import ModelVersion, train_version
from sbr_tasks.settings import Settings
from sbr_tasks.store import Store
from sbr_tasks.validation.validate_days import validate_pending
from sbr_tasks.window.build import window_for_day
from sbr_tasks.window.record import Window
from tests.unit.days import Click, at, parquet_settings, write_parquet

pytestmark = pytest.mark.slow

D = date(2020, 6, 6)
LATE = D - timedelta(days=2)


def clicks_of(day: date) -> list[Click]:
    return [(int(f"{day:%m%d}{s:02d}"), (s + step) % 6, at(day, 100 * s + step)) for s in range(20) for step in range(3)]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Settings, Window, ModelVersion]:
    folder = tmp_path_factory.mktemp("shop")
    settings = parquet_settings(
        folder,
        "window.days=4",
        "window.least_click=1",
        "window.max_missing_days=1",
        "model.layers=[4]",
        "model.batch_size=8",
        "model.n_sample=4",
        "model.n_epochs=1",
    )
    for i in range(4):
        write_parquet(folder / "in" / f"{D - timedelta(days=i)}.parquet", clicks_of(D - timedelta(days=i)))
    bring_in(folder, settings)
    window = window_for_day(Store.open(settings), settings, D)
    return folder, settings, window, train_version(Store.open(settings), settings, window)


def bring_in(folder: Path, settings: Settings, late: list[Click] | None = None) -> None:
    """Ingests and validates the shop's files, after those of the late day were replaced."""
    if late:
        write_parquet(folder / "in" / f"{LATE}.parquet", late)
    store = Store.open(settings)
    taking = settings.ingest.model_copy(update={"changed_days": "take"})
    ingest(store, settings.model_copy(update={"ingest": taking}))
    validate_pending(store, settings)


def test_model_is_stale_from_late_clicks_on_until_the_old_content_is_back(
    shop: tuple[Path, Settings, Window, ModelVersion],
) -> None:
    folder, settings, window, version = shop
    store = Store.open(settings)
    assert describe_version(store, version.name).staleness == Staleness()
    bring_in(folder, settings, [*clicks_of(LATE), (1, 1, at(LATE, 70_000))])
    (row,) = model_rows(store)
    assert (row.staleness, row.stale_in_words) == (Staleness([LATE]), str(LATE))
    assert describe_version(store, version.name).staleness == Staleness([LATE])
    assert stale_days(window.inputs.revisions, ClickCatalog(store).days(), day=D) == [LATE]
    bring_in(folder, settings, clicks_of(LATE))
    (row,) = model_rows(store)
    assert (row.staleness, row.stale_in_words) == (Staleness(), "")


def test_late_clicks_that_a_run_takes_make_the_model_stale(shop: tuple[Path, Settings, Window, ModelVersion]) -> None:
    folder, settings, _, version = shop
    store = Store.open(settings)
    write_parquet(folder / "in" / f"{LATE}.parquet", [*clicks_of(LATE), (2, 2, at(LATE, 80_000))])
    ingest_missing(store, settings, D)
    assert ClickCatalog(store).days()[LATE].status == "incoming"
    assert validate_pending(store, settings).accepted == (LATE,)
    assert describe_version(store, version.name).staleness == Staleness([LATE])
    bring_in(folder, settings, clicks_of(LATE))


def child_of(store: Store, parent: ModelVersion, name: str) -> None:
    """A version of the same window's later days whose training started from another one."""
    kept = {day: rev for day, rev in parent.lineage.revisions.items() if day != LATE}
    child = version_record_of(name, parent=parent.name, revisions=kept, window_days=3)
    store.create_record(f"models/{name}/manifest.json", child.as_dict())


def test_version_trained_from_a_stale_one_names_it(
    shop: tuple[Path, Settings, Window, ModelVersion], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, settings, _, version = shop
    replaced = Store.open(settings)
    copied = Store(str(tmp_path / "store"))
    for key in [*replaced.keys("commits"), *replaced.keys("models")]:
        copied.put_new(key, replaced.get(key))
    own = parquet_settings(tmp_path, "ingest.changed_days=take")
    write_parquet(tmp_path / "in" / "late.parquet", [*clicks_of(LATE), (1, 1, at(LATE, 70_000))])
    ingest(copied, own, days=[LATE])
    validate_pending(copied, own)
    child_of(copied, version, "2020-06-07-0000aaaa")
    parent, child = model_rows(copied)
    assert parent.staleness == Staleness([LATE])
    assert child.staleness == Staleness([], {version.name: [LATE]})
    assert child.stale_in_words == f"{LATE} (ancestor {version.name})"
    as_json = child.model_dump(mode="json")
    assert (as_json["stale"], as_json["stale_ancestors"]) == ([], {version.name: [str(LATE)]})
    copied.replace(f"models/{version.name}/manifest.json", b"{}")
    with caplog.at_level(logging.WARNING):
        damaged, orphan = model_rows(copied)
    assert (damaged.staleness, damaged.stale_in_words) == (None, "unknown")
    assert orphan.staleness == Staleness()
    assert f"Whether {version.name} is stale isn't known" in caplog.text


def test_day_that_the_window_had_to_do_without_makes_it_stale_once_it_is_there(
    shop: tuple[Path, Settings, Window, ModelVersion],
) -> None:
    _, settings, window, _ = shop
    revisions = {day: rev for day, rev in window.inputs.revisions.items() if day != LATE}
    days = ClickCatalog(Store.open(settings)).days()
    assert stale_days(revisions, days, day=D, n_days=4) == [LATE]
    assert stale_days(revisions, {day: state for day, state in days.items() if day != LATE}, day=D, n_days=4) == []
