from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbr_tasks.days import (
    as_intervals,
    day_in_words,
    day_interval_us,
    day_numbers,
    days_between,
    days_of_intervals,
    describe_days,
    from_us,
    number_to_day,
    parse_day,
    resolve_day,
    window_days,
)
from sbr_tasks.errors import DayError

AMSTERDAM = ZoneInfo("Europe/Amsterdam")


@pytest.mark.parametrize("run_type", ["scheduled", "backfill"])
def test_run_with_interval_is_for_the_day_where_its_interval_starts(run_type: str) -> None:
    start = datetime(2026, 11, 23, tzinfo=UTC)
    assert resolve_day(day=None, run_type=run_type, interval_start=start, zone=UTC) == date(2026, 11, 23)


def test_interval_start_is_read_in_the_zone_of_the_shop() -> None:
    midnight_in_amsterdam = datetime(2026, 11, 22, 23, tzinfo=UTC)
    assert resolve_day(day=None, run_type="scheduled", interval_start=midnight_in_amsterdam, zone=AMSTERDAM) == date(
        2026, 11, 23
    )


def test_day_parameter_wins_over_the_interval() -> None:
    start = datetime(2026, 11, 23, tzinfo=UTC)
    assert resolve_day(day="2020-06-30", run_type="manual", interval_start=start, zone=UTC) == date(2020, 6, 30)


def test_backfill_that_was_given_one_day_for_all_its_runs_is_refused() -> None:
    start = datetime(2026, 11, 23, tzinfo=UTC)
    assert resolve_day(day="2026-11-23", run_type="backfill", interval_start=start, zone=UTC) == date(2026, 11, 23)
    with pytest.raises(DayError) as caught:
        resolve_day(day="2020-06-30", run_type="backfill", interval_start=start, zone=UTC)
    assert str(caught.value) == (
        "This run of a backfill is for 2026-11-23, but its parameter 'day' says 2020-06-30, for which all its runs would then "
        "train. Start the backfill again with 'day' empty and 'Override parameters on existing runs' (--dag-run-conf) set."
    )


def test_manual_run_without_day_is_refused_even_with_an_interval() -> None:
    with pytest.raises(DayError) as caught:
        resolve_day(day=None, run_type="manual", interval_start=datetime(2026, 11, 23, tzinfo=UTC), zone=UTC)
    assert str(caught.value) == (
        "A manual run needs the parameter 'day' (YYYY-MM-DD): the day whose clicks are new. "
        'It was not given; trigger the DAG again with, for example, {"day": "2020-06-30"}.'
    )


@pytest.mark.parametrize("text", ["30-06-2020", "2020-6-30", "2020-02-30", "20200630", "yesterday", "2020-06-30T00:00"])
def test_malformed_day_is_refused(text: str) -> None:
    with pytest.raises(DayError) as caught:
        parse_day(text)
    assert str(caught.value) == f"Expected a day as YYYY-MM-DD, such as 2020-06-30; found {text!r}."


def test_window_ends_with_its_day() -> None:
    assert window_days(date(2020, 3, 1), 3) == [date(2020, 2, 28), date(2020, 2, 29), date(2020, 3, 1)]


@pytest.mark.parametrize(("day", "hours"), [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25), (date(2026, 6, 1), 24)])
def test_a_day_ends_where_the_next_one_starts(day: date, hours: int) -> None:
    start, end = day_interval_us(day, AMSTERDAM)
    assert end - start == hours * 3_600_000_000


@given(st.lists(st.integers(0, 2_000_000_000_000_000), min_size=1, max_size=20), st.sampled_from([UTC, AMSTERDAM]))
def test_day_of_an_instant_is_the_one_whose_interval_holds_it(instants: list[int], zone: ZoneInfo) -> None:
    for us, number in zip(instants, day_numbers(np.array(instants), zone), strict=True):
        assert number_to_day(number) == from_us(us).astimezone(zone).date()
        start, end = day_interval_us(number_to_day(number), zone)
        assert start <= us < end


def test_day_numbers_of_nothing_is_nothing() -> None:
    assert day_numbers(np.empty(0, np.int64), UTC).tolist() == []


def test_days_are_described_by_runs() -> None:
    days = [*days_between(date(2020, 6, 1), date(2020, 6, 3)), date(2020, 6, 7)]
    assert describe_days(days) == "2020-06-01 to 2020-06-03, 2020-06-07"
    assert describe_days(days, most=1) == "2020-06-01 to 2020-06-03 and 1 more days"


def test_day_in_a_sentence_is_written_out() -> None:
    assert day_in_words(date(2020, 6, 3)) == "3 June 2020"


def test_intervals_stand_for_the_days_that_they_were_made_of() -> None:
    days = [date(2001, 1, 1), *days_between(date(2019, 12, 30), date(2020, 1, 2)), date(2020, 1, 4)]
    assert as_intervals(reversed(days)) == ["2001-01-01", "2019-12-30/2020-01-02", "2020-01-04"]
    assert list(days_of_intervals(as_intervals(days))) == days
    assert as_intervals([]) == list(days_of_intervals([])) == []
