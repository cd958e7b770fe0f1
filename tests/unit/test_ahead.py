from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from sbr_tasks.ahead import prefetch


def test_the_next_one_is_prepared_while_one_is_in_use_and_none_is_lost() -> None:
    prepared = [threading.Event() for _ in range(4)]

    def prepare() -> Iterator[int]:
        for number, event in enumerate(prepared, start=1):
            event.set()
            yield number

    found = []
    for chunk in prefetch(prepare()):
        assert all(event.wait(10) for event in prepared[: chunk + 1])
        found.append(chunk)
    assert found == [1, 2, 3, 4]


def test_a_failed_preparation_fails_whoever_waits_for_it() -> None:
    def prepare() -> Iterator[int]:
        yield 1
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        list(prefetch(prepare()))
