"""Nothing of a version follows from clicks that it is tested on, nor of what chooses from those that it is chosen by."""

from __future__ import annotations

import hashlib
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from benchmarks.records import accepted_unseen
from sbr_tasks.clicks.catalog import ClickCatalog
from sbr_tasks.clicks.ingest import ingest
from sbr_tasks.gru4rec.progress import train_shown
from sbr_tasks.registry.versions import train_version
from sbr_tasks.settings import Settings
from sbr_tasks.store import Store
from sbr_tasks.window.build import window_for_day
from sbr_tasks.window.data import read_window
from tests.unit.days import Click, at, parquet_settings, write_parquet

pytestmark = pytest.mark.slow

D = date(2020, 6, 6)
DAYS = tuple(D - timedelta(days=n) for n in (3, 2, 1, 0))
OVERRIDES = (
    "window.days=4",
    "window.least_click=3",
    "window.longest=20",
    "model.layers=[4]",
    "model.batch_size=8",
    "model.n_sample=4",
    "model.n_epochs=2",
    "training.min_validation_events=1",
)
N_SESSIONS, N_ITEMS = 24, 14

days_of_clicks = st.lists(
    st.tuples(st.integers(1, 2 * N_SESSIONS), st.integers(1, 3 * N_ITEMS), st.integers(0, 86_399)), min_size=1, max_size=60
)
"""Clicks of a day: session (half of them those that began on earlier days), item (a third of them known), second."""


@cache
def earlier_clicks() -> tuple[Click, ...]:
    """Sessions of one to five clicks on items of falling popularity, some of them over midnight, on every day."""
    rng = np.random.default_rng(7)
    clicks = list[Click]()
    for i, day in enumerate(DAYS):
        for session in range(N_SESSIONS):
            began = 86_390 if session < 4 else 1000 * session
            for step in range(int(rng.integers(1, 6))):
                item = 1 + int(N_ITEMS * rng.random() ** 2)
                clicks.append((100 * i + session, item, at(day, began + 5 * step)))
    return tuple(clicks)


def before(day: date) -> list[Click]:
    return [click for click in earlier_clicks() if click[2] < at(day, 0)]


def accepted(folder: Path, clicks: list[Click], *overrides: str) -> tuple[Store, Settings]:
    """A store with some clicks, all days accepted."""
    settings = parquet_settings(folder, *OVERRIDES, *overrides)
    write_parquet(folder / "in" / "clicks.parquet", clicks)
    store = Store.open(settings)
    revisions = {revision.day: accepted_unseen(revision) for revision in ingest(store, settings).revisions}
    ClickCatalog(store).commit_validation(revisions, at="2020-07-01T00:00:00+00:00")
    return store, settings


def version_of(clicks: list[Click], *overrides: str) -> dict[str, str]:
    """Hashes of the files of the version that is trained on some clicks, by name, and what validation chose."""
    with TemporaryDirectory() as folder:
        store, settings = accepted(Path(folder), clicks, *overrides)
        version = train_version(store, settings, window_for_day(store, settings, D))
        named = {**version.files, "optimizer": version.optimizer}
        choice = version.choice.model_dump_json(include={"n_epochs", "mixture"})
        return {name: record.sha256 for name, record in named.items()} | {"choice": choice}


def chosen_from(clicks: list[Click]) -> dict[str, str]:
    """Hashes of the files of what a single epoch of the training that chooses makes of some clicks, by name."""
    with TemporaryDirectory() as folder:
        store, settings = accepted(Path(folder), clicks, "model.n_epochs=1")
        data = read_window(store, window_for_day(store, settings, D), settings.zone)
        trained = train_shown(data.train, data.index, data.validation, settings)
        return {name: hashlib.sha256(content).hexdigest() for name, content in trained.weights.to_files().items()}


@cache
def undisturbed(*overrides: str) -> dict[str, str]:
    return version_of(list(earlier_clicks()), *overrides)


def on(day: date, clicks: list[tuple[int, int, int]]) -> list[Click]:
    """Clicks of a day; the first half of the sessions are those of the day before, so that some span midnight."""
    first_session = 100 * (DAYS.index(day) - 1)
    return [(first_session + session, item, at(day, second)) for session, item, second in clicks]


@examples(max_examples=8)
@given(days_of_clicks)
def test_version_is_the_same_whatever_is_clicked_on_the_test_day(clicks: list[tuple[int, int, int]]) -> None:
    assert version_of([*before(D), *on(D, clicks)]) == undisturbed()


@examples(max_examples=4)
@given(st.permutations([click for click in earlier_clicks() if click[2] >= at(D, 0)]))
def test_version_is_the_same_whatever_the_order_of_the_test_day(of_day: list[Click]) -> None:
    times = sorted(time for _, _, time in of_day)
    reordered = [(session, item, time) for (session, item, _), time in zip(of_day, times, strict=True)]
    assert version_of([*before(D), *reordered]) == undisturbed()


@examples(max_examples=4)
@given(days_of_clicks, days_of_clicks)
def test_training_that_chooses_learns_nothing_from_the_validation_day(
    validation: list[tuple[int, int, int]], test: list[tuple[int, int, int]]
) -> None:
    clicks = [*before(DAYS[2]), *on(DAYS[2], validation), *on(D, test)]
    assert chosen_from(clicks) == chosen_from(list(earlier_clicks()))


@pytest.mark.parametrize("is_as_notebooks_do", [False, True])
def test_cleansing_the_whole_window_is_what_leaks(is_as_notebooks_do: bool) -> None:
    """The tests above would see it: on the test day, an item of two earlier clicks gets three more."""
    way = (f"window.cleanse={'window' if is_as_notebooks_do else 'training'}",)
    rare = N_ITEMS + 1
    earlier: list[Click] = [(900 + n, item, at(DAYS[0], 50 + n)) for n in range(2) for item in (rare, 1)]
    without = [*before(D), *earlier, (950, 1, at(D, 1)), (950, 2, at(D, 2))]
    with_more = [*without, *((951 + n // 2, (rare, 1)[n % 2], at(D, 10 + n)) for n in range(6))]
    assert (version_of(without, *way) != version_of(with_more, *way)) is is_as_notebooks_do
