"""What a watcher learns of long work."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import pytest

from sbr_tasks import progress as module
from sbr_tasks.progress import Progress, watched_by

logger = logging.getLogger(__name__)


def test_watcher_is_called_in_between_and_at_the_end(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    reports: list[Mapping[str, float]] = []
    monkeypatch.setattr(module, "LOG_EVERY_S", 0.0)
    caplog.set_level(logging.INFO)
    with watched_by(reports.append), Progress("Training", 10, "events", logger) as progress:
        progress.advance(4, "epoch 1/2, loss 2.500", {"epoch": 1, "loss": 2.5})
        progress.advance(6, "epoch 2/2, loss 1.500", {"epoch": 2, "loss": 1.5})
    assert [(found["events_done"], found["epoch"], found["loss"]) for found in reports] == [
        (4, 1, 2.5),
        (10, 2, 1.5),
        (10, 2, 1.5),
    ]
    assert {"events_total", "events_per_second", "seconds_left"} <= set(reports[0])
    assert (reports[0]["seconds_left"] > 0, reports[-1]["seconds_left"]) == (True, 0)
    assert "Training: 40% (" in caplog.text
    assert "epoch 1/2, loss 2.500" in caplog.text


def test_work_of_unknown_size_tells_what_is_known() -> None:
    reports: list[Mapping[str, float]] = []
    with watched_by(reports.append), Progress("Reading", None, "B", logger) as progress:
        progress.advance(5)
    assert {name for found in reports for name in found} == {"bytes_done", "bytes_per_second"}


def test_nobody_is_called_outside() -> None:
    reports: list[Mapping[str, float]] = []
    with watched_by(reports.append):
        pass
    with Progress("Reading", 1, "B", logger) as progress:
        progress.advance(1)
    assert reports == []
