"""What versions recommend for a session, side by side."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from benchmarks.seeded_history import seed_history, write_manifest
from sbr_tasks.errors import RegistryError
from sbr_tasks.gru4rec.weights import GRU4RecWeights, GRULayer
from sbr_tasks.readout.placement import SHOW_ALL
from sbr_tasks.registry.log import PromotionLog
from sbr_tasks.registry.recommend import recommend_items
from sbr_tasks.report.overview import overview
from sbr_tasks.report.render import Live, Query, overview_html, with_session
from sbr_tasks.report.session import MAX_ITEMS, parse_session, side_by_side
from sbr_tasks.settings import ModelSettings, load_settings
from sbr_tasks.store import Store
from sbr_tasks.window.sessions import ItemIndex

OTHER = "2020-01-01-00000001"


def write_model(store: Store, name: str, favourite: int) -> None:
    """A version of three items (10, 20, 30) that always expects one of them."""
    layer = GRULayer(None, np.zeros((2, 6), np.float32), np.zeros(6, np.float32))
    index = ItemIndex(np.array([10, 20, 30]), np.array([5, 7, 6]))
    weights = GRU4RecWeights(
        model=ModelSettings(layers=(2,), constrained_embedding=False),
        index=index,
        output_table=np.zeros((3, 2), np.float32),
        output_bias=np.eye(3, dtype=np.float32)[favourite],
        input_table=np.zeros((3, 6), np.float32),
        layers=(layer,),
    )
    write_manifest(store, name)
    key = f"models/{name}/manifest.json"
    files = {file: store.publish(f"models/{name}/f/{file}", content).as_dict() for file, content in weights.to_files().items()}
    store.replace_record(key, store.get_json(key) | {"files": files})


@pytest.fixture
def shop(tmp_path: Path) -> tuple[Store, str]:
    """A store whose champion expects item 10, and its name; another version (`OTHER`) expects item 30."""
    store = Store(str(tmp_path / "store"))
    seed_history(store, date(2026, 11, 27), 5)
    champion = str(PromotionLog(store).state().champion)
    store.delete(f"models/{champion}/manifest.json")
    write_model(store, champion, favourite=0)
    write_model(store, OTHER, favourite=2)
    return store, champion


def test_champion_and_version_recommend_side_by_side_as_each_alone(shop: tuple[Store, str]) -> None:
    store, champion = shop
    columns = side_by_side(store, "10, 77", OTHER, SHOW_ALL, k=2)
    assert [column.version for column in columns] == [champion, OTHER]
    shown = [column.recommendation for column in columns if column.recommendation]
    assert [one.items[0] for one in shown] == [10, 30]
    assert [one.unknown for one in shown] == [("77",), ("77",)]
    assert shown[1] == recommend_items(store, ["10", "77"], k=2, name=OTHER)
    assert len(side_by_side(store, "10", champion, SHOW_ALL, k=2)) == len(side_by_side(store, "10", None, SHOW_ALL, k=2)) == 1


def test_version_that_cannot_be_asked_says_why_beside_the_champion(shop: tuple[Store, str]) -> None:
    first, second = side_by_side(shop[0], "10", "2020-01-01-00000002", SHOW_ALL, k=1)
    assert first.recommendation and first.recommendation.items == (10,)
    assert second.recommendation is None and "There is no model version '2020-01-01-00000002'" in second.fault
    (only,) = side_by_side(shop[0], "shoe", None, SHOW_ALL, k=1)
    assert only.fault == "Expected non-negative 64-bit integers as item ids, such as 1,2,3; found 'shoe'."


def test_lists_are_shown_with_the_rank_in_the_other_list(shop: tuple[Store, str]) -> None:
    store, champion = shop

    def page(**query: str | int) -> str:
        live = with_session(store, load_settings(), Live(query=Query.model_validate(query)), str(query.get("version", "")))
        return " ".join(overview_html(overview(store, date(2026, 11, 30)), live).split())

    html = page(items="10 77", version=OTHER, k=2)
    assert "#2 in the other list" in html and "only in this list" in html
    assert html.count("Item 77 is unknown to this version and was ignored.") == 2
    assert f"<option selected>{OTHER}</option>" in html
    assert "This version knows none of these items" in page(items="77")
    assert "Expected non-negative 64-bit integers" in page(items="&lt;shoe")
    assert 'role="alert">Expected the items of a session' in page(items=", ;")
    assert champion in page()


def test_nothing_is_recommended_without_a_champion_or_items(shop: tuple[Store, str], tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="no champion yet"):
        side_by_side(Store(str(tmp_path / "empty")), "10", None, SHOW_ALL, k=1)
    with pytest.raises(RegistryError, match="from 1 to 200 ids such as 1,2,3; found 0"):
        side_by_side(shop[0], " , ", None, SHOW_ALL, k=1)


def test_ids_of_a_session_are_between_commas_or_blanks() -> None:
    assert parse_session(" 1,2;3\n4  5 ") == ["1", "2", "3", "4", "5"]
    with pytest.raises(RegistryError, match=f"found {MAX_ITEMS + 1}"):
        parse_session("1 " * (MAX_ITEMS + 1))


def test_pages_are_made_without_tensorflow(shop: tuple[Store, str]) -> None:
    script = """
import sys
from datetime import date
from sbr_tasks.report.overview import overview
from sbr_tasks.report.render import Live, Query, overview_html, version_html, with_session
from sbr_tasks.report.version import version_page
from sbr_tasks.settings import load_settings
from sbr_tasks.store import Store
store = Store(sys.argv[1])
live = with_session(store, load_settings(), Live(query=Query(items="10")), "")
overview_html(overview(store, date(2026, 11, 30)), live)
version_html(version_page(store, sys.argv[2]), load_settings(), live=live)
assert not {"tensorflow", "keras", "mlflow", "great_expectations", "matplotlib"} & sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", script, shop[0].url, shop[1]], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
