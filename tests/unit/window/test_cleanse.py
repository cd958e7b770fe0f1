from __future__ import annotations

import narwhals as nw
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbr_tasks.window.cleanse import Counts, TooLong, cleanse, cleanse_by_levels, counts_of, in_order, limit_length, split

Clicks = list[tuple[int, int, int]]


def frame(clicks: Clicks) -> nw.DataFrame[pd.DataFrame]:
    table = pd.DataFrame(clicks, columns=["session", "item", "clicked_at"])
    return nw.from_native(table.assign(place=range(len(clicks))), eager_only=True)


def rows(part: nw.DataFrame[pd.DataFrame]) -> Clicks:
    return [tuple(row) for row in part.select("session", "item", "clicked_at").rows()]  # type: ignore[misc]


def test_cleansing_continues_until_nothing_changes() -> None:
    # Item 3 has one click. Without it session 3 is short, without session 3 item 2 has one click, without it session 2 is.
    clicks = [(1, 1, 0), (1, 1, 1), (2, 1, 2), (2, 2, 3), (3, 2, 4), (3, 3, 5)]
    kept, passes = cleanse(frame(clicks), shortest=2, least_click=2)
    assert rows(kept) == [(1, 1, 0), (1, 1, 1)]
    assert passes == [Counts(5, 3, 2), Counts(3, 2, 1), Counts(2, 1, 1), Counts(2, 1, 1)]


def test_cleansing_may_leave_nothing() -> None:
    kept, passes = cleanse(frame([(1, 1, 0), (1, 2, 1)]), shortest=2, least_click=2)
    assert rows(kept) == []
    assert passes[-1] == Counts(0, 0, 0)


LONG = [(1, 9, 5), (1, 8, 3), (1, 7, 5), (2, 1, 1), (2, 2, 2), (1, 6, 4)]


def test_sessions_longer_than_allowed_are_dropped() -> None:
    kept, too_long = limit_length(frame(LONG), longest=3, action="drop")
    assert rows(kept) == [(2, 1, 1), (2, 2, 2)]
    assert too_long == TooLong(sessions=1, clicks_lost=4)


def test_sessions_longer_than_allowed_are_cut_to_their_first_clicks() -> None:
    kept, too_long = limit_length(frame(LONG), longest=3, action="cut")
    assert sorted(rows(kept)) == [(1, 6, 4), (1, 8, 3), (1, 9, 5), (2, 1, 1), (2, 2, 2)]
    assert too_long == TooLong(sessions=1, clicks_lost=1)


def test_session_of_just_the_allowed_length_stays_whole() -> None:
    kept, too_long = limit_length(frame(LONG), longest=4, action="drop")
    assert (sorted(rows(kept)), too_long) == (sorted(LONG), TooLong(0, 0))


clicks_of_a_shop = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 8), st.integers(0, 100)), max_size=60)


@given(clicks_of_a_shop, st.integers(2, 4), st.integers(1, 4))
def test_cleansing_is_a_fixed_point_and_the_largest_one(clicks: Clicks, shortest: int, least_click: int) -> None:
    kept = rows(cleanse(frame(clicks), shortest=shortest, least_click=least_click)[0])
    assert rows(cleanse(frame(kept), shortest=shortest, least_click=least_click)[0]) == kept
    left = list(clicks)
    while True:  # one offending row's group at a time, items first: the same set in the end
        sessions = [session for session, _, _ in left]
        items = [item for _, item, _ in left]
        next_left = [c for c in left if items.count(c[1]) >= least_click and sessions.count(c[0]) >= shortest]
        if next_left == left:
            break
        left = next_left
    assert sorted(kept) == sorted(left)


@pytest.mark.slow
@given(clicks_of_a_shop, st.integers(1, 5))
def test_levels_one_after_another_keep_what_each_alone_keeps(clicks: Clicks, least_click: int) -> None:
    def of_level(left: nw.DataFrame[pd.DataFrame], level: int) -> tuple[nw.DataFrame[pd.DataFrame], list[Counts]]:
        return cleanse(left, shortest=2, least_click=level)

    def items_of(left: nw.DataFrame[pd.DataFrame]) -> pa.Array:
        return pa.array(left["item"].unique().to_list(), pa.int64())

    kept, _, levels = cleanse_by_levels(frame(clicks), range(1, least_click + 1), of_level, items_of)
    assert rows(kept) == rows(of_level(frame(clicks), least_click)[0])
    for number, level in enumerate(levels, 1):
        alone = rows(of_level(frame(clicks), number)[0])
        assert (level.least_click, level.clicks) == (number, len(alone))
        assert set(level.items.to_pylist()) == {item for _, item, _ in alone}


BOUNDS = {"validation_start_us": 60, "test_start_us": 80}


def split_rows(clicks: Clicks) -> dict[str, Clicks]:
    return {name: sorted(rows(part)) for name, part in split(frame(clicks), **BOUNDS).items()}


@given(clicks_of_a_shop)
def test_each_part_sees_sessions_as_they_were_when_its_days_were_over(clicks: Clicks) -> None:
    parts = split_rows(clicks)
    for name, start, end in (("train", 0, 60), ("validation", 60, 80), ("test", 80, 101)):
        so_far = [click for click in clicks if click[2] < end]
        for session in {session for session, _, _ in clicks}:
            seen = sorted(click for click in so_far if click[0] == session)
            is_in = len(seen) >= 2 and any(at >= start for _, _, at in seen)
            assert [click for click in parts[name] if click[0] == session] == (seen if is_in else [])


@given(clicks_of_a_shop)
def test_refit_has_the_clicks_before_the_test_day(clicks: Clicks) -> None:
    before_test = [click for click in clicks if click[2] < 80]
    sessions = [session for session, _, _ in before_test]
    assert split_rows(clicks)["refit"] == sorted(click for click in before_test if sessions.count(click[0]) >= 2)


@pytest.mark.slow
@given(clicks_of_a_shop, clicks_of_a_shop)
def test_clicks_of_later_days_change_no_earlier_part(clicks: Clicks, others: Clicks) -> None:
    before = split_rows(clicks)
    for start, unchanged in ((80, ("train", "validation", "refit")), (60, ("train",))):
        replaced = [c for c in clicks if c[2] < start] + [(s, i, at) for s, i, at in others if at >= start]
        after = split_rows(replaced)
        assert {name: after[name] for name in unchanged} == {name: before[name] for name in unchanged}


def test_counts_are_of_clicks_sessions_and_items() -> None:
    assert counts_of(frame([(5, 1, 9), (5, 2, 3), (2, 1, 4)])) == Counts(3, 2, 2)


def test_sessions_follow_each_other_by_first_click_and_clicks_by_time() -> None:
    clicks = [(5, 1, 9), (5, 2, 3), (2, 9, 4), (2, 8, 4), (7, 1, 3)]
    assert rows(in_order(frame(clicks))) == [(5, 2, 3), (5, 1, 9), (7, 1, 3), (2, 9, 4), (2, 8, 4)]


@given(clicks_of_a_shop, st.integers(1, 5))
def test_cut_keeps_the_first_clicks_of_every_session(clicks: Clicks, longest: int) -> None:
    kept, too_long = limit_length(frame(clicks), longest=longest, action="cut")
    expected: Clicks = []
    for session in {session for session, _, _ in clicks}:
        expected += sorted((c for c in clicks if c[0] == session), key=lambda c: c[2])[:longest]
    assert sorted(rows(kept)) == sorted(expected)
    assert too_long.clicks_lost == len(clicks) - len(expected)
