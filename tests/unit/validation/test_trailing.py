from __future__ import annotations

from typing import Any

import pytest

from sbr_tasks.settings import load_settings
from sbr_tasks.validation.trailing import Compared, compare_facts

SETTINGS = load_settings().validation


def one(fact: str, value: float, before: list[float], **others: Any) -> Compared:
    (found,) = compare_facts({fact: value, **others}, [{fact: earlier, **others} for earlier in before], SETTINGS)
    return found


def test_z_is_the_distance_from_the_median_in_median_deviations() -> None:
    found = one("one_click_sessions", 0.61, [0.2, 0.3, 0.32, 0.34, 0.5])
    assert found.z == pytest.approx((0.61 - 0.32) / (1.4826 * 0.02))
    assert (found.low, found.high) == pytest.approx((0.32 - 5 * 1.4826 * 0.02, 0.32 + 5 * 1.4826 * 0.02))
    assert found.sentence == (
        "61% of the sessions have one click; the previous 5 accepted days had a median of 32% (robust z 9.8, warning beyond ±5)"
    )


def test_hours_with_clicks_are_shown_as_hours() -> None:
    sentence = one("hours", 22, [24, 24, 23], hours_of_day=24).sentence
    assert sentence.startswith("Clicks in 22 of 24 hours; the previous 3 accepted days had a median of 24 (")


@pytest.mark.parametrize(
    ("fact", "value", "is_warned"),
    [
        ("clicks", 149, False),
        ("clicks", 151, True),
        ("clicks", 49, True),
        ("length_p50", 150, False),
        ("one_click_sessions", 100.04, False),
        ("one_click_sessions", 100.06, True),
        ("one_click_sessions", 99.94, True),
        ("top_item", 1, False),
        ("top_item", 100.06, True),
        ("new_items", 1, False),
        ("new_items", 100.06, True),
    ],
)
def test_constant_history_tolerates_what_is_small(fact: str, value: float, is_warned: bool) -> None:
    found = one(fact, value, [100] * 4)
    is_inside = (found.low is None or value >= found.low) and (found.high is None or value <= found.high)
    assert is_inside is not is_warned
    assert (found.z < -5 and found.low is not None) or (found.z > 5 and found.high is not None) or is_inside


def test_short_sessions_may_be_one_click_longer() -> None:
    assert one("length_p50", 2, [1, 1, 1]).z == 5
    assert one("length_p50", 3, [1, 1, 1]).z == 10


def test_weekends_that_a_history_has_widen_what_is_usual() -> None:
    found = one("clicks", 400, [1000, 1000, 300, 1000, 300, 600, 300])
    assert found.low is not None
    assert found.low < 300


def test_hours_are_compared_as_a_share_of_the_hours_that_the_day_has() -> None:
    (found,) = compare_facts({"hours": 23, "hours_of_day": 23}, [{"hours": 24, "hours_of_day": 24}] * 3, SETTINGS)
    assert (found.value, found.z, found.high) == (1.0, 0.0, None)
    assert one("hours", 21, [24] * 3, hours_of_day=24).z < -5


def test_too_few_days_before_compare_nothing() -> None:
    assert compare_facts({"clicks": 1}, [{"clicks": 100}] * 2, SETTINGS) == []
    assert compare_facts({"new_items": 0.5}, [{"new_items": None}] * 5, SETTINGS) == []
    assert compare_facts({"new_items": None}, [{"new_items": 0.1}] * 5, SETTINGS) == []


def test_history_of_nothing_divides_by_nothing() -> None:
    assert one("items", 0, [0, 0, 0]).z == 0
    assert compare_facts({}, [], SETTINGS) == []
