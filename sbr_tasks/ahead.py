"""Prefetching: the next item is prepared in a thread while the current one is processed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetch(items: Iterator[T]) -> Iterator[T]:
    """Yields the same items in the same order, and prepares each in a background thread while the previous one is in use.

    What preparing an item raises is raised where that item would have come.

    Args:
        items: None of them may be None.
    """
    with ThreadPoolExecutor(1) as thread:
        upcoming = thread.submit(next, items, None)
        while (item := upcoming.result()) is not None:
            upcoming = thread.submit(next, items, None)
            yield item
