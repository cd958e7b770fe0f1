from __future__ import annotations

import pyarrow as pa
import pytest

from sbr_tasks.clicks.formats import click_schema
from sbr_tasks.clicks.sessions import cut_sessions
from sbr_tasks.errors import SourceError

MINUTE = 60_000_000


def clicks(users: list[object], minutes: list[float]) -> pa.Table:
    schema = click_schema("integer" if isinstance(users[0], int) else "string")
    items = [0 if isinstance(users[0], int) else "a"] * len(users)
    at = pa.array([round(m * MINUTE) for m in minutes]).cast(pa.timestamp("us", tz="UTC"))
    return pa.table([users, items, at, [""] * len(users)], schema=schema)


def test_a_longer_gap_starts_a_session_and_an_equal_one_does_not() -> None:
    cut = cut_sessions(clicks([7, 7, 7, 7], [0, 30, 60.1, 61]), 30)
    assert cut.column("session_id").to_pylist() == [7 << 32, 7 << 32, (7 << 32) + 3606, (7 << 32) + 3606]


def test_users_never_share_a_session_and_order_of_lines_does_not_matter() -> None:
    cut = cut_sessions(clicks(["b", "a", "b", "a"], [2, 1, 0, 0]), 30)
    assert cut.column("session_id").to_pylist() == ["a@0", "a@0", "b@0", "b@0"]


def test_session_id_does_not_depend_on_earlier_sessions() -> None:
    both = cut_sessions(clicks([7, 7], [0, 100]), 30).column("session_id").to_pylist()
    assert cut_sessions(clicks([7], [100]), 30).column("session_id").to_pylist() == both[1:]


def test_user_too_large_for_a_session_id_is_refused() -> None:
    with pytest.raises(SourceError, match=r"found the user 2147483648\. Set source\.id_type to 'string'"):
        cut_sessions(clicks([2**31], [0]), 30)
