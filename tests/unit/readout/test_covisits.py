"""Counting co-visits."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from sbr_tasks.errors import RegistryError
from sbr_tasks.readout import CoVisits, count_covisits, covisits
from sbr_tasks.window.sessions import ItemIndex, Sessions

DAY_US = 24 * 60 * 60 * 1_000_000


def as_matrix(counted: CoVisits, index: ItemIndex) -> np.ndarray:
    matrix = np.zeros((len(index), len(index)))
    np.add.at(matrix, (np.arange(len(index))[:, None], counted.neighbours), counted.weights)
    return matrix


def by_hand(sessions: list[tuple[float, list[int]]], support: np.ndarray) -> np.ndarray:
    """The definition, pair by pair; sessions are ages in days and items."""
    counts = np.zeros((len(support), len(support)))
    for age, items in sessions:
        for i, first in enumerate(items):
            for j, second in enumerate(items):
                if first != second and 0 < abs(i - j) <= 10:
                    counts[first, second] += math.exp(-(abs(i - j) - 1) / 3) * math.exp(-age / 30)
    counts /= support**0.3
    total = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, np.sqrt(total), out=np.zeros_like(counts), where=total > 0)


def test_counts_equal_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    clicks = [
        (float(age), rng.integers(0, 12, length).tolist()) for age, length in zip(range(9), rng.integers(2, 25, 9), strict=True)
    ]
    items = np.concatenate([session for _, session in clicks])
    lengths = [len(session) for _, session in clicks]
    at_us = np.repeat([int((100 - age) * DAY_US) for age, _ in clicks], lengths)
    sessions = Sessions.of_ids(np.concatenate([[0], np.cumsum(lengths)]), items + 100, at_us=at_us)
    support = np.bincount(items, minlength=13)
    index = ItemIndex(np.arange(13) + 100, support)
    expected = by_hand(clicks, np.maximum(1, support))
    np.testing.assert_allclose(as_matrix(count_covisits(sessions, index), index), expected, rtol=1e-5)
    monkeypatch.setattr(covisits, "_PAIRS_AT_ONCE", 100)  # several blocks of sessions
    np.testing.assert_allclose(as_matrix(count_covisits(sessions, index), index), expected, rtol=1e-5)


def test_only_the_heaviest_neighbours_are_kept(sessions_of: Callable[..., Sessions], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(covisits, "MAX_NEIGHBOURS", 2)
    sessions = sessions_of([[1, 2], [1, 2], [1, 2], [1, 3], [1, 3], [1, 4]])
    index = ItemIndex(np.array([1, 2, 3, 4]), np.ones(4, np.int64))
    counted = count_covisits(sessions, index)
    assert counted.neighbours.shape == (4, 2)
    assert counted.neighbours[0].tolist() == [1, 2]
    assert (np.diff(counted.weights, axis=1) < 0).all()


def test_items_that_are_not_in_the_index_are_ignored(sessions_of: Callable[..., Sessions]) -> None:
    index = ItemIndex(np.array([1, 2]), np.array([1, 1]))
    counted = count_covisits(sessions_of([[1, 9, 2], [9, 8]]), index)
    assert as_matrix(counted, index)[0, 1] == pytest.approx(math.exp(-1 / 3) ** 0.5)


def test_no_sessions_give_no_neighbours(sessions_of: Callable[..., Sessions]) -> None:
    counted = count_covisits(sessions_of([]), ItemIndex(np.array([1, 2]), np.array([1, 1])))
    assert counted.neighbours.shape == (2, 0)


def test_files_are_read_back_and_damage_is_reported(sessions_of: Callable[..., Sessions]) -> None:
    counted = count_covisits(sessions_of([[1, 2, 3]]), ItemIndex(np.array([1, 2, 3]), np.ones(3, np.int64)))
    data = counted.to_bytes()
    assert data == counted.to_bytes()
    read = CoVisits.from_bytes(data)
    np.testing.assert_array_equal(read.neighbours, counted.neighbours)
    np.testing.assert_array_equal(read.weights, counted.weights)
    with pytest.raises(RegistryError, match="co-visits of a model are damaged"):
        CoVisits.from_bytes(data[:50])
