"""Numbered logs: append-only records 1, 2, 3, ..., each created by exactly one writer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sbr_tasks.errors import AlreadyExistsError, DamagedError
from sbr_tasks.store.objects import Store
from sbr_tasks.store.records import Json

_ENTRY_KEY = re.compile(r"/\d{8}\.json$")
INCOMPLETE = "incomplete.json"
"""Lies beside the entries of a log while `sbr store copy` writes the store: nobody may read or extend that log."""


@dataclass(frozen=True)
class LogEntry:
    """Entry `number` (1, 2, ...) of a numbered log."""

    number: int
    body: Json


class NumberedLog:
    """Append-only JSON entries 1, 2, 3, ...; each number is created by exactly one writer."""

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    def entries(self) -> list[LogEntry]:
        """All entries, in order.

        Raises:
            DamagedError: An entry was deleted, or the store is a copy that isn't complete.
        """
        listed = self._store.stats(self._prefix)
        if f"{self._prefix}/{INCOMPLETE}" in listed:
            raise DamagedError(incomplete_copy(self._store))
        stats = [stat for stat in listed.values() if _ENTRY_KEY.search(stat.key)]
        for expected, stat in enumerate(stats, start=1):
            number = int(stat.key.rsplit("/", 1)[1].removesuffix(".json"))
            if number != expected:
                raise DamagedError(
                    f"The log {self._store.where(self._prefix)} has no entry {expected} but an entry {number}: "
                    "an entry was deleted; restore it from a backup."
                )
        bodies = self._store.get_entries(stats)
        return [LogEntry(number, body) for number, body in enumerate(bodies, start=1)]

    def create(self, number: int, body: Mapping[str, Any]) -> None:
        """Creates entry `number`.

        Raises:
            AlreadyExistsError: Another writer was first; nothing was changed.
        """
        self._store.create_record(entry_key(self._prefix, number), body)

    def append(self, build: Callable[[Sequence[LogEntry]], Mapping[str, Any] | None]) -> LogEntry | None:
        """Appends the entry that `build` makes of the entries so far, and asks it again whenever another writer was first.

        Returns:
            The new entry; None when `build` returned None, that is, nothing is left to append.
        """
        while True:
            entries = self.entries()
            body = build(entries)
            if body is None:
                return None
            number = len(entries) + 1
            try:
                self.create(number, body)
            except AlreadyExistsError:
                continue
            return LogEntry(number, dict(body))


def entry_key(prefix: str, number: int) -> str:
    """The key of an entry of the log `prefix`, or of another record below `prefix` that bears the number of an entry."""
    return f"{prefix}/{number:08d}.json"


def incomplete_copy(store: Store) -> str:
    """What is to be said of a store to which `sbr store copy` was cut off."""
    return (
        f"The store {store.url} is a copy that isn't complete: `sbr store copy` is at work, or was stopped. Run the same "
        "command again, it goes on from there."
    )
