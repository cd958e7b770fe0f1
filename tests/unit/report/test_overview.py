"""The Models page: what it holds, and how it is drawn."""

from __future__ import annotations

import json
import re
import shutil
from datetime import date
from pathlib import Path

import pytest

from benchmarks.seeded_history import revision_of, seed_history
from sbr_tasks.errors import DamagedError
from sbr_tasks.registry.log import Decision, PromotionLog, Rollback, fold, outcome_of
from sbr_tasks.registry.promotion import commit_pin, commit_unpin
from sbr_tasks.report.overview import overview, shared_store, stale_in_words
from sbr_tasks.report.render import STATIC, Live, Query, overview_html, stale_html
from sbr_tasks.report.words import OUTCOMES
from sbr_tasks.settings import load_settings
from sbr_tasks.store import Store
from tests.unit.report.pages import Page

LAST = date(2026, 11, 27)
TODAY = date(2026, 11, 30)
OP = Live(may_roll_back=True, may_pin=True)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Twenty days of decisions, with a rollback among them."""
    store = Store(str(tmp_path / "store"))
    seed_history(store, LAST, 20)
    return store


def page_of(store: Store, live: Live = OP) -> Page:
    return Page(overview_html(overview(store, TODAY), live))


def asking(**query: str | int) -> Live:
    return Live(query=Query.model_validate(query))


def rows_of(page: Page) -> int:
    """Rows of the table of decisions, without its head."""
    return len([one for one in page.of("div", "role") if one["role"] == "row"]) - 1


def test_champion_is_shown_with_its_age_and_scores_and_what_it_was_made_of(store: Store) -> None:
    entries = PromotionLog(store).entries()
    state = fold(entries)
    shown = overview(store, TODAY)
    made_by = entries[state.champion_entry - 1]
    assert shown.made_champion == made_by
    assert shown.days_old == (TODAY - made_by.day).days
    assert shown.decision == state.decisions[str(state.champion)]
    assert shown.version and shown.fault is None
    text = page_of(store).text
    assert str(state.champion) in text
    assert f"{shown.decision.challenger_metrics['recall_at_20']:.4f}" in text
    assert "1,250,000 events, 31,000 items" in text
    assert all(reason in text for reason in made_by.reasons)


def test_every_log_entry_is_a_row_newest_first(store: Store) -> None:
    entries = PromotionLog(store).entries()
    html = overview_html(overview(store, TODAY), asking(rows=100))
    assert rows_of(Page(html)) == len(entries)
    assert [int(n) for n in re.findall(r"Log entry (\d+),", html)] == [entry.number for entry in reversed(entries)]
    assert all(OUTCOMES[outcome_of(entry)].label in html for entry in entries)
    rollback = next(entry for entry in entries if isinstance(entry, Rollback))
    assert rollback.reason.replace("'", "&#39;") in html
    assert fold(entries).retired


def test_decisions_are_listed_by_outcome_and_text_and_ten_at_first(store: Store) -> None:
    entries = PromotionLog(store).entries()
    assert rows_of(page_of(store)) == 10
    assert f"10 of {len(entries)} decisions" in page_of(store).text
    assert rows_of(page_of(store, asking(outcome="rollback"))) == 1
    assert rows_of(page_of(store, asking(find=" 2026-11-2", rows=100))) == sum("2026-11-2" in one.version for one in entries)
    assert "No matching decisions" in page_of(store, asking(find="1999")).text
    links = [address for address in page_of(store).addresses if address.startswith("?")]
    assert "?outcome=rollback&find=#decisions" in links
    assert "?outcome=&find=&rows=110#decisions" in links
    assert overview(store, TODAY).outcomes.keys() == {outcome_of(entry) for entry in entries}


def test_chart_has_a_point_a_decision_by_day(store: Store) -> None:
    points = overview(store, TODAY).points
    decisions = {entry.version: entry for entry in PromotionLog(store).entries() if isinstance(entry, Decision)}
    assert [point["version"] for point in points] == sorted(decisions)
    for point in points:
        decision = decisions[point["version"]]
        assert (point["label"], point["becameChampion"]) == (
            OUTCOMES[decision.outcome].label,
            decision.outcome.moves_champion,
        )
        recall = point["scores"][0]
        assert (recall["title"], recall["challenger"]) == ("Recall@20", decision.challenger_metrics["recall_at_20"])
        if decision.opponent:
            assert recall["champion"] + recall["difference"]["value"] == pytest.approx(recall["challenger"])
    assert points[0]["scores"][0]["champion"] is points[0]["scores"][0]["difference"] is None
    html = overview_html(overview(store, TODAY), OP)
    embedded = re.search(r'<script type="application/json" id="points">(.*?)</script>', html, re.DOTALL)
    assert embedded and json.loads(embedded[1]) == json.loads(json.dumps(points))


def test_pin_is_shown_with_the_champion_and_ends_with_its_button(store: Store) -> None:
    assert "Pinned" not in page_of(store).text
    commit_pin(store, reason="The sale.", actor="manual__1")
    page = page_of(store)
    assert "The sale." in page.text and "Unpin …" in page.text
    assert {"type": "hidden", "name": "action", "value": "unpin"} in page.of("input")
    commit_unpin(store, actor="ann")
    assert "Pinned since" not in page_of(store).text


def test_only_those_who_may_are_offered_to_roll_back_and_pin(store: Store) -> None:
    dags = {form["data-dag"] for form in page_of(store).of("form", "data-dag")}
    assert dags == {"rollback_champion", "pin_champion"}
    assert page_of(store, Live()).of("dialog") == page_of(store, Live()).of("button", "data-dialog") == []
    choices = re.findall(r"<option[^>]*>([^<]+)</option>", overview_html(overview(store, TODAY), OP).split("</dialog>")[0])
    assert choices == fold(PromotionLog(store).entries()).may_return


def test_runs_of_airflow_are_links_below_its_own_path(store: Store) -> None:
    entry = PromotionLog(store).entries()[-1]
    addresses = page_of(store, Live("/team/airflow")).addresses
    run = entry.actor.replace(":", "%3A").replace("+", "%2B")
    assert f"/team/airflow/dags/daily_retrain/runs/{run}" in addresses


def test_empty_store_has_no_champion_and_says_where_it_looked(tmp_path: Path) -> None:
    page = page_of(Store(str(tmp_path / "empty")))
    assert "There is no champion yet" in page.text and "No decisions yet." in page.text
    assert str(tmp_path / "empty/promotions") in page.text
    assert page.of("dialog") == page.of("script", "id") == []


def test_champion_whose_manifest_is_lost_is_shown_with_the_reason(store: Store) -> None:
    champion = str(PromotionLog(store).state().champion)
    store.delete(f"models/{champion}/manifest.json")
    page = page_of(store)
    assert champion in page.text and "manifest.json is missing" in page.text


def test_damaged_log_entry_is_named(store: Store) -> None:
    store.replace_record("promotions/00000003.json", {"kind": "decision"})
    with pytest.raises(DamagedError, match=r"Entry 3 of .*promotions can't be read"):
        overview(store, TODAY)


def test_open_store_reads_only_new_entries_and_those_that_were_rewritten(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings({"store": store.url})
    shared = shared_store(settings)
    assert shared_store(settings) is shared
    overview(shared, TODAY)
    read, get = list[str](), Store.get
    monkeypatch.setattr(Store, "get", lambda self, key: (read.append(key), get(self, key))[1])
    overview(shared, TODAY)
    assert not [key for key in read if key.startswith("promotions/")]
    for folder in ("promotions", "models", "commits"):
        shutil.rmtree(store.where(folder))
    begun_anew = seed_history(store, LAST, 3, seed=8)
    assert [entry.version for entry in overview(shared, TODAY).entries] == [one.version for one in begun_anew]


def test_lateness_is_said_in_words(store: Store) -> None:
    name = PromotionLog(store).entries()[0].version
    assert stale_in_words(store, name) == "" == stale_html("").strip()
    key = f"models/{name}/manifest.json"
    manifest = store.get_json(key)
    manifest["lineage"]["revisions"]["2026-11-10"] = "older"
    assert revision_of(date(2026, 11, 10)) != "older"
    store.replace_record(key, manifest)
    assert stale_in_words(store, name) == "2026-11-10"
    assert "Stale: the clicks of 2026-11-10 have changed" in stale_html("2026-11-10")
    store.delete(key)
    assert stale_in_words(store, name) is None and "Could not check" in stale_html(None)


def test_hostile_names_are_escaped(store: Store) -> None:
    html = overview_html(overview(store, TODAY), asking(find='"><script>x', version="<b>", items="1"))
    assert "<script>x" not in html and "<b>" not in html


def test_pages_bring_all_their_files_along_and_name_no_other_host(store: Store) -> None:
    files = {file.name: file.read_text(encoding="utf-8") for file in STATIC.iterdir()}
    for name, text in files.items():
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), name
    page = page_of(store)
    own = {address for address in page.addresses if address.startswith("static/")}
    assert own == {f"static/{name}" for name in ("theme.js", "page.css", "page.js", "overview.js")}
    assert {address.removeprefix("static/") for address in own} <= files.keys()


def test_outcomes_are_named_in_python_only() -> None:
    sources = "".join(
        file.read_text(encoding="utf-8") for file in [*STATIC.glob("*.js"), *(STATIC.parent / "templates").iterdir()]
    )
    assert [one.label for one in OUTCOMES.values() if f'"{one.label}"' in sources] == []
    assert [outcome for outcome in OUTCOMES if "_" in outcome and outcome in sources] == []
