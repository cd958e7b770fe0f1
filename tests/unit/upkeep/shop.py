"""A store with everything in it that a year of runs leaves, but that nothing was trained."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from benchmarks.records import profile_record_of, version_record_of
from sbr_tasks.clicks.catalog import ClickCatalog
from sbr_tasks.clicks.commits import Judgement
from sbr_tasks.clicks.ingest import ingest_missing
from sbr_tasks.readout.placement import SHOW_ALL
from sbr_tasks.registry.gate import Outcome
from sbr_tasks.registry.log import PromotionLog
from sbr_tasks.registry.scoring import Score
from sbr_tasks.registry.serving import publish_serving
from sbr_tasks.registry.versions import ModelVersion
from sbr_tasks.settings import Settings, TrainingSettings
from sbr_tasks.store import Store, fingerprint, to_json
from sbr_tasks.window.build import window_for_day
from sbr_tasks.window.record import Window
from tests.unit.days import at, parquet_settings, write_parquet
from tests.unit.entries import decision_after

LAST = date(2020, 6, 30)
DAYS = [LAST - timedelta(days=19 - i) for i in range(20)]
WINDOW_DAYS = 4
NOW = datetime(2100, 1, 1, tzinfo=UTC)


def settings_of(folder: Path, *overrides: str) -> Settings:
    """Settings of a shop with short windows, in which nothing is too young to go."""
    words = [f"window.days={WINDOW_DAYS}", "window.least_click=1", "upkeep.grace_hours=0", *overrides]
    return parquet_settings(folder, *words)


def write_days(folder: Path, days: Iterable[date], first_item: int = 1) -> None:
    """Writes two sessions of each day into the source."""
    for day in days:
        number = day.toordinal() * 10
        clicks = [(number + s, first_item + i, at(day, 100 * s + i)) for s in range(2) for i in range(3)]
        write_parquet(folder / "in" / f"{day}.parquet", clicks)


def accept_pending(store: Store) -> list[date]:
    """Accepts all imported days, as validation does, without looking at them."""
    catalog, decisions = ClickCatalog(store), {}
    for day, state in catalog.days().items():
        if (revision := state.pending) is None:
            continue
        place = f"day={day}/rev={revision.rev}"
        decisions[day] = Judgement(
            rev=revision.rev,
            accepted=True,
            result=store.publish(f"validation/{place}/result.json", to_json({"day": str(day)})).key,
            data_docs=store.publish(f"validation/{place}/data_docs.html", f"<html>{day}</html>".encode()).key,
        )
    if decisions:
        catalog.commit_validation(decisions, at="2020-07-01T00:00:00+00:00")
    return list(decisions)


def bring_window(store: Store, settings: Settings, day: date) -> Window:
    """What a run of a day does up to its window."""
    ingest_missing(store, settings, day)
    accept_pending(store)
    return window_for_day(store, settings, day)


def write_version(store: Store, window: Window, seed: int = 0) -> ModelVersion:
    """A version of a window, with its evaluation; no model is in its files."""
    inputs = version_record_of(f"{window.day}-00000000", window=window.fingerprint, training=TrainingSettings(seed=seed)).inputs
    key = fingerprint(inputs.as_dict())
    name = f"{window.day}-{key[:8]}"
    folder = f"models/{name}/{key}"
    version = version_record_of(
        name,
        fingerprint=key,
        window=window.fingerprint,
        training=inputs.training,
        files={"weights": store.publish(f"{folder}/weights.npz", name.encode())},
        optimizer=store.publish(f"{folder}/optimizer.npz", b"squares" + name.encode()),
        saved_model={"saved_model.pb": store.publish(f"{folder}/saved_model/saved_model.pb", name.encode())},
    )
    store.create_record(f"models/{name}/manifest.json", version.as_dict())
    scores = f"evaluations/on={window.fingerprint}/by=code/{name}"
    ranks = store.publish(f"{scores}.parquet", b"ranks of " + name.encode())
    store.create_record(f"{scores}.json", Score(metrics={}, by_length={}, ranks=ranks).as_dict())
    return version


def decide(store: Store, window: Window, version: ModelVersion, outcome: Outcome) -> None:
    """Writes a decision into the log, with what follows from it."""
    log = PromotionLog(store)
    state = log.state()
    number = state.n_entries + 1
    log.create(decision_after(state, version.name, window.day, outcome, opponent=state.champion, window=window.fingerprint))
    if outcome.moves_champion:
        publish_serving(store, Settings(), number, version, SHOW_ALL)
    store.replace(f"reports/day={window.day}/{number:08d}.html", b"<html></html>")
    profile = profile_record_of(window)
    store.replace_record(profile.key, profile.as_dict())


def new_shop(folder: Path, store: Store, settings: Settings) -> None:
    """Runs the days 5, 8, 11, 14, 17 and 20: the last but two are champions one after the other, the others lost."""
    write_days(folder, DAYS)
    outcomes = [
        Outcome.FIRST_CHAMPION,
        Outcome.PROMOTE,
        Outcome.PROMOTE,
        Outcome.PROMOTE,
        Outcome.KEEP_CHAMPION,
        Outcome.WOULD_KEEP,
    ]
    for day, outcome in zip(DAYS[4::3], outcomes, strict=True):
        window = bring_window(store, settings, day)
        decide(store, window, write_version(store, window), outcome)


def content(store: Store) -> dict[str, bytes]:
    """All that the store holds but times of commits, by key."""
    return {key: store.get(key) for key in store.keys("") if not key.startswith("commits/")}
