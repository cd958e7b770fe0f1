from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbr_tasks.window.coded import Coder
from sbr_tasks.window.sessions import Sessions

Clicks = list[tuple[Any, Any, int]]


def table(clicks: Clicks, ids: pa.DataType, *, as_dictionary: bool = False) -> pa.Table:
    sessions, items, times = zip(*clicks, strict=True) if clicks else ((), (), ())
    of_ids = [pa.array(column, ids) for column in (sessions, items)]
    if as_dictionary:
        of_ids = [column.dictionary_encode() for column in of_ids]
    return pa.table([*of_ids, pa.array(times, pa.timestamp("us", tz="UTC"))], names=["session_id", "item_id", "clicked_at"])


def coded(*tables: pa.Table) -> Sessions:
    coder = Coder()
    for clicks in tables:
        coder.add(clicks)
    return coder.finish()


def rows(clicks: Sessions) -> Clicks:
    found = clicks.table(0, clicks.n_clicks)
    times = found.column("clicked_at").cast(pa.int64())
    return list(zip(found.column("session_id").to_pylist(), clicks.item_ids.tolist(), times.to_pylist(), strict=True))


small_clicks = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 8), st.integers(0, 100)), max_size=60)


@pytest.mark.parametrize("as_dictionary", [False, True])
@pytest.mark.parametrize("name", [int, "{:x}-item".format])
@given(clicks=small_clicks, cut=st.integers(0, 60))
def test_codes_stand_for_the_same_clicks_sorted_by_session_and_time(
    name: Callable[[int], Any], as_dictionary: bool, clicks: Clicks, cut: int
) -> None:
    ids = pa.int64() if name is int else pa.string()
    named = [(name(session), name(item), at) for session, item, at in clicks]
    tables = [table(part, ids, as_dictionary=as_dictionary and name is not int) for part in (named[:cut], named[cut:])]
    found = coded(*tables)
    assert rows(found) == sorted(named, key=lambda click: (click[0], click[2]))
    assert found.session_ids.to_pylist() == sorted({session for session, _, _ in named})
    assert found.catalog.ids.tolist() == sorted({item for _, item, _ in named})
    assert found.offsets[-1] == len(named)


def test_some_rows_can_be_had_as_a_table() -> None:
    found = coded(table([(1, 10, 0), (1, 11, 1), (2, 12, 2), (3, 13, 3)], pa.int64()))
    assert found.table(1, 3).select(["session_id", "item_code"]).to_pylist() == [
        {"session_id": 1, "item_code": 1},
        {"session_id": 2, "item_code": 2},
    ]
    assert len(found.table(0, 0)) == 0


def test_sessions_can_be_put_into_another_order() -> None:
    found = coded(table([(1, 10, 5), (1, 11, 6), (2, 12, 1), (3, 13, 2)], pa.int64()))
    taken = found.take(np.array([1, 0]))
    assert rows(taken) == [(2, 12, 1), (1, 10, 5), (1, 11, 6)]
    assert taken.offsets.tolist() == [0, 1, 3]
