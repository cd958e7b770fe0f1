from __future__ import annotations

from pathlib import Path

import pytest

from sbr_tasks.errors import DamagedError
from sbr_tasks.store import Store
from sbr_tasks.window import data as data_module
from sbr_tasks.window.build import window_for_day
from sbr_tasks.window.data import first_sessions, read_window
from tests.unit.window.test_build import D, shop, stored


def test_only_parts_that_are_used_are_read_and_verified(tmp_path: Path) -> None:
    store, settings = stored(tmp_path, shop())
    window = window_for_day(store, settings, D)
    Path(tmp_path / "store" / window.parts["train"].file.key).write_bytes(b"damaged")
    data = read_window(Store(store.url), window, settings.zone)
    assert (data.test.n_sessions, len(data.index)) == (window.parts["test"].sessions, window.n_items)
    assert data.test is data.test
    with pytest.raises(DamagedError):
        _ = data.train


@pytest.mark.parametrize("rows_at_once", [1, 2, 100])
def test_first_sessions_are_those_of_the_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_at_once: int) -> None:
    monkeypatch.setattr(data_module, "_ROWS_AT_ONCE", rows_at_once)
    store, settings = stored(tmp_path, shop())
    window = window_for_day(store, settings, D)
    test = read_window(store, window, settings.zone).test
    sessions = [test.item_ids[test.offsets[i] : test.offsets[i + 1]].tolist() for i in range(test.n_sessions)]
    assert len(sessions) == 2
    assert [first_sessions(store, window, "test", n) for n in range(4)] == [sessions[:n] for n in range(4)]
