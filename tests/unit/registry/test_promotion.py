"""Decisions on a challenger."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from sbr_tasks.errors import AlreadyExistsError, DamagedError, ReasonError, RegistryError
from sbr_tasks.registry import promotion as promotion_module
from sbr_tasks.registry.gate import Outcome
from sbr_tasks.registry.log import Decision, PromotionLog
from sbr_tasks.registry.promotion import commit_decision, commit_rollback
from sbr_tasks.registry.recommend import recommend_items
from sbr_tasks.registry.serving import served
from sbr_tasks.registry.versions import load_version
from sbr_tasks.report.runs import run_rows, run_table
from sbr_tasks.results import Decided
from sbr_tasks.settings import parse_overrides
from sbr_tasks.store import NumberedLog
from sbr_tasks.window.record import Window
from sbr_tasks.wish import Wish, current_user
from sbr_tasks.workspace import Workspace
from tests.unit.registry.two_days import (
    BEFORE,
    N_ITEMS,
    Copied,
    D,
    Inject,
    alias_of,
    promote,
)

pytestmark = pytest.mark.slow


def test_champion_is_replaced_only_by_a_better_version(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    before, after = of(BEFORE), of(D)
    inject(d05=0.5, d06=0.4)
    assert promote(store, settings, *before, run="1").outcome is Outcome.FIRST_CHAMPION
    kept = promote(store, settings, *after, run="2")
    assert (kept.outcome, kept.opponent, kept.champion) == (Outcome.KEEP_CHAMPION, before[1], before[1])
    assert alias_of(store, settings) == before[1]
    found = recommend_items(store, ["3", "999"], k=5)
    assert (found.model_version, found.unknown, found.is_fallback, len(found.items)) == (before[1], ("999",), False, 5)
    assert set(found.items) <= set(range(N_ITEMS))


def test_old_day_never_replaces_a_newer_champion(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    before, after = of(BEFORE), of(D)
    inject(d05=0.9, d06=0.4)
    promote(store, settings, *after, run="1")
    old = promote(store, settings, *before, run="2")
    assert (old.outcome, old.opponent, old.champion) == (Outcome.WOULD_PROMOTE, None, after[1])
    assert alias_of(store, settings) == after[1]


def test_run_that_lost_the_race_compares_again_with_the_new_champion(
    copied: Copied, inject: Inject, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings, of = copied
    before, after = of(BEFORE), of(D)
    inject(d05=0.5, d06=0.4)
    create, raced = NumberedLog.create, []

    def create_after_another_run(self: NumberedLog, number: int, body: Mapping[str, Any]) -> None:
        if not raced:
            raced.append(body["outcome"])
            promote(store, settings, *before, run="the other")
        create(self, number, body)

    monkeypatch.setattr(NumberedLog, "create", create_after_another_run)
    lost = promote(store, settings, *after, run="this")
    assert raced == [Outcome.FIRST_CHAMPION]
    assert (lost.number, lost.outcome, lost.champion) == (2, Outcome.KEEP_CHAMPION, before[1])
    with pytest.raises(AlreadyExistsError):
        PromotionLog(store).create(lost)


def test_unusable_champion_fails_the_run_and_is_replaced_only_if_asked(copied: Copied, inject: Inject, tmp_path: Path) -> None:
    store, settings, of = copied
    before, after = of(BEFORE), of(D)
    inject(d05=0.5, d06=0.6)
    promote(store, settings, *before, run="1")
    shutil.rmtree(tmp_path / "store" / "models" / before[1])
    with pytest.raises(RegistryError, match=r"^The champion 2020-06-05-\w+ can't be used: .* set gate\.replace_unusable"):
        promote(store, settings, *after, run="2")
    assert len(PromotionLog(store).entries()) == 1
    willing = settings.model_copy(update={"gate": settings.gate.model_copy(update={"replace_unusable": True})})
    replaced = promote(store, willing, *after, run="3")
    assert (replaced.outcome, replaced.champion) == (Outcome.FIRST_CHAMPION, after[1])
    assert alias_of(store, settings) == after[1]


def test_force_promotes_a_version_that_was_kept_out(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    before, after = of(BEFORE), of(D)
    inject(d05=0.5, d06=0.4)
    promote(store, settings, *before, run="1")
    assert promote(store, settings, *after, run="2").outcome is Outcome.KEEP_CHAMPION
    forced = promote(store, settings, *after, run="3", force="new season")
    assert (forced.number, forced.outcome, forced.champion) == (3, Outcome.FORCED, after[1])
    assert "new season" in forced.reasons[0]
    assert promote(store, settings, *after, run="4", force="again").number == 3
    assert served(store) == (3, after[1])


def test_run_that_is_repeated_forces_once(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    inject(d05=0.5, d06=0.4)
    (window, newer), (earlier, older) = of(D), of(BEFORE)
    promote(store, settings, earlier, older, run="1")
    wish = Wish("force", "new season", "by hand")
    forced = commit_decision(store, settings, window, newer, wish)[0]
    commit_rollback(store, settings, older, reason="it was wrong", actor="me@here")
    assert commit_decision(store, settings, window, newer, wish) == (forced, False), "another attempt of the same run"
    assert PromotionLog(store).state().champion == older


def test_only_the_present_champion_is_announced(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    workspace = Workspace(settings, store)
    inject(d05=0.5, d06=0.6)

    def decided(day: date) -> Decided:
        window, name = of(day)
        return workspace.promote_if_better(day, window.fingerprint, name, Wish(actor=f"scheduled__{day}"))

    older, newer = decided(BEFORE), decided(D)
    assert older.promoted and newer.promoted
    returned = newer.model_dump(mode="json")  # as the next task gets it
    assert workspace.champion_event(returned).model_dump(mode="json")["event"] == {
        "model_version": of(D)[1],
        "day": str(D),
        "log_entry": 2,
    }
    replaced = workspace.champion_event(older)
    assert replaced.event is None
    assert "log entry 2" in replaced.why
    kept = returned | {"promoted": False, "outcome": "keep_champion"}
    assert workspace.champion_event(kept).event is None


def test_decision_names_the_settings_of_its_run_only(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    inject(d06=0.6)
    window, name = of(D)
    words = ["model.n_epochs=9", "training.seed=42", 'source.path="/in"', " model.n_epochs=2", "store=x", "windows.days=7"]
    workspace = Workspace(settings, store, parse_overrides(words))
    decided = workspace.promote_if_better(D, window.fingerprint, name)
    assert decided.reasons[-1].endswith("model.n_epochs=2, training.seed=42.")
    repeated = workspace.promote_if_better(D, window.fingerprint, name)
    assert repeated.reasons == decided.reasons, "a step already decided returns its decision"


def test_damage_of_the_challenger_is_not_put_down_to_the_champion(
    copied: Copied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store, settings, of = copied
    monkeypatch.setattr(promotion_module, "check_serving", lambda *_: None)
    promote(store, settings, *of(BEFORE), run="x", force="a first champion")
    caplog.clear()
    file = next(iter(load_version(store, of(D)[1]).files.values())).key
    (tmp_path / "store" / file).write_bytes(b"")
    with pytest.raises(DamagedError, match=f"models/{of(D)[1]}/"):
        promote(store, settings, *of(D), run="x")
    assert "can't be used" not in caplog.text


def test_two_that_force_the_same_version_at_once_promote_it_once(
    copied: Copied, inject: Inject, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings, of = copied
    inject(d06=0.6)
    create, raced = NumberedLog.create, list[tuple[Decision, bool]]()

    def create_after_another(self: NumberedLog, number: int, body: Mapping[str, Any]) -> None:
        if number == 1 and body["reasons"][0].endswith("two."):
            raced.append(commit_decision(store, settings, *of(D), Wish("force", "one")))
        create(self, number, body)

    monkeypatch.setattr(NumberedLog, "create", create_after_another)
    second = commit_decision(store, settings, *of(D), Wish("force", "two"))
    ((first, is_new),) = raced
    assert is_new
    assert second == (first, False)


def test_reason_that_is_blank_is_refused_before_anything_is_done(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    inject(d06=0.6)
    with pytest.raises(ReasonError, match=r"^A forced promotion needs a reason, .* found none\. "):
        promote(store, settings, *of(D), run="x", force=" ")
    with pytest.raises(ReasonError, match="forced promotion needs a reason"):
        Workspace(settings, store).retrain(D, Wish("force", ""))
    assert PromotionLog(store).entries() == []


def test_step_that_is_repeated_tells_the_champion_of_now_and_promotes_nothing_twice(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    inject(d05=0.5, d06=0.6)
    workspace = Workspace(settings, store)
    (older, old), (newer, new) = of(BEFORE), of(D)

    def announced(window: Window, name: str, run: str | None = None) -> tuple[object, object]:
        found = workspace.promote_if_better(window.day, window.fingerprint, name, Wish(actor=run))
        return found.promoted, found.champion

    assert announced(older, old) == (True, old)
    assert announced(older, old) == (False, old)
    assert announced(newer, new, run="scheduled") == (True, new)
    assert announced(newer, new, run="scheduled") == (True, new), "another attempt of the same run tells the same"
    assert announced(newer, new, run="by hand") == (False, new)
    commit_rollback(store, settings, old, reason="worse", actor="x")
    assert announced(newer, new, run="scheduled") == (False, old)
    assert PromotionLog(store).entries()[0].actor == current_user()
    (row,) = run_rows(store, [D])
    assert row.is_retired
    assert "Promoted, retired" in " ".join(run_table([row]).split())
