from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from sbr_tasks.errors import DamagedError, DayError, RegistryError
from sbr_tasks.gru4rec.weights import GRU4RecWeights, GRULayer
from sbr_tasks.registry.log import Decision, PromotionLog, Rollback, fold
from sbr_tasks.registry.mlflow_projection import model_url
from sbr_tasks.registry.promotion import pin_champion
from sbr_tasks.registry.recommend import recommend
from sbr_tasks.report.models import STATIC
from sbr_tasks.report.models.overview import decision_rows, overview, shared_store, stale_in_words
from sbr_tasks.report.models.session import MOST_ITEMS, parse_session, side_by_side
from sbr_tasks.report.models.version import data_docs_page, version_page
from sbr_tasks.report.stored import report_of
from sbr_tasks.report.words import OUTCOMES
from sbr_tasks.settings import ModelSettings, Settings, load_settings
from sbr_tasks.store import Store
from sbr_tasks.window.sessions import ItemIndex
from tests.seeded_history import revision_of, seed_history, write_manifest

LAST = date(2026, 11, 27)
TODAY = date(2026, 11, 30)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Twenty days of decisions, with a rollback among them."""
    store = Store(str(tmp_path / "store"))
    seed_history(store, LAST, 20)
    return store


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"store": str(tmp_path / "store")})


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


def test_the_champion_is_shown_with_its_age_its_scores_and_what_it_was_made_of(store: Store) -> None:
    entries = PromotionLog(store).entries()
    state = fold(entries)
    shown = overview(store, TODAY)["champion"]
    made_by = entries[state.champion_entry - 1]
    assert (shown["version"], shown["since"], shown["entry"]) == (state.champion, made_by.at, made_by.number)
    assert shown["days_old"] == (TODAY - made_by.as_of).days
    assert shown["metrics"] == state.decisions[shown["version"]].challenger_metrics
    assert (shown["facts"]["parent"], len(shown["facts"]["window_days"]), shown["fault"]) == (made_by.before, 30, None)
    assert shown["may_return"] == sorted(state.were_champion - state.retired - {state.champion}, reverse=True)


def test_every_log_entry_is_a_row_newest_first(store: Store) -> None:
    entries = PromotionLog(store).entries()
    rows = decision_rows(entries)
    assert [row["entry"] for row in rows] == [entry.number for entry in reversed(entries)]
    assert [(row["label"], row["tone"]) for row in rows] == [
        (OUTCOMES[row["outcome"]].label, OUTCOMES[row["outcome"]].tone) for row in rows
    ]
    for row, entry in zip(rows, reversed(entries), strict=True):
        if isinstance(entry, Rollback):
            assert (row["outcome"], row["reasons"], row["moves_champion"]) == ("rollback", [entry.reason], True)
            continue
        assert (row["outcome"], row["reasons"]) == (entry.outcome.value, list(entry.reasons))
        assert row["mrr_at_20"]["challenger"] == entry.challenger_metrics["mrr_at_20"]
        if entry.opponent:
            found = row["recall_at_20"]
            assert found["champion"] + found["difference"]["value"] == pytest.approx(found["challenger"])
            assert found["difference"]["lower"] < found["difference"]["value"] < found["difference"]["upper"]
    assert rows[-1]["recall_at_20"]["champion"] is rows[-1]["recall_at_20"]["difference"] is None  # the first had no opponent
    retired = fold(entries).retired
    assert retired and {row["version"] for row in rows if row["is_retired"]} == retired


def test_a_pin_is_shown_with_the_champion_and_as_a_row(store: Store) -> None:
    assert overview(store, TODAY)["champion"]["pin"] is None
    pin = pin_champion(store, reason="The sale.", run="manual__1")
    shown = overview(store, TODAY)
    assert shown["champion"]["pin"] == {
        "entry": pin.number,
        "at": pin.at,
        "run": "manual__1",
        "outcome": "pin",
        "reason": "The sale.",
    }
    row = shown["decisions"][0]
    assert (row["outcome"], row["version"], row["moves_champion"], row["reasons"]) == ("pin", pin.version, False, ["The sale."])


def test_an_empty_store_has_no_champion_and_no_decisions(tmp_path: Path) -> None:
    assert overview(Store(str(tmp_path / "empty")), TODAY) == {
        "champion": None,
        "decisions": [],
        "log": str(tmp_path / "empty/promotions"),
    }


def test_a_champion_whose_manifest_is_lost_is_shown_with_the_reason(store: Store) -> None:
    champion = str(PromotionLog(store).state().champion)
    store.delete(f"models/{champion}/manifest.json")
    shown = overview(store, TODAY)["champion"]
    assert shown["version"] == champion
    assert shown["facts"] is None and "manifest.json is missing" in shown["fault"]


def test_a_damaged_log_entry_is_named(store: Store) -> None:
    store.replace_record("promotions/00000003.json", {"kind": "decision"})
    with pytest.raises(DamagedError, match=r"Entry 3 of .*promotions can't be read"):
        overview(store, TODAY)


def test_an_open_store_reads_only_new_entries_and_those_that_were_written_anew(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = shared_store(settings)
    assert shared_store(settings) is shared
    overview(shared, TODAY)
    read, get = list[str](), Store.get
    monkeypatch.setattr(Store, "get", lambda self, key: (read.append(key), get(self, key))[1])
    overview(shared, TODAY)
    assert not [key for key in read if key.startswith("promotions/")]
    shutil.rmtree(store.where("promotions"))
    shutil.rmtree(store.where("models"))
    shutil.rmtree(store.where("commits"))
    begun_anew = seed_history(store, LAST, 3, seed=8)
    assert [row["version"] for row in overview(shared, TODAY)["decisions"]] == [one.version for one in reversed(begun_anew)]


def test_a_versions_page_holds_what_is_known_of_it(store: Store, settings: Settings) -> None:
    promotion = next(one for one in PromotionLog(store).entries() if isinstance(one, Decision) and one.as_of.day == 20)
    page = version_page(store, settings, promotion.version)
    assert page["decisions"][-1]["entry"] == promotion.number
    assert page["settings"]["model"]["layers"] == [100] and page["settings"]["window"]["days"] == 30
    assert len(page["curve"]) == 6 and page["best_epoch"] == 5
    recall = next(row["scores"] for row in page["comparison"] if row["metric"] == "recall_at_20")
    assert recall["challenger"] == promotion.challenger_metrics["recall_at_20"]
    assert set(recall) == {"challenger", "champion", "popularity", "markov"}
    assert [row["clicks"] for row in page["by_length"]] == ["2", "3-5", "6+"]
    assert page["warnings"] == [
        {"day": "2026-11-13", "warnings": ["volume: 180,000 clicks are far from the median of 120,000"]}
    ]
    assert len(page["data_docs"]) == 30
    json.dumps(page, allow_nan=False)


def test_a_version_whose_manifest_is_lost_still_shows_what_the_log_tells(store: Store, settings: Settings) -> None:
    name = PromotionLog(store).entries()[4].version
    store.delete(f"models/{name}/manifest.json")
    page = version_page(store, settings, name)
    assert page["facts"] is None and "is missing" in page["fault"]
    assert page["decisions"] and page["comparison"]


@pytest.mark.parametrize("name", ["2026-11-27-00000000", "../../etc/passwd", ""])
def test_an_unknown_version_is_refused_with_a_sentence(store: Store, settings: Settings, name: str) -> None:
    with pytest.raises(RegistryError, match="There is no model version"):
        version_page(store, settings, name)


def test_only_a_server_of_mlflow_has_an_address_and_it_shows_no_password(settings: Settings) -> None:
    assert model_url(settings) is None
    served = load_settings({"mlflow.tracking_uri": "https://user:secret@mlflow.example/base/"})
    assert model_url(served) == "https://mlflow.example/base/#/models/gru4rec"


def test_pages_of_mlflow_are_where_browsers_reach_them_or_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBR_MLFLOW__TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setenv("SBR_MLFLOW__PAGES_URI", "http://localhost:5000")
    assert model_url(load_settings()) == "http://localhost:5000/#/models/gru4rec"
    monkeypatch.setenv("SBR_MLFLOW__PAGES_URI", "")
    assert model_url(load_settings()) is None


def test_reports_and_data_docs_are_served_as_they_were_written(store: Store) -> None:
    entry = PromotionLog(store).entries()[2]
    with pytest.raises(DamagedError, match="is missing"):
        report_of(store, entry.version)
    store.replace(f"reports/as_of={entry.as_of}/{entry.number:08d}.html", b"<h1>report</h1>")
    assert report_of(store, entry.version) == b"<h1>report</h1>"
    store.replace(f"validation/day={entry.as_of}/data_docs.html", b"<h1>docs</h1>")
    assert data_docs_page(store, entry.version, str(entry.as_of)) == b"<h1>docs</h1>"
    with pytest.raises(RegistryError, match="no model version '2026-11-27-99999999'"):
        report_of(store, "2026-11-27-99999999")
    with pytest.raises(DayError, match="no Data Docs of 1999-01-01"):
        data_docs_page(store, entry.version, "1999-01-01")
    store.delete(f"models/{entry.version}/manifest.json")
    assert report_of(store, entry.version) == b"<h1>report</h1>", "it outlives the version's files"


def test_the_report_of_a_version_that_was_not_to_be_promoted_is_found(store: Store, settings: Settings) -> None:
    name = "2026-11-27-00000000"
    write_manifest(store, name)
    assert (version_page(store, settings, name)["report"], version_page(store, settings, name)["decisions"]) == (False, [])
    store.replace(f"reports/as_of=2026-11-27/{name}.html", b"<h1>not asked</h1>")
    assert version_page(store, settings, name)["report"] is True
    assert report_of(store, name) == b"<h1>not asked</h1>"


def test_lateness_is_told_in_words(store: Store) -> None:
    entries = PromotionLog(store).entries()
    assert stale_in_words(store, entries[0].version) == {"stale": ""}
    key = f"models/{entries[0].version}/manifest.json"
    manifest = store.get_json(key)
    manifest["lineage"]["revisions"]["2026-11-10"] = "older"
    assert revision_of(date(2026, 11, 10)) != "older"
    store.replace_record(key, manifest)
    assert stale_in_words(store, entries[0].version) == {"stale": "2026-11-10"}


def test_champion_and_version_recommend_side_by_side_as_each_alone(store: Store) -> None:
    champion = str(PromotionLog(store).state().champion)
    store.delete(f"models/{champion}/manifest.json")
    write_model(store, champion, favourite=0)
    write_model(store, "2020-01-01-00000001", favourite=2)
    columns = side_by_side(store, "10, 77", "2020-01-01-00000001", k=2)
    assert [column["model_version"] for column in columns] == [champion, "2020-01-01-00000001"]
    assert [column["items"][0] for column in columns] == [10, 30]
    assert [column["unknown"] for column in columns] == [["77"], ["77"]]
    alone = recommend(store, ["10", "77"], k=2, name="2020-01-01-00000001").as_dict()
    assert columns[1] == alone | {"fault": None}
    assert len(side_by_side(store, "10", champion, k=2)) == len(side_by_side(store, "10", None, k=2)) == 1


def test_a_version_that_cannot_be_asked_says_why_beside_the_champion(store: Store) -> None:
    champion = str(PromotionLog(store).state().champion)
    store.delete(f"models/{champion}/manifest.json")
    write_model(store, champion, favourite=1)
    first, second = side_by_side(store, "10", "2020-01-01-00000001", k=1)
    assert first["items"] == [20]
    assert "There is no model version '2020-01-01-00000001'" in second["fault"]
    (only,) = side_by_side(store, "shoe", None, k=1)
    assert only["fault"] == "Expected non-negative 64-bit integers as item ids, such as 1,2,3; found 'shoe'."


def test_nothing_is_recommended_without_a_champion_or_items(store: Store, tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="no champion yet"):
        side_by_side(Store(str(tmp_path / "empty")), "10", None, k=1)
    with pytest.raises(RegistryError, match="from 1 to 200 ids such as 1,2,3; found 0"):
        side_by_side(store, " , ", None, k=1)


def test_ids_of_a_session_stand_between_commas_or_blanks() -> None:
    assert parse_session(" 1,2;3\n4  5 ") == ["1", "2", "3", "4", "5"]
    with pytest.raises(RegistryError, match=f"found {MOST_ITEMS + 1}"):
        parse_session("1 " * (MOST_ITEMS + 1))


def test_the_page_brings_all_its_files_along_and_names_no_other_host() -> None:
    files = {file.name: file.read_text(encoding="utf-8") for file in STATIC.iterdir()}
    assert {"overview.html", "version.html", "models.css", "overview.js", "version.js", "icon.svg"} <= set(files)
    for name, text in files.items():
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), name


def test_outcomes_are_named_in_python_only() -> None:
    scripts = "".join(file.read_text(encoding="utf-8") for file in STATIC.glob("*.js"))
    assert [outcome for outcome in OUTCOMES if "_" in outcome and outcome in scripts] == []


def test_the_page_is_made_without_tensorflow(store: Store) -> None:
    champion = str(PromotionLog(store).state().champion)
    store.delete(f"models/{champion}/manifest.json")
    write_model(store, champion, favourite=0)
    script = """
import sys
from datetime import date
from sbr_tasks.report.models.overview import overview
from sbr_tasks.report.models.session import side_by_side
from sbr_tasks.report.models import version
from sbr_tasks.store import Store
store = Store(sys.argv[1])
overview(store, date(2026, 11, 30)), side_by_side(store, "10", None, k=1)
assert not {"tensorflow", "keras", "mlflow", "great_expectations", "matplotlib"} & sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", script, store.url], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
