from __future__ import annotations

import numpy as np
import pytest

from sbr_tasks.window.sessions import UNKNOWN, Ids, ItemIndex, Sessions

INTEGERS, TEXTS = np.array([7, 10, 3], np.int64), np.array(["7", "10", "3"], dtype=object)


@pytest.mark.parametrize(("held", "asked"), [(INTEGERS, TEXTS), (TEXTS, INTEGERS), (INTEGERS, INTEGERS), (TEXTS, TEXTS)])
def test_ids_are_found_whatever_their_type(held: Ids, asked: Ids) -> None:
    index = ItemIndex(held, np.ones(3, np.int64))
    assert index.encode(asked[::-1]).tolist() == [2, 1, 0]
    assert index.encode(asked[:0]).tolist() == []


def test_texts_that_are_no_canonical_number_are_unknown_to_a_model_of_integers() -> None:
    index = ItemIndex(INTEGERS, np.ones(3, np.int64))
    texts = np.array(["007", "+7", "7.0", " 7", "x", "", "-1", "\u0667", str(2**63), "7" * 5000, "7"], dtype=object)
    assert index.encode(texts).tolist() == [UNKNOWN] * 10 + [0]


def test_ids_of_a_catalog_are_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = Sessions.of_ids(np.array([0, 2, 5]), np.array(["x", "7", "3", "3", "7"], dtype=object))
    index, looked_up, encode = ItemIndex(INTEGERS, np.ones(3, np.int64)), list[list[str]](), ItemIndex.encode
    monkeypatch.setattr(ItemIndex, "encode", lambda self, ids: looked_up.append(ids.tolist()) or encode(self, ids))
    assert index.codes_of(sessions).tolist() == [UNKNOWN, 0, 2, 2, 0]
    assert index.codes_of(sessions.take(np.array([1]))).tolist() == [2, 2, 0]
    assert looked_up == [["x", "7", "3"]]


def test_sessions_and_clicks_are_taken_with_all_their_columns() -> None:
    sessions = Sessions.of_ids(
        np.array([0, 2, 5]), np.array([9, 7, 3, 3, 7]), at_us=np.arange(5), is_target=np.arange(5) % 2 == 0
    )
    taken = sessions.take(np.array([1, 0]), np.array([2, 2]))
    assert (taken.offsets.tolist(), taken.item_ids.tolist()) == ([0, 2, 4], [3, 3, 9, 7])
    assert (taken.at_us.tolist(), taken.is_target.tolist()) == ([2, 3, 0, 1], [True, False, True, False])
    left = sessions.where_clicks(sessions.item_ids == 3)
    assert (left.offsets.tolist(), left.item_ids.tolist(), left.at_us.tolist()) == ([0, 0, 2], [3, 3], [2, 3])
    assert left.last_click_us.tolist() == [0, 3]
