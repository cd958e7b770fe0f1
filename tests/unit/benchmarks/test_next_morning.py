"""What a version scores on its own day holds on the next morning, as it doesn't where the test day chose the items."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from benchmarks.next_morning import WAYS, next_morning, prepare, train_days
from sbr_tasks.demo import write_demo_clicks
from sbr_tasks.settings import load_settings

pytestmark = pytest.mark.slow

SMALL = ("window.days=15", "model.n_epochs=3", "model.n_sample=512", "model.layers=[48]")
AGE = 0.10
"""More than a day of age explains, as a share of the score."""


def changes(source: list[str], n_days: int, *ways: str) -> list[list[float]]:
    """For each way of training, the mean relative change of both metrics from each version's day to the next."""
    store, days = prepare(source, n_days)
    trained = [train_days(store, load_settings([*source, *WAYS[name]]), days) for name in ways]
    return [next_morning(way)[2::3] for way in trained]


def test_score_holds_on_the_next_morning_on_real_clicks(shared_data: Path, tmp_path: Path) -> None:
    clicks = f"source.path={shared_data / 'bolcom-serenade'}/[tv]*.txt"
    source = [f"store={tmp_path / 'store'}", clicks, "source.format=gru4rec", *SMALL]
    training, window = changes(source, 7, "training", "window")
    assert training == pytest.approx([0, 0], abs=AGE)
    assert max(window) < -2 * AGE


def test_score_holds_on_the_next_morning_on_generated_clicks(tmp_path: Path) -> None:
    write_demo_clicks(tmp_path / "clicks.dat", end=date(2014, 9, 30), days=21, sessions_per_day=800, seed=42)
    source = [f"store={tmp_path / 'store'}", f"source.path={tmp_path / 'clicks.dat'}", "source.format=yoochoose", *SMALL]
    (training,) = changes(source, 6, "training")
    assert training == pytest.approx([0, 0], abs=AGE)
