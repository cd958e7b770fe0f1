"""Pinning the champion."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sbr_tasks.cli import app
from sbr_tasks.errors import ReasonError, RegistryError
from sbr_tasks.registry.gate import Outcome
from sbr_tasks.registry.listing import log_rows, pin_row
from sbr_tasks.registry.log import Pin, PromotionLog
from sbr_tasks.registry.promotion import commit_pin, commit_rollback, commit_unpin
from sbr_tasks.registry.versions import train_version
from sbr_tasks.report.words import headline
from sbr_tasks.store import NumberedLog
from sbr_tasks.upkeep.check import verify_store
from sbr_tasks.workspace import Workspace
from tests.unit.registry.two_days import (
    BEFORE,
    Copied,
    D,
    Inject,
    alias_of,
    promote,
    with_training,
)

pytestmark = pytest.mark.slow


def test_pinned_champion_stays_until_it_is_unpinned(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    before, after = of(BEFORE), of(D)
    inject(d05=0.5, d06=0.6)
    promote(store, settings, *before, run="1")
    pinned = commit_pin(store, reason=" the sale. ", actor="ann@shop")
    assert isinstance(pinned, Pin)
    assert (pinned.number, pinned.version, pinned.reason) == (2, before[1], "the sale.")
    would = promote(store, settings, *after, run="2")
    assert (would.outcome, would.champion) == (Outcome.WOULD_PROMOTE, before[1])
    assert "(log entry 2, ann@shop: the sale)" in would.reasons[-1]
    assert alias_of(store, settings) == before[1]
    assert headline(would).endswith("but the champion stays because it is pinned.")
    ended = commit_unpin(store, actor="bob@shop")
    assert (ended.number, ended.is_on) == (4, False)
    assert promote(store, settings, *after, run="3") == would, "a step that was decided returns its decision"
    assert promote(store, settings, *after, run="4", force="unpinned").champion == after[1]
    assert [row.outcome for row in log_rows(store)] == ["first_champion", "pin", "would_promote", "unpin", "forced"]
    assert [(row.before, row.champion) for row in log_rows(store)][1] == (before[1], before[1])
    assert verify_store(store).faults == ()


def test_decision_that_a_pin_overtakes_is_made_again(copied: Copied, inject: Inject, monkeypatch: pytest.MonkeyPatch) -> None:
    store, settings, of = copied
    inject(d05=0.5, d06=0.6)
    promote(store, settings, *of(BEFORE), run="1")
    create, pinned = NumberedLog.create, []

    def create_after_a_pin(self: NumberedLog, number: int, body: Mapping[str, Any]) -> None:
        if not pinned and body["kind"] == "decision":
            pinned.append(body["outcome"])
            commit_pin(store, reason="the sale", actor="ann")
        create(self, number, body)

    monkeypatch.setattr(NumberedLog, "create", create_after_a_pin)
    assert promote(store, settings, *of(D), run="2").outcome is Outcome.WOULD_PROMOTE
    assert pinned == [Outcome.PROMOTE]


def test_pin_is_refused_without_a_champion_a_reason_or_where_it_is_pinned(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    inject(d05=0.5)
    with pytest.raises(RegistryError, match="There is no champion to pin yet"):
        commit_pin(store, reason="the sale", actor="ann")
    promote(store, settings, *of(BEFORE), run="1")
    with pytest.raises(ReasonError, match="A pin needs a reason"):
        commit_pin(store, reason=" ", actor="ann")
    with pytest.raises(RegistryError, match="isn't pinned, so there is nothing to unpin"):
        commit_unpin(store, actor="ann")
    first = commit_pin(store, reason="the sale", actor="ann")
    assert commit_pin(store, reason="the sale", actor="bob") == first
    with pytest.raises(RegistryError, match=r"is already pinned \(log entry 2, ann: the sale\)\. Run `sbr unpin` first"):
        commit_pin(store, reason="Christmas", actor="bob")
    assert len(PromotionLog(store).entries()) == 2


@pytest.mark.usefixtures("two_promotions")
def test_rollback_that_pins_holds_the_earlier_champion(copied: Copied) -> None:
    store, settings, of = copied
    before, after = of(BEFORE), of(D)
    done = commit_rollback(store, settings, before[1], reason="sold out", actor="ann", pin=True)
    assert commit_rollback(store, settings, before[1], reason="sold out", actor="ann", pin=True) == done
    seed = with_training(settings, seed=7)
    better = train_version(store, seed, after[0])
    assert promote(store, settings, after[0], better.name, run="3").outcome is Outcome.WOULD_PROMOTE
    assert PromotionLog(store).state().champion == before[1]
    commit_unpin(store, actor="ann", reason="restocked")
    assert log_rows(store)[-1].reasons == ("restocked",)


@pytest.mark.usefixtures("two_promotions")
def test_pin_outlasts_a_rollback_and_names_the_champion_of_now(copied: Copied) -> None:
    store, settings, of = copied
    before, _after = of(BEFORE), of(D)
    pinned = commit_pin(store, reason="the sale", actor="ann")
    commit_rollback(store, settings, before[1], reason="sold out", actor="bob")
    row = pin_row(store)
    assert row is not None
    assert (row.entry, row.version, row.actor) == (pinned.number, before[1], "ann")
    again = Workspace(settings, store).pin("the sale")
    assert (again.model_version, again.log_entry) == (before[1], pinned.number)
    commit_unpin(store, actor="ann")
    assert pin_row(store) is None


@pytest.mark.usefixtures("two_promotions")
def test_pin_is_shown_by_the_commands(copied: Copied, tmp_path: Path) -> None:
    store, _settings, of = copied

    def sbr(*words: str) -> str:
        done = CliRunner().invoke(app, [*words, "--set", f"store={store.url}"])
        assert done.exit_code == 0, done.output
        return done.stdout

    older, newer = of(BEFORE)[1], of(D)[1]
    assert "was pinned at" not in sbr("models")
    assert json.loads(sbr("pin", "--reason", "the sale", "--json"))["model_version"] == newer
    assert f"{newer}  pin  ({newer} -> {newer}, " in sbr("log")
    assert "champion, pinned" in sbr("models") and f"{newer} was pinned at" in sbr("models")
    listed = json.loads(sbr("models", "--json"))
    assert listed["pin"]["reasons"] == ["the sale"]
    assert {row["version"]: row["pinned"] for row in listed["models"]} == {older: False, newer: True}
    assert json.loads(sbr("unpin", "--json"))["pinned"] is False
    assert "unpin" in sbr("log")
    assert "`sbr pin --reason ...` keeps it until `sbr unpin`" in sbr("rollback", "--to", older, "--reason", "worse")
    assert json.loads(sbr("models", "--json"))["pin"] is None


@pytest.mark.usefixtures("two_promotions")
def test_rollback_command_can_pin(copied: Copied) -> None:
    store, _settings, of = copied
    back = ("rollback", "--to", of(BEFORE)[1], "--reason", "worse", "--pin", "--set", f"store={store.url}")
    done = CliRunner().invoke(app, back)
    assert "pinned: True" in done.stdout and "sbr pin" not in done.stdout
    assert PromotionLog(store).state().pin is not None
    assert log_rows(store)[-1].reasons == ("worse", "The champion was pinned.")
