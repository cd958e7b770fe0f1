"""The engine in memory against the Narwhals code, which is the measure."""

from __future__ import annotations

from typing import Any, Literal

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbr_tasks.window.cleanse import Counts, cleanse, counts_of, in_order, limit_length, split
from sbr_tasks.window.memory import (
    cleanse_coded,
    clicked_items,
    counts_of_coded,
    in_order_coded,
    limit_coded,
    split_coded,
)
from sbr_tasks.window.sessions import Sessions
from tests.unit.window.test_coded import Clicks, coded, rows, small_clicks, table


def of(clicks: Clicks) -> Sessions:
    return coded(table(clicks, pa.int64()))


def test_cleansing_continues_until_nothing_changes() -> None:
    # Item 3 has one click. Without it session 3 is short, without session 3 item 2 has one click, without it session 2 is.
    clicks = of([(1, 1, 0), (1, 1, 1), (2, 1, 2), (2, 2, 3), (3, 2, 4), (3, 3, 5)])
    kept, passes = cleanse_coded(clicks, shortest=2, least_click=2)
    assert rows(kept) == [(1, 1, 0), (1, 1, 1)]
    assert passes == [Counts(5, 3, 2), Counts(3, 2, 1), Counts(2, 1, 1), Counts(2, 1, 1)]


def test_cleansing_leaves_its_input_as_it_was() -> None:
    clicks = of([(1, 1, 0), (1, 2, 1), (2, 2, 2)])
    cleanse_coded(clicks, shortest=2, least_click=2)
    assert clicks.lengths.tolist() == [2, 1]
    assert rows(clicks) == [(1, 1, 0), (1, 2, 1), (2, 2, 2)]


def frame(clicks: Clicks) -> nw.DataFrame[Any]:
    table = pd.DataFrame(clicks, columns=["session", "item", "clicked_at"]).astype(np.int64)
    return nw.from_native(table.assign(place=range(len(clicks))), eager_only=True)


@pytest.mark.slow
@given(small_clicks, st.integers(2, 4), st.integers(1, 4))
def test_both_engines_keep_the_same_rows_in_the_same_order(clicks: Clicks, shortest: int, least_click: int) -> None:
    bounds = {"validation_start_us": 60, "test_start_us": 80}
    expected, parts = split(frame(clicks), **bounds), split_coded(of(clicks), **bounds)
    assert {name: counts_of_coded(part) for name, part in parts.items()} == {n: counts_of(p) for n, p in expected.items()}
    for name in ("train", "refit"):
        expected[name], expected_passes = cleanse(expected[name], shortest=shortest, least_click=least_click)
        parts[name], passes = cleanse_coded(parts[name], shortest=shortest, least_click=least_click)
        assert passes == expected_passes
        assert set(clicked_items(parts[name]).to_pylist()) == set(expected[name]["item"].to_list())
    assert {name: rows(in_order_coded(part)) for name, part in parts.items()} == {
        name: [tuple(row) for row in in_order(part).rows()] for name, part in expected.items()
    }


@given(small_clicks, st.integers(1, 5), st.sampled_from(["drop", "cut"]))
def test_both_engines_limit_sessions_alike(clicks: Clicks, longest: int, action: Literal["drop", "cut"]) -> None:
    expected, expected_loss = limit_length(frame(clicks), longest=longest, action=action)
    limited, loss = limit_coded(of(clicks), longest=longest, action=action)
    assert loss == expected_loss
    assert sorted(rows(limited)) == sorted(tuple(row) for row in expected.drop("place").rows())
