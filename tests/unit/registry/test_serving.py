"""The serving copy of the champion."""

from __future__ import annotations

from pathlib import Path

import pytest

from sbr_tasks.errors import DamagedError, RegistryError, StoreError
from sbr_tasks.readout.placement import SHOW_ALL
from sbr_tasks.registry import promotion as promotion_module
from sbr_tasks.registry.gate import Outcome
from sbr_tasks.registry.log import Decision, PromotionLog
from sbr_tasks.registry.mlflow_projection import MlflowProjection
from sbr_tasks.registry.promotion import project, repair_projections
from sbr_tasks.registry.recommend import recommend_items
from sbr_tasks.registry.serving import check_serving, publish_serving, served
from sbr_tasks.registry.versions import load_version
from tests.unit.registry.two_days import (
    BEFORE,
    Copied,
    D,
    Inject,
    alias_of,
    promote,
)

pytestmark = pytest.mark.slow


def test_serving_copy_is_a_whole_saved_model_with_its_graph_written_last(
    copied: Copied, inject: Inject, tmp_path: Path
) -> None:
    store, settings, of = copied
    window, name = of(D)
    inject(d06=0.6)
    promote(store, settings, window, name, run="1")
    folder = tmp_path / "store" / "serving/gru4rec" / "1"
    published = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert published == set(load_version(store, name).saved_model)
    others = [file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file() and file.name != "saved_model.pb"]
    assert (folder / "saved_model.pb").stat().st_mtime_ns >= max(others)


def test_repair_writes_a_damaged_serving_copy_again(copied: Copied, inject: Inject, tmp_path: Path) -> None:
    store, settings, of = copied
    inject(d05=0.5)
    promote(store, settings, *of(BEFORE), run="x")
    graph = tmp_path / "store" / "serving/gru4rec" / "1" / "saved_model.pb"
    whole = graph.read_bytes()
    graph.write_bytes(whole[:10])
    repair_projections(store, settings)
    assert graph.read_bytes() == whole


def test_damaged_record_of_the_serving_copy_is_written_again_by_the_next_run(
    copied: Copied, inject: Inject, tmp_path: Path
) -> None:
    store, settings, of = copied
    inject(d06=0.6)
    promote(store, settings, *of(D), run="x")
    (tmp_path / "store" / "serving" / "published" / "00000001.json").write_text("")
    promote(store, settings, *of(D), run="x")
    assert served(store) == (1, of(D)[1])


def test_serving_copy_of_another_version_is_replaced_whole(copied: Copied, inject: Inject, tmp_path: Path) -> None:
    store, settings, of = copied
    inject(d06=0.6)
    promote(store, settings, *of(D), run="x")
    folder = tmp_path / "store" / "serving/gru4rec" / "1"
    (folder / "variables" / "variables.data-00001-of-00002").write_bytes(b"of another version")
    repair_projections(store, settings)
    published = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert published == set(load_version(store, of(D)[1]).saved_model)


@pytest.mark.parametrize("name", ["../../outside", "/outside", "a/../../outside", "out\x1bside"])
def test_names_in_a_manifest_lead_to_no_file_outside_its_folder(copied: Copied, tmp_path: Path, name: str) -> None:
    store, settings, of = copied
    window, version = of(D)[0], load_version(store, of(D)[1])
    graph = version.saved_model["saved_model.pb"]
    hostile = version.model_copy(update={"saved_model": {name: graph}})
    before = set(tmp_path.rglob("*outside*"))
    with pytest.raises(DamagedError, match="which leads elsewhere"):
        check_serving(store, settings, hostile, window)
    with pytest.raises(DamagedError, match="which leads elsewhere"):
        publish_serving(store, settings, 1, hostile, SHOW_ALL)
    assert set(tmp_path.rglob("*outside*")) == before


def test_promotion_that_can_not_be_served_says_that_it_was_recorded(
    copied: Copied, inject: Inject, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings, of = copied
    inject(d06=0.6)

    def full(*_: object) -> None:
        raise StoreError("No space left on device.")

    with monkeypatch.context() as patch:
        patch.setattr(promotion_module, "publish_serving", full)
        with pytest.raises(
            StoreError,
            match=r"^The decision was recorded \(log entry 1, .* left on device\. Retry, or run `sbr",
        ):
            promote(store, settings, *of(D), run="x")
    assert promote(store, settings, *of(D), run="x").number == 1
    assert served(store) == (1, of(D)[1])


def test_version_whose_saved_model_answers_otherwise_is_not_promoted(
    copied: Copied, inject: Inject, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings, of = copied
    inject(d06=0.6)

    def differs(*_: object) -> None:
        raise RegistryError("The SavedModel answers otherwise.")

    with monkeypatch.context() as patch:
        patch.setattr(promotion_module, "check_serving", differs)
        with pytest.raises(RegistryError, match="answers otherwise"):
            promote(store, settings, *of(D), run="x")
    assert PromotionLog(store).entries() == []
    assert served(store) is None
    assert promote(store, settings, *of(D), run="x").outcome is Outcome.FIRST_CHAMPION


@pytest.mark.parametrize("step", ["publish_serving", "show"])
def test_stop_between_the_steps_of_a_promotion_is_brought_level_by_the_next_one(
    copied: Copied, inject: Inject, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store, settings, of = copied
    window, name = of(D)
    inject(d06=0.6)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(*((promotion_module, step) if step == "publish_serving" else (MlflowProjection, step)), stop)
        with pytest.raises(KeyboardInterrupt):
            promote(store, settings, window, name, run="1")
    assert PromotionLog(store).state().champion == name
    assert recommend_items(store, ["3"], k=2).model_version == name
    promotion = promote(store, settings, window, name, run="1")
    assert (promotion.number, promotion.outcome) == (1, Outcome.FIRST_CHAMPION)
    assert (served(store), alias_of(store, settings)) == ((1, name), name)


def test_projections_follow_what_other_runs_commit_meanwhile(
    copied: Copied, inject: Inject, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings, of = copied
    before, after = of(BEFORE), of(D)
    inject(d05=0.5, d06=0.6)
    promote(store, settings, *before, run="1")
    show = MlflowProjection.show
    raced: list[Decision] = []

    def show_after_another_run(self: MlflowProjection, *args: object, **named: object) -> None:
        if not raced:
            raced.append(None)  # type: ignore[arg-type]
            raced.append(promote(store, settings, *after, run="2"))
        show(self, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(MlflowProjection, "show", show_after_another_run)
    project(store, settings)
    assert raced[1].outcome is Outcome.PROMOTE
    assert (served(store), alias_of(store, settings)) == ((2, after[1]), after[1])
