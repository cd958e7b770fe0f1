"""Which alerts are sent, and when."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sbr_tasks.clicks.ingest import ingest
from sbr_tasks.errors import DayError, SettingsError
from sbr_tasks.registry.gate import Outcome
from sbr_tasks.registry.log import Decision, Entry, PromotionLog, fold
from sbr_tasks.report.alerts import Alert, failure_alert, promotion_alert, rollback_alert, streak_alert
from sbr_tasks.report.due import AFTER_SUCCESS, Ended, due_after_failure, due_after_success, due_at_deadline
from sbr_tasks.settings import Settings, load_settings, parse_overrides
from sbr_tasks.store import Store
from sbr_tasks.validation.validate_days import validate_pending
from sbr_tasks.workspace import Workspace
from tests.unit.days import at, parquet_settings, write_parquet
from tests.unit.entries import decision_after, rollback_to

D = date(2020, 6, 10)
LINK = "http://airflow/dags/daily_retrain/runs/r/tasks/t"
ALL = ("alerts.on=" + '["failure", "promotion", "streak", "quarantine", "deadline"]', 'alerts.recipients=["ops@shop.test"]')
ENDED = Ended("daily_retrain", "promote_if_better", "run-1", datetime(2020, 6, 11, tzinfo=UTC), 1, LINK)


def decision(entries: list[Entry], day: date, outcome: Outcome, run: str = "run-1") -> Decision:
    """Appends a decision on a version of a day."""
    state = fold(entries)
    name = f"{day}-{len(entries):08x}"
    scores = {"recall_at_20": 0.25, "mrr_at_20": 0.125, "n_events": 1234}
    difference = {"value": 0.03, "lower": 0.01, "upper": 0.05, "probability": 0.99}
    compared: dict[str, Any] = {
        "opponent": state.champion,
        "opponent_metrics": scores | {"recall_at_20": 0.22},
        "differences": {"recall_at_20": difference},
    }
    given = {"reasons": ("Recall@20 is better.",), "challenger_metrics": scores, "actor": run}
    entry = decision_after(state, name, day, outcome, **given, **(compared if state.champion else {}))
    entries.append(entry)
    return entry


def history(*outcomes: Outcome, first: date = D) -> list[Entry]:
    """Decisions on consecutive days."""
    entries: list[Entry] = []
    for i, outcome in enumerate(outcomes):
        decision(entries, first + timedelta(days=i), outcome)
    return entries


def streaks(entries: list[Entry], days: int) -> list[int]:
    """The numbers of the log entries at which a streak of `days` is reported."""
    numbers = []
    for n, entry in enumerate(entries, start=1):
        if isinstance(entry, Decision) and streak_alert(entries[:n], entry, days=days, page="p", link=LINK):
            numbers.append(entry.number)
    return numbers


def test_promotion_alert_has_its_numbers_and_both_links() -> None:
    entries: list[Entry] = []
    decision(entries, D, Outcome.FIRST_CHAMPION)
    promoted = decision(entries, D + timedelta(days=1), Outcome.PROMOTE)
    alert = promotion_alert(promoted, page="/store/reports/x.html", link=LINK)
    assert alert.subject == f"Promoted: {promoted.version} replaces {promoted.before} as champion."
    assert "Recall@20 is better." in alert.lines
    assert alert.numbers["Recall@20"] == "0.2500 (champion 0.2200)"
    assert alert.numbers["Recall@20, difference"] == "+0.0300 (95% interval +0.0100 to +0.0500)"
    assert alert.numbers["test events"] == "1,234"
    assert alert.numbers["report"] == "/store/reports/x.html"
    assert alert.text.endswith(f"\n\n{LINK}")
    assert f'<a href="{LINK}">' in alert.html


def test_message_shows_what_records_say_and_never_runs_it() -> None:
    error = DayError("<script>{{ 7 * 7 }}</script>\nsecond line")
    alert = failure_alert(dag="daily_retrain", task="validate_clicks", run="r", attempt=2, error=error, link=LINK)
    assert alert.subject == "daily_retrain: validate_clicks failed: <script>{{ 7 * 7 }}</script> second line"
    assert "<script>" not in alert.html
    assert "&lt;script&gt;{{ 7 * 7 }}" in alert.html
    assert alert.numbers == {"run": "r", "attempts": "2"}


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DayError("2020-06-10 is in quarantine."), "2020-06-10 is in quarantine."),
        (KeyError("x"), "KeyError: 'x'"),
        (MemoryError(), "MemoryError"),
        (None, "The process ended without an error message: it was killed, or its machine failed."),
    ],
)
def test_failure_alert_has_the_words_of_the_error(error: BaseException | None, line: str) -> None:
    assert line in failure_alert(dag="d", task="t", run="r", attempt=1, error=error, link=LINK).lines


def test_subject_is_one_short_line() -> None:
    subject = Alert("a\r\nBcc: everybody@shop.test\n" + "x" * 500, (), {}).subject
    assert "\n" not in subject
    assert "\r" not in subject
    assert len(subject) == 160


def test_streak_alert_is_sent_once_it_is_long_enough_and_again_after_as_many_days() -> None:
    keep = Outcome.KEEP_CHAMPION
    assert streaks(history(Outcome.FIRST_CHAMPION, *[keep] * 7), 3) == [4, 7]
    assert streaks(history(Outcome.FIRST_CHAMPION, keep, keep, Outcome.PROMOTE, keep, keep, Outcome.BELOW_BASELINE), 3) == [7]
    assert streaks(history(Outcome.FIRST_CHAMPION, keep), 1) == [2]


def test_streak_counts_days_on_which_nothing_was_decided() -> None:
    entries = history(Outcome.FIRST_CHAMPION)
    decision(entries, D + timedelta(days=5), Outcome.KEEP_CHAMPION)
    decision(entries, D + timedelta(days=6), Outcome.KEEP_CHAMPION)
    assert streaks(entries, 4) == [2]
    last = entries[1]
    assert isinstance(last, Decision)
    alert = streak_alert(entries[:2], last, days=4, page="p", link=LINK)
    assert alert is not None
    assert alert.subject == f"No promotion for 5 days; the champion is still {entries[0].version}."
    assert "up to 15 June 2020. Decisions: 1." in alert.text


def test_old_days_of_a_backfill_are_no_streak() -> None:
    entries = history(Outcome.FIRST_CHAMPION)
    for i in range(1, 9):
        decision(entries, D - timedelta(days=i), Outcome.WOULD_KEEP)
    assert streaks(entries, 2) == []


def test_streak_counts_from_the_first_decision_while_there_is_no_champion() -> None:
    assert streaks(history(*[Outcome.TOO_FEW_EVENTS] * 5), 2) == [2, 4]


def test_streak_restarts_after_a_rollback() -> None:
    entries = history(Outcome.FIRST_CHAMPION, Outcome.PROMOTE)
    first, second = entries
    entries.append(rollback_to(first.version, first.day, before=second.version))
    for i in (2, 3, 4):
        decision(entries, D + timedelta(days=i), Outcome.KEEP_CHAMPION)
    assert streaks(entries, 3) == [6]


def test_rollback_alert_has_its_reason() -> None:
    alert = rollback_alert(rollback_to("a", D, before="b", reason="empty shelves", actor="ann@shop"), link=LINK)
    assert alert.subject == "Rolled back: a replaces b as champion."
    assert "Reason: empty shelves" in alert.lines
    assert alert.numbers["by"] == "ann@shop"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return parquet_settings(tmp_path, *ALL)


def commit(settings: Settings, entries: list[Entry]) -> None:
    log = PromotionLog(Store.open(settings))
    for entry in entries[len(log.entries()) :]:
        log.create(entry)


def test_only_the_run_that_decided_tells_of_it(settings: Settings) -> None:
    entries = history(Outcome.FIRST_CHAMPION)
    commit(settings, entries)
    (alert,) = due_after_success(settings, ENDED)
    assert alert.numbers["report"].endswith("reports/day=2020-06-10/00000001.html")
    assert due_after_success(settings, replace(ENDED, task="decide.promote_if_better")) == [alert]
    assert due_after_success(settings, replace(ENDED, run="the same day again")) == []
    assert due_after_success(settings, replace(ENDED, task="write_report")) == []


def test_rejection_is_reported_only_as_a_streak(settings: Settings) -> None:
    entries = history(Outcome.FIRST_CHAMPION)
    decision(entries, D + timedelta(days=1), Outcome.KEEP_CHAMPION, run="run-2")
    commit(settings, entries)
    assert due_after_success(settings, replace(ENDED, run="run-2")) == []
    decision(entries, D + timedelta(days=7), Outcome.KEEP_CHAMPION, run="run-3")
    commit(settings, entries)
    (alert,) = due_after_success(settings, replace(ENDED, run="run-3"))
    assert alert.subject.startswith("No promotion for 7 days")


@pytest.mark.parametrize("on", ["[]", '["quarantine"]'])
def test_alert_that_is_off_is_not_sent(tmp_path: Path, on: str) -> None:
    settings = parquet_settings(tmp_path, f"alerts.on={on}", 'alerts.recipients=["a@b"]')
    commit(settings, history(Outcome.FIRST_CHAMPION))
    assert due_after_success(settings, ENDED) == []
    assert due_after_failure(settings, replace(ENDED, error=DayError("bad"))) == []
    assert due_at_deadline(settings, RUN, "2020-06-11T06:00:00Z", link=LINK) == []


RUN: dict[str, Any] = {
    "dag_id": "daily_retrain",
    "dag_run_id": "scheduled__2020-06-10",
    "run_type": "scheduled",
    "state": "running",
    "queued_at": "2020-06-11T00:00:00Z",
}


def test_late_run_is_reported_with_its_state_unless_it_is_of_a_backfill(settings: Settings) -> None:
    (alert,) = due_at_deadline(settings, RUN, "2020-06-11T06:00:00Z", link=LINK)
    assert alert.subject == "daily_retrain: scheduled__2020-06-10 is late and still running"
    assert alert.numbers == {"state": "running", "queued at": "2020-06-11T00:00:00Z", "deadline": "2020-06-11T06:00:00Z"}
    assert due_at_deadline(settings, RUN | {"run_type": "backfill"}, "2020-06-11T06:00:00Z", link=LINK) == []
    (failed,) = due_at_deadline(settings, RUN | {"state": "failed"}, "2020-06-11T06:00:00Z", link=LINK)
    assert failed.subject == "daily_retrain: scheduled__2020-06-10 failed before its deadline"


def test_quarantine_is_reported_once_with_why_the_run_failed(settings: Settings, tmp_path: Path) -> None:
    write_parquet(tmp_path / "in" / "bad.parquet", [(None, 1, at(D, 1)), (2, 2, at(D, 2))])
    began = datetime.now(UTC)
    store = Store.open(settings)
    ingest(store, settings)
    validate_pending(store, settings)
    ended = replace(ENDED, task="validate_clicks", began=began)
    (going_on,) = due_after_success(settings, ended)
    assert going_on.subject == f"In quarantine: {D}"
    assert going_on.numbers == {f"clicks of {D}": "2"}
    assert "The run continues without these clicks." in going_on.lines
    (failed,) = due_after_failure(settings, replace(ended, error=DayError(f"{D} is in quarantine.")))
    assert failed.subject == f"In quarantine: {D}; the run failed"
    assert f"{D} is in quarantine." in failed.lines
    later = replace(ended, began=datetime.now(UTC) + timedelta(seconds=2), error=DayError("Too many days are missing."))
    assert due_after_success(settings, later) == []
    (other,) = due_after_failure(settings, later)
    assert other.subject == "daily_retrain: validate_clicks failed: Too many days are missing."


def test_each_task_with_something_to_tell_is_a_step() -> None:
    assert all(hasattr(Workspace, name) for name in AFTER_SUCCESS)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (('alerts.on=["failure"]',), "e-mails need recipients; set alerts.recipients, or another alerts.notifier"),
        (
            ('alerts.arguments={"smtp_password": "hush"}',),
            "Setting 'alerts.arguments.smtp_password' in the overrides (--set) is 'smtp_password': secrets belong in the "
            "Airflow connection of the notifier.",
        ),
        (('alerts.on=["fire"]',), "'failure', 'promotion', 'streak', 'quarantine' or 'deadline'"),
    ],
)
def test_settings_that_would_tell_nobody_or_hold_a_secret_are_refused(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(parse_overrides(overrides))
    assert message in str(caught.value)
    assert "hush" not in str(caught.value)
