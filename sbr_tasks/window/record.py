"""The record of a published window: what it was built of, its parts and their files, and what cleansing did."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Literal

from sbr_tasks.settings import WindowSettings
from sbr_tasks.store import FileRecord, Record, Store, kinds
from sbr_tasks.window.cleanse import Counts, TooLong

PARTS = ("train", "validation", "test")


class WindowRules(Record):
    """The settings that a window's content depends on.

    Attributes:
        longest_action: None where sessions may be of any length.
    """

    days: int
    cleanse: Literal["training", "window"]
    shortest: int
    least_click: int
    longest: int | None
    longest_action: Literal["drop", "cut"] | None

    @classmethod
    def of(cls, settings: WindowSettings) -> WindowRules:
        """Those of the settings that count."""
        rules = cls.model_validate(settings.model_dump(include=set(cls.model_fields)))
        return rules if rules.longest is not None else rules.model_copy(update={"longest_action": None})


class WindowInputs(Record):
    """What a window is built of; the window's fingerprint stands for it.

    Attributes:
        day: The day it ends with.
        revisions: The revision of each of its days' clicks.
        window: How it is cut and cleansed.
        timezone: Zone whose midnights separate its days.
        code: Version of the code that builds windows.
    """

    day: date
    revisions: Mapping[date, str]
    window: WindowRules
    timezone: str
    code: str


class PartRecord(Record):
    """One part: counts, the times (ISO-8601) of its first and last click if it has any, and its Parquet file."""

    clicks: int
    events: int
    sessions: int
    items: int
    first: str | None
    last: str | None
    file: FileRecord


class LevelRecord(Record):
    """What cleansing leaves with one value of `least_click`, and how many clicks of the test day are on these items."""

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
        fingerprint: Stands for its inputs.
        inputs: Revisions, settings and code.
        validation_day: The day that chooses the best epoch: the newest one before `day` with accepted clicks.
        missing_days: Days without accepted clicks.
        clicks: Accepted clicks of its days, before cleansing.
        cleansing: What cleansing did.
        parts: Counts and files, by the names of `PARTS`.
        items: The Parquet file of the item index.
        n_items: Items of the index.
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
        """The day it ends with."""
        return self.inputs.day

    @property
    def part_clicks(self) -> int:
        """Clicks of all parts."""
        return sum(part.clicks for part in self.parts.values())


def load_window(store: Store, day: date, key: str) -> Window:
    """The published window with that fingerprint.

    Raises:
        StoreError: There is no such window.
    """
    return store.get_record(kinds.WINDOW.key(day=day, window=key), Window)


def window_record(store: Store, day: date, key: str) -> Window:
    """The record of a window, also of one whose files were removed: what its log entry tells of.

    Raises:
        StoreError: There is no such window, and never was.
    """
    removed = kinds.REMOVED_WINDOW.key(day=day, window=key)
    if not store.exists(kinds.WINDOW.key(day=day, window=key)) and store.exists(removed):
        return store.get_record(removed, Window)
    return load_window(store, day, key)
