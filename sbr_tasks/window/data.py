"""The content of windows: sessions and items, read on first use."""

from __future__ import annotations

from collections.abc import Callable
from datetime import tzinfo
from functools import cache, cached_property

import numpy as np
import pyarrow as pa

from sbr_tasks.clicks.columns import Columns
from sbr_tasks.days import day_interval_us
from sbr_tasks.store import Store
from sbr_tasks.window.record import Window
from sbr_tasks.window.sessions import Catalog, ItemIndex, Sessions, to_sessions

_ROWS_AT_ONCE = 4096


class WindowData:
    """The sessions of a window's parts, and the indexes of the items that are trained on; each is read on first use.

    Example:
        data = read_window(store, window, settings.zone)
        trained = train(data.train, data.index, data.validation, ...)
    """

    def __init__(self, read_part: Callable[[str], Sessions], read_index: Callable[[], ItemIndex]) -> None:
        """
        Args:
            read_part: Returns the sessions of one of `record.PARTS`.
            read_index: Returns the item index.
        """
        self._read_part = read_part
        self._read_index = read_index

    @cached_property
    def train(self) -> Sessions:
        """The sessions to train on."""
        return self._read_part("train")

    @cached_property
    def validation(self) -> Sessions:
        """The sessions that choose the best epoch."""
        return self._read_part("validation")

    @cached_property
    def test(self) -> Sessions:
        """The sessions that models are compared on."""
        return self._read_part("test")

    @cached_property
    def refit(self) -> Sessions:
        """The clicks before the test day, training and validation together, to train the compared model on once more."""
        return self._read_part("refit")

    @cached_property
    def index(self) -> ItemIndex:
        """The items of the training clicks."""
        return self._read_index()

    @cached_property
    def refit_index(self) -> ItemIndex:
        """The items of the clicks of `refit`."""
        return ItemIndex.of_sessions(self.refit)


def read_window(store: Store, window: Window, zone: tzinfo) -> WindowData:
    """A window's sessions and item index, verified against its record as they are read."""
    items = cache(lambda: items_of(store.read_table(window.items)))
    return WindowData(lambda name: _read_part(store, window, zone, name, items()[0]), lambda: items()[1])


def _read_part(store: Store, window: Window, zone: tzinfo, name: str, catalog: Catalog) -> Sessions:
    """The sessions of a part; only clicks of its day may be targets in validation and test."""
    day = {"validation": window.validation_day, "test": window.day}.get(name)
    clicks = store.read_table(window.parts[name].file)
    return to_sessions(clicks, catalog, day_interval_us(day, zone) if day else None)


def first_sessions(store: Store, window: Window, name: str, n: int) -> list[list[int | str]]:
    """The items of the first `n` sessions of a part, verified; decodes only the rows that this needs."""
    sessions: dict[int | str, list[int]] = {}
    batches = store.read_batches(window.parts[name].file, (Columns.SESSION, Columns.CODE), _ROWS_AT_ONCE)
    rows = (row for batch in batches for row in zip(*(column.to_pylist() for column in batch.columns), strict=True))
    for session, code in rows:
        if session not in sessions and len(sessions) == n:
            break
        sessions.setdefault(session, []).append(code)
    ids = store.read_table(window.items, [Columns.ITEM]).column(Columns.ITEM)
    return [ids.take(pa.array(codes)).to_pylist() for codes in sessions.values()]


def items_of(items: pa.Table) -> tuple[Catalog, ItemIndex]:
    """The catalog of a table of items and their falling support, and the index of those that have any."""
    catalog, support = Catalog(items.column(Columns.ITEM).combine_chunks()), items.column("support").to_numpy()
    n_items = np.count_nonzero(support)
    return catalog, ItemIndex(catalog.ids[:n_items], support[:n_items])
