"""What the soak refuses."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from benchmarks.soak_checks import MB, Sample, decision_faults, disk_faults, memory_faults, retention_faults

DAYS = [date(2014, 9, 1) + timedelta(days=n) for n in range(14)]


def samples(*, memory: list[int] | None = None, disk: list[int] | None = None) -> list[Sample]:
    """Fourteen days, in megabytes."""
    memory, disk = memory or [400] * 14, disk or [10 * n for n in range(1, 15)]
    return [Sample({"scheduler": m * MB, "worker": 300 * MB}, {"store": d * MB}) for m, d in zip(memory, disk, strict=True)]


START = Sample({}, {"store": 0})


def test_one_decision_a_day_is_as_it_should_be() -> None:
    assert decision_faults(DAYS[::-1], DAYS) == []


def test_a_day_that_is_decided_twice_is_named() -> None:
    [fault] = decision_faults([*DAYS, DAYS[4]], DAYS)
    assert fault.startswith("2014-09-05 has 2 decisions")


def test_a_day_without_a_decision_is_named() -> None:
    [fault] = decision_faults(DAYS[:3] + DAYS[4:], DAYS)
    assert fault.startswith("2014-09-04 has no decision")


def test_a_decision_on_a_day_that_was_not_run_is_named() -> None:
    [fault] = decision_faults(DAYS, DAYS[:-1])
    assert fault.startswith("2014-09-14 has a decision in the promotion log, but was not run")


def test_clicks_that_no_kept_run_needs_are_named() -> None:
    assert retention_faults(DAYS[-8:], DAYS[-1], most=8) == []
    [fault] = retention_faults(DAYS[-10:], DAYS[-1], most=8)
    assert fault.startswith("After store_upkeep of 2014-09-14 clicks of 8 days may be held; those of 2014-09-05 still are")


def test_a_service_that_grows_day_by_day_is_named() -> None:
    [fault] = memory_faults(samples(memory=[400 + 20 * n for n in range(14)]))
    assert fault.startswith("scheduler grew from 560 to 640 MB")


@pytest.mark.parametrize(
    "memory",
    [
        [200, 300, 400, 450, 480, 490, *[500] * 8],  # caches that fill in the first week
        [400] * 10 + [900] + [400] * 3,  # one high sample
        [400 - 10 * n for n in range(14)],
        [400 + 5 * n for n in range(14)],  # within what is allowed
    ],
)
def test_memory_that_settles_is_bounded(memory: list[int]) -> None:
    assert memory_faults(samples(memory=memory)) == []


def test_a_small_service_may_grow_by_a_few_megabytes() -> None:
    assert memory_faults(samples(memory=[10] * 7 + [11, 12, 13, 20, 30, 31, 32])) == []


def test_files_that_grow_faster_in_the_second_week_are_named() -> None:
    [fault] = disk_faults(START, samples(disk=[n * n for n in range(1, 15)]))
    assert fault == (
        "store grew by 147.0 MB in the second week and by 49.0 MB in the first; "
        "at most 1.25 times that and 4 MB more are allowed."
    )


def test_files_that_grow_evenly_or_shrink_are_bounded() -> None:
    assert disk_faults(START, samples()) == []
    assert disk_faults(START, samples(disk=[10, 20, 30, 40, 50, 60, 20, 30, 40, 50, 60, 70, 80, 20])) == []


def test_less_than_a_week_says_nothing_of_growth() -> None:
    few = samples(memory=[400 * (n + 1) for n in range(14)], disk=[n**3 for n in range(14)])[:6]
    assert (memory_faults(few), disk_faults(START, few)) == ([], [])
