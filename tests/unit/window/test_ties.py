"""Random sessions with times cut to the second hold no pattern, and nothing on the way to a score may invent one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from sbr_tasks.clicks.ingest import ingest
from sbr_tasks.experiments.offline import compare_offline, read_sessions
from sbr_tasks.registry.scoring import score_models
from sbr_tasks.registry.versions import train_version
from sbr_tasks.settings import Settings, load_settings
from sbr_tasks.store import Store
from sbr_tasks.window.build import window_for_day
from sbr_tasks.window.data import read_window
from sbr_tasks.window.record import Window
from sbr_tasks.window.sessions import Sessions
from tests.unit.days import at
from tests.unit.upkeep.shop import accept_pending

pytestmark = pytest.mark.slow

D = date(2020, 6, 4)
DAYS = tuple(D - timedelta(days=n) for n in (2, 1, 0))
N_ITEMS, N_SESSIONS, N_CLICKS = 150, 250, 10
CHANCE = 20 / N_ITEMS
OVERRIDES = {
    "window.days": 3,
    "window.least_click": 1,
    "model.layers": [32],
    "model.batch_size": 32,
    "model.n_sample": 64,
    "model.n_epochs": 10,
    "model.learning_rate": 0.1,
    "source.format": "gru4rec",
    "source.settle_seconds": 0,
}


@dataclass(frozen=True)
class Shop:
    """A store with accepted days of random sessions, and a file for each day."""

    store: Store
    settings: Settings
    window: Window
    files: dict[date, str]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    folder = tmp_path_factory.mktemp("ties")
    (folder / "in").mkdir()
    rng = np.random.default_rng(5)
    files = {}
    for day in DAYS:
        sessions = 1000 * day.toordinal() + rng.permutation(N_SESSIONS)
        starts = np.sort(rng.uniform(0, 80_000, N_SESSIONS))
        clicks = [
            (session, rng.integers(N_ITEMS), int(at(day, start + 0.05 * step).timestamp()))
            for session, start in zip(sessions, starts, strict=True)
            for step in range(N_CLICKS)
        ]
        lines = ["SessionId\tItemId\tTime", *("\t".join(map(str, click)) for click in clicks)]
        files[day] = str(folder / "in" / f"{day}.txt")
        Path(files[day]).write_text("\n".join(lines) + "\n")
    settings = load_settings({**OVERRIDES, "store": str(folder / "store"), "source.path": str(folder / "in")})
    store = Store.open(settings)
    ingest(store, settings)
    accept_pending(store)
    return Shop(store, settings, window_for_day(store, settings, D), files)


def listed(sessions: Sessions) -> list[list[int]]:
    return [part.tolist() for part in np.split(sessions.item_ids, sessions.offsets[1:-1])]


def test_nothing_is_learned_from_random_sessions_with_equal_times(shop: Shop) -> None:
    version = train_version(shop.store, shop.settings, shop.window).name
    scores = score_models(shop.store, shop.settings, shop.window, [version])
    assert scores[version].metrics["n_events"] == N_SESSIONS * (N_CLICKS - 1)
    assert {name: score.metrics["recall_at_20"] < 1.5 * CHANCE for name, score in scores.items()} == dict.fromkeys(scores, True)


def test_nothing_is_learned_from_them_in_an_offline_comparison_either(shop: Shop) -> None:
    found = compare_offline(shop.files[DAYS[0]], [shop.files[D]], shop.settings).gru4rec["conservative"]
    assert found.recall_at(20) < 1.5 * CHANCE


def test_offline_comparison_and_daily_run_see_the_same_sessions(shop: Shop) -> None:
    data = read_window(shop.store, shop.window, shop.settings.zone)
    for day, part in zip(DAYS, (data.train, data.validation, data.test), strict=True):
        assert listed(read_sessions([shop.files[day]], shop.settings.source, "--test")) == listed(part)
