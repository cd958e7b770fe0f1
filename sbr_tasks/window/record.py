"""The record of a published window: its inputs, its parts and their files, and what cleansing removed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Literal

from sbr_tasks.settings import WindowSettings
from sbr_tasks.store import FileRecord, Record, Store, kinds
from sbr_tasks.window.cleanse import Counts, TooLong

PARTS = ("train", "validation", "test", "refit")
"""Sessions to train on, to choose the best epoch, to compare models on, and to train the compared model on once more.

refit: clicks before the test day, training and validation together, cleansed like `train`.
"""


class WindowRules(Record):
    """The settings that the content of a window depends on.

    Attributes:
        longest_action: None if the length of sessions isn't limited.
    """

    days: int
    cleanse: Literal["training", "window"]
    shortest: int
    least_click: int
    longest: int | None
    longest_action: Literal["drop", "cut"] | None

    @classmethod
    def of(cls, settings: WindowSettings) -> WindowRules:
        """The rules of some settings."""
        rules = cls.model_validate(settings.model_dump(include=set(cls.model_fields)))
        return rules if rules.longest is not None else rules.model_copy(update={"longest_action": None})


class WindowInputs(Record):
    """The inputs of a window, which its fingerprint identifies.

    Attributes:
        day: The last day.
        revisions: The revision of each day's clicks.
        window: The settings.
        timezone: Zone whose midnights separate days.
        code: Version of the code that builds windows.
    """

    day: date
    revisions: Mapping[date, str]
    window: WindowRules
    timezone: str
    code: str


class PartRecord(Record):
    """One part: counts, the times (ISO-8601) of its first and last click (None without clicks), and its Parquet file."""

    clicks: int
    events: int
    sessions: int
    items: int
    first: str | None
    last: str | None
    file: FileRecord


class LevelRecord(Record):
    """What cleansing keeps with one value of `least_click`, and how many clicks of the test part are on these items."""

    least_click: int
    clicks: int
    items: int
    test_clicks: int


class CleansingRecord(Record):
    """What cleansing did; see `parts.Cleansing`."""

    before: Counts
    too_long: TooLong | None
    passes: tuple[Counts, ...]
    fair_items: int | None
    levels: tuple[LevelRecord, ...]


class Window(Record):
    """A published window.

    Attributes:
        fingerprint: Identifies the inputs.
        inputs: Revisions, settings and code.
        validation_day: The day that chooses the best epoch: the newest one before `day` with accepted clicks.
        missing_days: Days without accepted clicks.
        clicks: Accepted clicks of all days, before cleansing.
        cleansing: What cleansing removed of `train`, or of the whole window.
        parts: Counts and files, by the names in `PARTS`.
        items: The Parquet file of the item index.
        n_items: Number of items in the index.
    """

    fingerprint: str
    inputs: WindowInputs
    validation_day: date
    missing_days: tuple[date, ...]
    clicks: int
    cleansing: CleansingRecord
    parts: Mapping[str, PartRecord]
    items: FileRecord
    n_items: int

    @property
    def day(self) -> date:
        """The last day."""
        return self.inputs.day

    @property
    def part_clicks(self) -> int:
        """Total clicks of train, validation and test; `refit` has mostly the same ones."""
        return sum(part.clicks for name, part in self.parts.items() if name != "refit")


def load_window(store: Store, day: date, key: str) -> Window:
    """The record of the published window with the fingerprint `key`.

    Raises:
        StoreError: There is no such window.
    """
    return store.get_record(kinds.WINDOW.key(day=day, window=key), Window)


def window_record(store: Store, day: date, key: str) -> Window:
    """Like `load_window`, but also returns the record of a window whose files were removed.

    Raises:
        StoreError: There never was such a window.
    """
    removed = kinds.REMOVED_WINDOW.key(day=day, window=key)
    if not store.exists(kinds.WINDOW.key(day=day, window=key)) and store.exists(removed):
        return store.get_record(removed, Window)
    return load_window(store, day, key)
