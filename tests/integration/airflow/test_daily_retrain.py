"""A real scheduler retrains on bol.com's clicks for three days; what it counted is counted again here, in plain Python."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from tests.integration.conftest import Json

from .conftest import DAYS, SERENADE, Platform

Clicks = dict[str, list[datetime]]


@pytest.fixture
def serenade(shared_data: Path) -> Clicks:
    """The times of each session's clicks, oldest first."""
    assert SERENADE.parent == shared_data
    clicks: Clicks = defaultdict(list)
    for name in ("train.txt", "valid.txt", "test.txt"):
        header, *lines = (SERENADE / name).read_text(encoding="utf-8").splitlines()
        session, time = header.split("\t").index("SessionId"), header.split("\t").index("Time")
        for line in lines:
            fields = line.split("\t")
            clicks[fields[session]].append(datetime.fromtimestamp(float(fields[time]), UTC))
    return {session: sorted(times) for session, times in clicks.items()}


def test_all_three_days_are_decided(serenade: Clicks, three_days: dict[date, Json]) -> None:
    assert {day: run["state"] for day, run in three_days.items()} == dict.fromkeys(DAYS, "success")


def test_ingested_rows_are_the_rows_of_the_files(serenade: Clicks, three_days: dict[date, Json], platform: Platform) -> None:
    per_day = Counter(time.date() for times in serenade.values() for time in times)
    ingested = {day: platform.returned(run["dag_run_id"], "ingest_clicks") for day, run in three_days.items()}
    assert {day: found["clicks"] for day, found in ingested.items()} == {day: per_day[day] for day in DAYS}
    assert ingested[DAYS[0]]["rows"] == sum(rows for day, rows in per_day.items() if day <= DAYS[0])
    assert [ingested[day]["rows"] for day in DAYS[1:]] == [per_day[day] for day in DAYS[1:]]
    assert all(found["rejected"] == 0 for found in ingested.values())
    rows = platform.sbr("runs", *(word for day in DAYS for word in ("--day", str(day))))["runs"]
    assert {row["day"]: row["clicks"] for row in rows} == {str(day): per_day[day] for day in DAYS}


def test_all_models_are_tested_on_the_events_of_the_day(
    serenade: Clicks, three_days: dict[date, Json], platform: Platform
) -> None:
    for day, run in three_days.items():
        scores = platform.returned(run["dag_run_id"], "evaluate_models")
        counted = {name: found["n_events"] for name, found in scores.items() if name != "day"}
        expected = _test_events(serenade, day)
        assert expected > 0
        assert counted == dict.fromkeys(counted, expected)
        assert len(counted) >= 3  # the challenger and two baselines


def test_a_champion_exists_and_recommends_in_a_new_process(
    serenade: Clicks, three_days: dict[date, Json], platform: Platform
) -> None:
    del serenade, three_days
    listed = platform.sbr("models")
    assert listed["champion"] in {model["version"] for model in listed["models"]}
    item = (SERENADE / "train.txt").read_text(encoding="utf-8").splitlines()[1].split("\t")[1]
    found = platform.sbr("recommend", "--session", item, "-k", "20")
    assert found["model_version"] == listed["champion"]
    assert len(set(found["items"])) == 20


def _test_events(clicks: Clicks, day: date) -> int:
    """Transitions onto a click of `day`, in sessions whose clicks within the window are two or more and end on `day`."""
    events = 0
    for times in clicks.values():
        inside = [time.date() for time in times if day - timedelta(days=29) <= time.date() <= day]
        if len(inside) >= 2 and inside[-1] == day:
            events += sum(target == day for target in inside[1:])
    return events
