"""What pages, tables and lists show of a run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sbr_tasks.clicks.ingest import ingest
from sbr_tasks.registry import promotion as promotion_module
from sbr_tasks.registry.gate import Outcome
from sbr_tasks.registry.listing import model_rows
from sbr_tasks.registry.log import PromotionLog
from sbr_tasks.registry.versions import train_version
from sbr_tasks.report.page import publish_page
from sbr_tasks.report.runs import run_rows, run_table
from sbr_tasks.store import kinds
from sbr_tasks.upkeep.check import verify_store
from sbr_tasks.validation.validate_days import validate_pending
from sbr_tasks.window.cleanse import TooLong
from sbr_tasks.wish import Wish
from sbr_tasks.workspace import Workspace
from tests.unit.days import at, write_parquet
from tests.unit.registry.two_days import (
    Copied,
    D,
    Inject,
    promote,
    ring,
    with_training,
)

pytestmark = pytest.mark.slow


def test_decision_is_unchanged_when_repeated_and_is_shown_in_report_tables_and_lists(
    copied: Copied,
) -> None:
    store, settings, of = copied
    window, name = of(D)
    promotion = promote(store, settings, window, name, run="test")
    assert promotion.outcome in (Outcome.FIRST_CHAMPION, Outcome.BELOW_BASELINE)
    assert promotion.challenger_metrics["n_events"] == 120
    again = promote(store, settings, window, name, run="another")
    assert again == promotion
    page = store.get(publish_page(store, settings, D).key).decode()
    assert name in page
    (row,) = run_rows(store, [D])
    assert (row.clicks, row.window_clicks, row.decision) == (160, 800, promotion.outcome.value)
    assert name[:10] in run_table([row])
    (shown,) = [row for row in model_rows(store) if row.version == name]
    assert shown.outcome == promotion.outcome.value


def test_run_that_is_not_asked_to_promote_tells_the_verdict_and_writes_none(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings, of = copied
    workspace = Workspace(settings, store)
    monkeypatch.setattr(promotion_module, "check_serving", lambda *_: None)
    window, name = of(D)
    result = workspace.promote_if_better(D, window.fingerprint, name, Wish("never", actor="by hand"))
    assert (result.outcome, result.champion, result.log_entry, result.promoted) == ("not_asked", None, None, False)
    verdict = result.reasons[0].rsplit(" ", 1)[1]
    assert result.reasons[0].startswith("This run only trained and scored the version (promote: never)")
    assert PromotionLog(store).entries() == []
    workspace.write_report(D, window.fingerprint, name, Wish("never", actor="by hand"))
    page = store.get(kinds.UNDECIDED_PAGE.key(day=D, version=name)).decode()
    assert "only trained and scored" in page
    assert "not in the promotion log" in page
    assert not verify_store(store).orphaned.keys, "the page belongs to its version"

    decided = workspace.promote_if_better(D, window.fingerprint, name, Wish(actor="scheduled"))
    assert (decided.outcome, decided.log_entry) == (verdict.removesuffix("."), 1)
    again = workspace.promote_if_better(D, window.fingerprint, name, Wish("never", actor="by hand"))
    assert (again.outcome, again.promoted) == (decided.outcome, False), "what was decided is unchanged"
    workspace.write_report(D, window.fingerprint, name, Wish(actor="by hand"))
    assert b"log entry 1" in store.get(kinds.PAGE.key(day=D, number=1))


def test_page_of_a_run_whose_decision_is_lacking_says_so(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    workspace = Workspace(settings, store)
    inject(d06=0.6)
    window, name = of(D)
    result = workspace.write_report(D, window.fingerprint, name, Wish(actor="scheduled__1"))
    assert (result.outcome, result.log_entry) == ("undecided", 0)
    page = store.get(kinds.UNDECIDED_PAGE.key(day=D, version=name)).decode()
    assert f"Not decided: the promotion log has no decision on {name}." in page
    assert "the task promote_if_better was marked as successful by hand" in page and "verdict: first_champion." in page
    assert "asked not to promote" not in page
    assert PromotionLog(store).entries() == []


def test_page_is_that_of_the_runs_own_version(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    inject(d06=0.6)
    workspace = Workspace(settings, store)
    window, name = of(D)
    first = promote(store, settings, window, name, run="scheduled")
    other = with_training(settings, seed=7)
    second = promote(store, settings, window, train_version(store, other, window).name, run="by hand")
    assert (first.number, second.number) == (1, 2)
    assert workspace.write_report(D, window.fingerprint, name).report.endswith("00000001.html")
    assert workspace.write_report(D).report.endswith("00000002.html")


def test_page_shows_the_clicks_and_says_when_they_were_replaced(
    copied: Copied, inject: Inject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings, of = copied
    window, name = of(D)
    inject(d06=0.4)
    promote(store, settings, window, name, run="1")
    page = store.get(publish_page(store, settings, D).key).decode()
    assert page.count("<svg") == 2 + 3 + 2 + 7  # scores, the learning curve, the read-out, clicks
    assert "<dt>99.9% of sessions have at most</dt><dd>4 clicks</dd>" in page
    assert "Stale" not in page
    assert "before cleansing: " not in page

    write_parquet(tmp_path / "in" / "late.parquet", [*ring(D), (1, 1, at(D, 80_000))])
    ingest(store, settings, days=[D])
    validate_pending(store, settings)
    page = store.get(publish_page(store, settings, D).key).decode()
    assert f"Stale: the clicks of {D} have changed since this version was trained." in page
    assert "<dt>clicks</dt><dd>800</dd>" in page  # still those that the model was trained on

    rules = window.inputs.window.model_copy(update={"longest": 3, "longest_action": "cut"})
    inputs = window.inputs.model_copy(update={"window": rules})
    cleansing = window.cleansing.model_copy(update={"too_long": TooLong(sessions=1200, clicks_lost=3400)})
    limited = window.model_copy(update={"inputs": inputs, "cleansing": cleansing})
    monkeypatch.setattr("sbr_tasks.report.stored.window_record", lambda *_: limited)
    page = store.get(publish_page(store, settings, D).key).decode()
    assert "1,200 sessions of more than 3 clicks were cut to their first 3 clicks: 3,400 clicks removed." in page


def test_page_of_a_run_whose_clicks_are_gone_is_written_all_the_same(copied: Copied, inject: Inject, tmp_path: Path) -> None:
    store, settings, of = copied
    inject(d06=0.4)
    promote(store, settings, *of(D), run="1")
    for folder in ("clicks", "profiles"):
        shutil.rmtree(tmp_path / "store" / folder)
    page = store.get(publish_page(store, settings, D).key).decode()
    assert "The clicks of this window were removed, so there is no data profile." in page


def test_lost_window_hides_only_its_clicks_from_the_runs(copied: Copied, inject: Inject, tmp_path: Path) -> None:
    store, settings, of = copied
    inject(d06=0.6)
    promote(store, settings, *of(D), run="x")
    shutil.rmtree(tmp_path / "store" / "windows")
    (row,) = run_rows(store, [D])
    assert (row.window_clicks, row.decision) == (None, "first_champion")
