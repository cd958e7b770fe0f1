from __future__ import annotations

import numpy as np
import pytest

from sbr_tasks.window.sessions import UNKNOWN, Ids, ItemIndex

INTEGERS, TEXTS = np.array([7, 10, 3], np.int64), np.array(["7", "10", "3"], dtype=object)


@pytest.mark.parametrize(("held", "asked"), [(INTEGERS, TEXTS), (TEXTS, INTEGERS), (INTEGERS, INTEGERS), (TEXTS, TEXTS)])
def test_ids_are_found_whatever_their_type(held: Ids, asked: Ids) -> None:
    index = ItemIndex(held, np.ones(3, np.int64))
    assert index.encode(asked[::-1]).tolist() == [2, 1, 0]
    assert index.encode(asked[:0]).tolist() == []


def test_texts_that_are_no_canonical_number_are_unknown_to_a_model_of_integers() -> None:
    index = ItemIndex(INTEGERS, np.ones(3, np.int64))
    texts = np.array(["007", "+7", "7.0", " 7", "x", "7"], dtype=object)
    assert index.encode(texts).tolist() == [UNKNOWN] * 5 + [0]
