"""Scores of challenger and champion on the same events."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from sbr_tasks.clicks.ingest import ingest
from sbr_tasks.registry import promotion as promotion_module
from sbr_tasks.registry.scoring import score_models
from sbr_tasks.registry.versions import train_version
from sbr_tasks.report.page import publish_page
from sbr_tasks.validation.validate_days import validate_pending
from sbr_tasks.window.build import window_for_day
from sbr_tasks.window.data import read_window
from sbr_tasks.workspace import Workspace
from tests.unit.days import write_parquet
from tests.unit.registry.two_days import (
    BEFORE,
    Copied,
    D,
    promote,
    ring,
)

pytestmark = pytest.mark.slow


def test_champion_of_integer_ids_scores_as_before_on_string_ids(
    copied: Copied, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store, settings, of = copied
    monkeypatch.setattr(promotion_module, "check_serving", lambda *_: None)
    older, champion = of(BEFORE)
    promote(store, settings, older, champion, run="1", force="a first champion")
    before = score_models(store, settings, of(D)[0], [champion])[champion]
    for i in range(6):
        write_parquet(tmp_path / "in" / f"{i}.parquet", ring(D - timedelta(days=i)))
    as_text = settings.model_copy(update={"source": settings.source.model_copy(update={"id_type": "string"})})
    ingest(store, as_text)
    validate_pending(store, as_text)
    window = window_for_day(store, as_text, D)
    assert read_window(store, window, as_text.zone).test.item_ids.dtype == object
    challenger = train_version(store, as_text, window).name
    decision = promote(store, as_text, window, challenger, run="2")
    assert decision.opponent == champion
    assert decision.opponent_metrics == before.metrics
    assert before.metrics["recall_at_20"] > 0


def test_unusable_champion_is_left_to_the_gate_by_the_step_that_scores(
    copied: Copied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings, of = copied
    monkeypatch.setattr(promotion_module, "check_serving", lambda *_: None)
    older, champion = of(BEFORE)
    promote(store, settings, older, champion, run="x", force="a first champion")
    shutil.rmtree(tmp_path / "store" / "models" / champion)
    window, name = of(D)
    assert champion not in Workspace(settings, store).evaluate_models(D, window.fingerprint, name).scores


def test_damaged_evaluation_is_made_again(copied: Copied, tmp_path: Path) -> None:
    store, settings, of = copied
    window, name = of(D)
    first = score_models(store, settings, window, [name])
    (record,) = (tmp_path / "store" / "evaluations").rglob(f"{name}.json")
    record.write_text("{")
    assert score_models(store, settings, window, [name]) == first
    record.write_text("{}")
    assert score_models(store, settings, window, [name]) == first
    (tmp_path / "store" / first[name].ranks.key).write_bytes(b"PAR1")
    assert score_models(store, settings, window, [name]) == first
    assert store.read(first[name].ranks)[:4] == b"PAR1"


def test_scores_by_length_of_the_session_are_in_the_log_and_on_the_page(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings, of = copied
    monkeypatch.setattr(promotion_module, "check_serving", lambda *_: None)
    for day in (BEFORE, D):
        promotion = promote(store, settings, *of(day), run="x", force="to have two")
    assert {
        name: {length: found["n_events"] for length, found in kept.items()} for name, kept in promotion.by_length.items()
    } == {
        promotion.version: {"3-5": 120},
        promotion.opponent: {"3-5": 120},
    }
    page = store.get(publish_page(store, settings, D).key).decode()
    recall = promotion.by_length[promotion.version]["3-5"]["recall_at_20"]
    assert f'<th scope="row">3-5</th><td>120</td><td>{recall:.4f}</td>' in page
