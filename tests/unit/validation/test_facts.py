from __future__ import annotations

from datetime import date

import pyarrow as pa
import pytest

from sbr_tasks.settings import load_settings
from sbr_tasks.validation.facts import Facts, distinct_items, measure, share_of_new
from tests.unit.days import Click, at

D = date(2020, 6, 3)


def table(clicks: list[Click]) -> pa.Table:
    sessions, items, times = zip(*clicks, strict=True)
    return pa.table({"session_id": sessions, "item_id": items, "clicked_at": pa.array(times, pa.timestamp("us", tz="UTC"))})


def test_facts_of_a_day_made_by_hand() -> None:
    clicks: list[Click] = [
        *((1, 7, at(D, 10 * i)) for i in range(3)),
        (2, 7, at(D, 3_599)),
        (3, 8, at(D, 3_600)),
        (4, 9, at(D, 86_399)),
        (None, 9, at(D, 5)),
        (4, None, at(D, 7)),
    ]
    assert measure(table(clicks), D, load_settings().zone) == Facts(
        clicks=8,
        sessions=4,
        items=3,
        one_click_sessions=0.5,
        length_p50=1,
        length_p99=3,
        length_p999=3,
        top_item=0.5,
        top_item_id="7",
        top_session=0.375,
        top_session_id="1",
        repeated=0.0,
        tied=0.0,
        hours=3,
        hours_of_day=24,
    )


def test_repeated_clicks_and_ties_are_distinguished() -> None:
    clicks: list[Click] = [(1, 7, at(D, 0)), (1, 7, at(D, 0)), (1, 8, at(D, 0)), (2, 7, at(D, 0)), (None, 7, at(D, 0))]
    facts = measure(table([*clicks, (None, 7, at(D, 0)), (1, None, at(D, 0)), (1, 8, at(D, 1))]), D, load_settings().zone)
    assert (facts.repeated, facts.tied) == (1 / 8, 1 / 8)


@pytest.mark.slow
def test_quantile_is_the_least_length_that_the_share_of_sessions_does_not_exceed() -> None:
    lengths = [1] * 990 + [2] * 9 + [50]
    clicks: list[Click] = [(s, 1, at(D, i)) for s, length in enumerate(lengths) for i in range(length)]
    facts = measure(table(clicks), D, load_settings().zone)
    assert (facts.length_p50, facts.length_p99, facts.length_p999) == (1, 1, 2)


def test_hours_of_days_on_which_clocks_change() -> None:
    zone = "Europe/Amsterdam"
    for day, hours in ((date(2020, 3, 29), 23), (date(2020, 10, 25), 25)):
        clicks: list[Click] = [(1, 1, at(day, 3_600 * hour, zone)) for hour in range(hours)]
        facts = measure(table(clicks), day, load_settings({"timezone": zone}).zone)
        assert (facts.hours, facts.hours_of_day) == (hours, hours)


def test_day_without_any_id_has_facts() -> None:
    ids = pa.array([None, None], pa.int64())
    clicks = pa.table({"session_id": ids, "item_id": ids, "clicked_at": pa.array([at(D, 1)] * 2, pa.timestamp("us", tz="UTC"))})
    facts = measure(clicks, D, load_settings().zone)
    assert (facts.clicks, facts.sessions, facts.items, facts.length_p999, facts.top_item) == (2, 0, 0, 0, 0.0)
    assert share_of_new(distinct_items(clicks), [pa.array([1, 2])]) == 0.0


def test_new_items_are_those_that_no_earlier_day_has() -> None:
    items = distinct_items(table([(1, item, at(D, 1)) for item in (5, 5, 4, 9, 1)]))
    assert items.to_pylist() == [1, 4, 5, 9]
    assert share_of_new(items, [pa.array([4, 6]), pa.array([9])]) == 0.5
    assert share_of_new(items, [pa.array(["4", "9"])]) == 1.0
