"""The page of a version as Airflow serves it, from records alone."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from benchmarks.seeded_history import revision_of, seed_history, write_manifest
from sbr_tasks.errors import DayError, RegistryError
from sbr_tasks.registry.gate import Outcome
from sbr_tasks.registry.log import Decision, PromotionLog, Rollback
from sbr_tasks.registry.mlflow_projection import model_url
from sbr_tasks.report.render import Live, version_html
from sbr_tasks.report.stored import data_docs_of
from sbr_tasks.report.version import keep_verdict, version_page
from sbr_tasks.settings import Settings, load_settings
from sbr_tasks.store import Store
from tests.unit.report.pages import Page

LAST = date(2026, 11, 27)
UNDECIDED = "2026-11-27-00000000"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Twenty days of decisions, with a rollback among them; windows are lost."""
    store = Store(str(tmp_path / "store"))
    seed_history(store, LAST, 20)
    return store


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"store": str(tmp_path / "store")})


def decision_of(store: Store, day: int) -> Decision:
    return next(one for one in PromotionLog(store).entries() if isinstance(one, Decision) and one.day.day == day)


def page_of(store: Store, settings: Settings, name: str, live: Live | None = None) -> Page:
    return Page(version_html(version_page(store, name), settings, live=live or Live(may_roll_back=True, may_pin=True)))


def test_page_holds_what_is_known_of_a_version(store: Store, settings: Settings) -> None:
    decision = decision_of(store, 22)
    page = version_page(store, decision.version)
    assert page.decision == decision and page.other_entries == []
    assert page.settings["model and training"]["layers"] == [100] and page.settings["window"]["days"] == 30
    assert [length for length, _ in page.by_length] == ["2", "3-5", "6+"]
    assert page.warnings == {date(2026, 11, 13): ("volume: 180,000 clicks are far from the median of 120,000",)}
    assert len(page.data_docs) == 30
    shown = page_of(store, settings, decision.version)
    assert shown.headings == [
        decision.version,
        "Decision",
        "Comparison",
        "Challenger minus champion",
        "By session length",
        "What changed since the previous run",
        "Settings, code and packages that changed",
        "Scores",
        "Learning curve",
        "Read-out",
        "Validation",
        "Data profile, before cleansing",
        "Settings and lineage",
        "Model and training",
        "Window",
        "Lineage",
        "Try a session",
    ]
    recall = [f"{values['recall_at_20']:.4f}" for values in decision.scored.values()]
    assert ["Recall@20", *recall] in shown.rows
    assert shown.rows[shown.rows.index(["epoch", "loss", "Recall@20", "MRR@20", "events/s", "seconds"]) + 6][0] == "6"


def test_version_whose_manifest_is_lost_still_shows_what_the_log_says(store: Store, settings: Settings) -> None:
    name = PromotionLog(store).entries()[4].version
    store.delete(f"models/{name}/manifest.json")
    page = page_of(store, settings, name)
    assert "manifest.json is missing" in page.text
    assert "Comparison" in page.headings and "Learning curve" not in page.headings


@pytest.mark.parametrize("name", [UNDECIDED, "../../etc/passwd", ""])
def test_unknown_version_is_refused_with_a_sentence(store: Store, name: str) -> None:
    with pytest.raises(RegistryError, match="There is no model version"):
        version_page(store, name)


def test_version_without_a_decision_shows_the_verdict_of_its_run(store: Store, settings: Settings) -> None:
    write_manifest(store, UNDECIDED)
    assert "No decision on this version" in page_of(store, settings, UNDECIDED).text
    decided = decision_of(store, 27)
    verdict = decided.model_copy(update={"number": 0, "version": UNDECIDED, "outcome": Outcome.NOT_ASKED})
    keep_verdict(store, verdict)
    assert version_page(store, UNDECIDED).decision == verdict
    page = page_of(store, settings, UNDECIDED)
    assert "only trained and scored" in page.text and "not in the promotion log" in page.text
    assert "Comparison" in page.headings


def test_rollbacks_are_on_the_pages_of_both_versions(store: Store, settings: Settings) -> None:
    rollback = next(entry for entry in PromotionLog(store).entries() if isinstance(entry, Rollback))
    for name in (rollback.before, rollback.version):
        page = page_of(store, settings, name)
        assert "Other entries in the promotion log" in page.headings and rollback.reason in page.text
    assert "Retired" in page_of(store, settings, rollback.before).text


def test_only_those_who_may_roll_back_and_only_to_versions_that_may_return(store: Store, settings: Settings) -> None:
    state = PromotionLog(store).state()

    def dags(name: str, live: Live) -> set[str | None]:
        return {form["data-dag"] for form in page_of(store, settings, name, live).of("form", "data-dag")}

    earlier, kept = state.may_return[0], (state.days.keys() - state.were_champion).pop()
    assert dags(str(state.champion), Live(may_roll_back=True, may_pin=True)) == {"rollback_champion", "pin_champion"}
    assert dags(earlier, Live(may_roll_back=True)) == {"rollback_champion"}
    assert dags(kept, Live(may_roll_back=True, may_pin=True)) == set() == dags(earlier, Live(may_pin=True))
    html = version_html(version_page(store, earlier), settings, live=Live(may_roll_back=True))
    assert f"<option selected>{earlier}</option>" in html


def test_copy_in_the_store_needs_no_server(store: Store, settings: Settings) -> None:
    html = version_html(version_page(store, decision_of(store, 20).version, is_written=True), settings)
    page = Page(html)
    assert page.addresses and all(address.startswith("#") for address in page.addresses)
    assert page.of("script") == page.of("form") == page.of("button") == []


def test_served_page_loads_only_files_of_its_own(store: Store, settings: Settings) -> None:
    html = version_html(version_page(store, decision_of(store, 20).version), settings, live=Live())
    assert " style=" not in html and "<style" not in html, "the content security policy lets no inline style through"
    loaded = {one.get("src") or one.get("href") for one in [*Page(html).of("script"), *Page(html).of("link")]}
    assert loaded == {"static/theme.js", "static/page.js", "static/page.css"}


def test_only_a_server_of_mlflow_has_an_address_and_it_shows_no_password(store: Store, settings: Settings) -> None:
    assert model_url(settings) is None
    served = load_settings({"mlflow.tracking_uri": "https://user:secret@mlflow.example/base/"})
    url = "https://mlflow.example/base/#/models/gru4rec"
    assert model_url(served) == url
    assert url in page_of(store, served, decision_of(store, 20).version).addresses


def test_pages_of_mlflow_are_where_browsers_reach_them_or_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBR_MLFLOW__TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setenv("SBR_MLFLOW__PAGES_URI", "http://localhost:5000")
    assert model_url(load_settings()) == "http://localhost:5000/#/models/gru4rec"
    monkeypatch.setenv("SBR_MLFLOW__PAGES_URI", "")
    assert model_url(load_settings()) is None


def test_data_docs_are_those_of_a_revision_or_of_the_last_one(store: Store) -> None:
    day = "2026-11-20"
    with pytest.raises(DayError, match="no Data Docs of 2026-11-20"):
        data_docs_of(store, day)
    store.replace(f"validation/day={day}/data_docs.html", b"<h1>docs</h1>")
    assert data_docs_of(store, day) == data_docs_of(store, day, revision_of(date(2026, 11, 20))) == b"<h1>docs</h1>"
    for other in ("1999-01-01", day):
        with pytest.raises(DayError, match="no Data Docs"):
            data_docs_of(store, other, "unknown")
    with pytest.raises(DayError):
        data_docs_of(store, "../../etc/passwd")
