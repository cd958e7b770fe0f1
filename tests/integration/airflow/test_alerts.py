"""A real Airflow sends mails of a promotion, a failure and a run that is late."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from tests.integration.conftest import NEW
from tests.integration.history import entries_of
from tests.mailbox import Mailbox, body_of
from tools.local_airflow import backfill
from tools.wait import TIMEOUT_S

from .conftest import Platform

EMPTY_DAY = date(2001, 2, 4)
ALERTS = """
        [alerts]
        on = ["failure", "promotion", "deadline"]
        recipients = ["ops@shop.test"]
        deadline_hours = 0.001
        """


def parse(platform: Platform) -> None:
    """Lets Airflow read the DAG again, whose deadline hangs on the settings."""
    api, began = platform.airflow.api, time.time()
    api.put(f"parseDagFile/{api.get(f'dags/{backfill.DAG}')['file_token']}")
    backfill.wait_for_dag(api, since=began)


@contextmanager
def alerted(platform: Platform, shop: Path, clicks: Path) -> Iterator[None]:
    """Lets the platform tell what happens to a shop."""
    try:
        with platform.using(shop, clicks, more=ALERTS):
            parse(platform)
            yield
    finally:
        parse(platform)


def test_promotion_failure_and_late_run_are_sent_by_mail(
    platform: Platform, mails: Mailbox, trained: Path, demo_clicks: Path, tmp_path: Path
) -> None:
    shop = tmp_path / "shop"
    shutil.copytree(trained, shop)
    with platform.publishing_nothing(), alerted(platform, shop, demo_clicks):
        promoting, failing = (platform.trigger(backfill.DAG, {"day": str(day)}) for day in (NEW, EMPTY_DAY))
        assert platform.finished(promoting)["state"] == "success"
        assert platform.finished(failing)["state"] == "failed"
        (late,) = mails.about(f"{promoting} is late", TIMEOUT_S)
    entry = entries_of(shop)[-1]
    (promoted,) = mails.about(f"Promoted: {entry.champion}")
    assert promoted["to"] == "ops@shop.test"
    assert f"<td>{promoting}</td>" in body_of(promoted)
    assert f"{platform.airflow.url}/dags/daily_retrain/runs/" in body_of(promoted)
    (failed,) = mails.about("ingest_clicks failed")
    assert f"{EMPTY_DAY} has no clicks in" in body_of(failed)
    assert "late and still" in str(late["subject"])
    assert f"{platform.airflow.url}/dags/daily_retrain/runs/" in body_of(late)
    assert not mails.about("promote_if_better failed")  # what waited for a failed task is no failure of its own
