"""Rolling back to an earlier champion."""

from __future__ import annotations

from pathlib import Path

import pytest

from sbr_tasks.errors import ReasonError, RegistryError, StoreError
from sbr_tasks.registry.listing import describe_version, log_rows, model_rows
from sbr_tasks.registry.log import PromotionLog
from sbr_tasks.registry.promotion import commit_rollback
from sbr_tasks.registry.serving import served
from sbr_tasks.registry.versions import load_version
from tests.unit.registry.two_days import (
    BEFORE,
    Copied,
    D,
    Promoted,
    alias_of,
    promote,
)

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("two_promotions")
def test_rollback_retires_what_it_leaves_and_serves_the_old_model_under_a_new_number(copied: Copied) -> None:
    store, settings, of = copied
    before, after = of(BEFORE), of(D)
    assert served(store) == (2, after[1])
    done = commit_rollback(store, settings, before[1], reason="worse in the shop", actor="3")
    assert (done.number, done.before, done.champion) == (3, after[1], before[1])
    assert served(store) == (3, before[1])
    assert alias_of(store, settings) == before[1]
    assert PromotionLog(store).state().retired == {after[1]}
    again = promote(store, settings, *after, run="4")
    assert again.number == 2
    assert PromotionLog(store).state().champion == before[1]
    with pytest.raises(RegistryError, match=r"is retired .* and can't be promoted again"):
        promote(store, settings, *after, run="5", force="please")
    with pytest.raises(ReasonError, match="A rollback needs a reason"):
        commit_rollback(store, settings, before[1], reason=" ", actor="6")
    rows = {row.version: row for row in model_rows(store)}
    assert (rows[after[1]].retired, rows[before[1]].champion) == (True, True)
    assert [row.outcome for row in log_rows(store)] == ["first_champion", "promote", "rollback"]
    assert [row.entry for row in describe_version(store, after[1]).log] == [2, 3]


def test_rollback_to_a_version_whose_saved_model_is_damaged_changes_nothing(two_promotions: Promoted, tmp_path: Path) -> None:
    store, settings, old = two_promotions
    graph = tmp_path / "store" / load_version(store, old).saved_model["saved_model.pb"].key
    whole = graph.read_bytes()
    graph.write_bytes(whole[:10])
    with pytest.raises(StoreError, match="damaged"):
        commit_rollback(store, settings, old, reason="worse", actor="x")
    assert PromotionLog(store).state().n_entries == 2
    graph.write_bytes(whole)
    assert commit_rollback(store, settings, old, reason="worse", actor="x").number == 3


def test_rollback_that_was_stopped_after_its_entry_is_completed_by_the_same_again(
    stopped_rollback: Promoted,
) -> None:
    store, settings, old = stopped_rollback
    assert commit_rollback(store, settings, old, reason="worse", actor="x").number == 3
    assert served(store) == (3, old)
    assert alias_of(store, settings) == old


def test_rollback_halfway_is_completed_before_another_one_to_the_same_version_is_refused(
    stopped_rollback: Promoted,
) -> None:
    store, settings, old = stopped_rollback
    with pytest.raises(RegistryError, match="is already the champion"):
        commit_rollback(store, settings, old, reason="for another reason", actor="x")
    assert served(store) == (3, old)
    assert alias_of(store, settings) == old


@pytest.mark.parametrize("name", ["", "../x", "2020-06-06", "2020-06-06-0123456789"])
def test_name_that_no_version_can_have_is_refused(copied: Copied, name: str) -> None:
    store, settings, _ = copied
    with pytest.raises(RegistryError, match=r"^There is no model version '.*': expected a name such as"):
        commit_rollback(store, settings, name, reason="worse", actor="x")
