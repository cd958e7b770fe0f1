"""What a placement may show: the list of excluded items, and scores, next items and the serving copy under the rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sbr_tasks.errors import SettingsError
from sbr_tasks.evaluation.metrics import UNRANKED
from sbr_tasks.gru4rec.ask_saved_model import ask
from sbr_tasks.registry import serving as serving_module
from sbr_tasks.registry.exclusions import next_items_rule, served_rule
from sbr_tasks.registry.promotion import project, repair_projections
from sbr_tasks.registry.recommend import recommend_items, write_next_items
from sbr_tasks.registry.scoring import BASELINES, Score, score_models
from sbr_tasks.registry.serving import ServedCopy, is_published
from sbr_tasks.settings import Settings
from sbr_tasks.store import FileRecord, Store, from_parquet, kinds
from tests.unit.registry.two_days import N_ITEMS, Copied, D, Inject, promote


def with_rule(settings: Settings, **changes: object) -> Settings:
    """The settings with others of `recommend`."""
    return settings.model_copy(update={"recommend": settings.recommend.model_copy(update=changes)})


def excluding(file: Path, content: str | bytes | pa.Table) -> Settings:
    if isinstance(content, pa.Table):
        pq.write_table(content, file)
    else:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return with_rule(Settings(), exclude=str(file))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ids.txt", "20\n3\n\n  20 \r\n"),
        ("ids.txt", "item_id\n3\n20\n"),
        ("ids", b"\xef\xbb\xbfitem_id\r\n3\r\n20\r\n"),
        ("ids.csv", 'name,item_id,why\n"lamp, red",3,sold out\nbed,20,\nshelf\n'),
        ("ids.csv", "why;item_id\nsold out;3\nadult;20\n"),
        ("ids.parquet", pa.table({"item_id": [20, 3, None, 3]})),
        ("ids.PARQUET", pa.table({"item_id": pa.array(["20", "3", ""]).dictionary_encode(), "why": ["", "", ""]})),
    ],
)
def test_ids_are_read_from_text_csv_and_parquet(name: str, content: str | bytes | pa.Table, tmp_path: Path) -> None:
    assert served_rule(excluding(tmp_path / name, content)).excluded == ("20", "3")


def test_a_list_may_have_a_header_alone_and_ids_with_commas(tmp_path: Path) -> None:
    assert served_rule(excluding(tmp_path / "none.txt", "item_id\n")).excluded == ()
    assert served_rule(excluding(tmp_path / "ids.csv", 'item_id\n"a,b"\n')).excluded == ("a,b",)
    assert served_rule(Settings()).hides_nothing


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("ids.txt", "", "found an empty file; a list without items has the header item_id alone"),
        ("ids.txt", b"3\n\xff\n", "found bytes that aren't UTF-8 at position 2"),
        ("ids.csv", "item,why\n3,sold out\n", "found 'item,why' on line 1, and no header with item_id"),
        ("ids.txt", "3\n4\n5;6\n", "found '5;6' on line 3, and no header with item_id"),
        ("ids.parquet", pa.table({"item": [3]}), "found the columns item"),
        ("ids.parquet", pa.table({"item_id": [3.0]}), "found double in the column item_id"),
        ("ids.parquet", "item_id\n3\n", "Parquet magic bytes not found"),
    ],
)
def test_a_bad_list_is_refused_with_a_sentence(name: str, content: str | bytes | pa.Table, found: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        served_rule(excluding(tmp_path / name, content))
    parts = (str(tmp_path / name), "one item id per line, or CSV or Parquet with a column item_id", found, "recommend.exclude")
    assert [part for part in parts if part not in str(caught.value)] == []


def test_a_missing_list_hides_nothing_by_mistake(tmp_path: Path) -> None:
    for place in (str(tmp_path / "absent.txt"), f"file://{tmp_path}/absent.txt"):
        with pytest.raises(SettingsError, match=r"absent\.txt.* expected text with one item id per line"):
            served_rule(with_rule(Settings(), exclude=place))
    (tmp_path / "there.txt").write_text("7\n")
    assert served_rule(with_rule(Settings(), exclude=f"file://{tmp_path}/there.txt")).excluded == ("7",)


def targets_and_ranks(store: Store, score: Score) -> tuple[np.ndarray, np.ndarray]:
    table = store.read_table(score.ranks, ["target_item_id", "rank"])
    return table.column("target_item_id").to_numpy(), table.column("rank").to_numpy()


@pytest.mark.slow
def test_models_and_baselines_are_scored_under_the_rule_and_again_when_the_list_changes(copied: Copied, tmp_path: Path) -> None:
    store, settings, of = copied
    window, name = of(D)
    file = tmp_path / "sold_out.txt"
    ruled = with_rule(settings, exclude=str(file))
    before = score_models(store, settings, window, [name])
    assert set(before) == {name, *BASELINES}
    for excluded in ({5}, {5, 7}):
        file.write_text("\n".join(map(str, excluded)))
        scores = score_models(store, ruled, window, [name])
        for model, score in scores.items():
            targets, ranks = targets_and_ranks(store, score)
            _, ranks_before = targets_and_ranks(store, before[model])
            is_hidden = np.isin(targets, list(excluded))
            assert (ranks[is_hidden] == UNRANKED).all() and is_hidden.any()
            assert (ranks[~is_hidden] <= ranks_before[~is_hidden]).all()
            assert score.metrics["n_events"] == before[model].metrics["n_events"]
            assert score.metrics["recall_at_20"] < before[model].metrics["recall_at_20"]
        assert score_models(store, ruled, window, [name]) == scores
    assert score_models(store, settings, window, [name]) == before


@pytest.mark.slow
def test_next_items_never_contain_the_item_itself_unless_it_is_asked_for(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    inject(d06=0.6)
    promote(store, settings, *of(D), run="1")

    def next_items(**changes: object) -> dict[int, list[int]]:
        _, file = write_next_items(store, next_items_rule(with_rule(settings, **changes)))
        rows = from_parquet(store.read(file)).to_pylist()
        items: dict[int, list[int]] = {}
        for row in rows:
            items.setdefault(row["item_id"], []).append(row["next_item_id"])
            assert row["rank"] == len(items[row["item_id"]])
        return items

    everything = set(range(N_ITEMS))
    for own_items in ("allow", "hide_current", "hide"):
        assert all(set(found) == everything - {item} for item, found in next_items(own_items=own_items).items())
    assert all(set(found) == everything for found in next_items(follow_itself=True).values())
    assert len(next_items(follow_itself=True)) == N_ITEMS
    kept_out = next_items(follow_itself=True, own_items="hide_current")
    assert all(set(found) == everything - {item} for item, found in kept_out.items())


def contents_of(folder: Path) -> dict[str, bytes]:
    """The content of each file of a serving copy, by name."""
    return {file.name: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.slow
def test_serving_copy_follows_the_rule_of_the_settings_and_back(
    copied: Copied, inject: Inject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings, of = copied
    inject(d06=0.6)
    name = of(D)[1]
    promote(store, settings, *of(D), run="1")
    folder = tmp_path / "store" / "serving/gru4rec/1"
    plain = contents_of(folder)
    (tmp_path / "sold_out.txt").write_text("5\n")
    ruled = with_rule(settings, own_items="hide", exclude=str(tmp_path / "sold_out.txt"))
    repair_projections(store, ruled)
    rule = served_rule(ruled)
    copy = store.get_record(kinds.SERVED.key(number=1), ServedCopy)
    assert (copy.version, copy.rule) == (name, rule.fingerprint)
    answer = ask(str(folder), [[3, 4], []])
    for session, items in zip((["3", "4"], ["999"]), answer["item_ids"], strict=True):
        expected = recommend_items(store, session, k=20, name=name, rule=rule).items
        assert items == [*expected, *[-1] * (N_ITEMS - len(expected))]
        assert 5 not in items
    assert not {3, 4} & set(answer["item_ids"][0])

    project(store, settings)  # as every run does
    assert contents_of(folder) == plain
    monkeypatch.setattr("sbr_tasks.registry.promotion.publish_serving", None)
    project(store, settings)


@pytest.mark.slow
def test_stop_while_the_rule_of_the_serving_copy_changes_leaves_no_mixture(
    copied: Copied, inject: Inject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings, of = copied
    inject(d06=0.6)
    name = of(D)[1]
    promote(store, settings, *of(D), run="1")
    folder = tmp_path / "store" / "serving/gru4rec/1"
    plain = contents_of(folder)

    def export(_model: object, to: Path, **_: object) -> None:
        for file in plain:
            (to / file).parent.mkdir(parents=True, exist_ok=True)
            (to / file).write_bytes(b"under the rule")

    replace = Store.replace

    def stop_at_the_graph(store: Store, key: str, data: bytes) -> FileRecord:
        if key.endswith(".pb"):
            raise KeyboardInterrupt
        return replace(store, key, data)

    ruled = with_rule(settings, own_items="hide")
    with monkeypatch.context() as patch:
        patch.setattr(serving_module, "export_apart", export)
        patch.setattr(serving_module, "check_saved_model", lambda *_, **__: None)
        patch.setattr(Store, "replace", stop_at_the_graph)
        with pytest.raises(KeyboardInterrupt):
            project(store, ruled)
    assert not (folder / "saved_model.pb").exists()
    assert not any(is_published(store, 1, name, served_rule(each)) for each in (settings, ruled))
    project(store, settings)
    assert contents_of(folder) == plain


@pytest.mark.slow
def test_a_decision_names_the_rule_that_it_was_made_under(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    inject(d06=0.0)
    decision = promote(store, with_rule(settings, own_items="hide_current"), *of(D), run="1")
    assert sum("recommend.own_items = hide_current" in reason for reason in decision.reasons) == 1
