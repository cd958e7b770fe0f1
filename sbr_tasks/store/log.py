"""Numbered logs: append-only records 1, 2, 3, ..., each created by exactly one writer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sbr_tasks.errors import AlreadyExistsError, DamagedError
from sbr_tasks.store.kinds import Kind
from sbr_tasks.store.objects import Store
from sbr_tasks.store.records import Json, Record

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=Record | None)

INCOMPLETE = "incomplete.json"
"""Marks a log that `sbr store copy` is still writing: it must not be read or extended."""


@dataclass(frozen=True)
class LogEntry:
    """Entry `number` (1, 2, ...) of a numbered log."""

    number: int
    body: Json


class NumberedLog:
    """Append-only JSON entries 1, 2, 3, ...; each number is created by exactly one writer."""

    def __init__(self, store: Store, kind: Kind) -> None:
        """Opens a log.

        Args:
            store: The store of the log.
            kind: The kind of its entries; their keys have a `number`.
        """
        self._store = store
        self._kind = kind

    def entries(self) -> list[LogEntry]:
        """All entries, in order.

        Raises:
            DamagedError: An entry was deleted, or the store is an incomplete copy.
        """
        folder = self._kind.folder()
        listed = self._store.stats(folder)
        if f"{folder}/{INCOMPLETE}" in listed:
            raise DamagedError(
                f"The store {self._store.url} is a copy that isn't complete: `sbr store copy` is running, or was stopped. Run "
                "the same command again: it continues from there."
            )
        numbers = {fields["number"]: stat for key, stat in listed.items() if (fields := self._kind.parse(key))}
        for expected, number in enumerate(numbers, start=1):
            if number != expected:
                raise DamagedError(
                    f"The log {self._store.where(folder)} has no entry {expected} but an entry {number}: "
                    "an entry was deleted; restore it from a backup."
                )
        bodies = self._store.get_entries(list(numbers.values()))
        return [LogEntry(number, body) for number, body in enumerate(bodies, start=1)]

    def create(self, number: int, body: Mapping[str, Any]) -> None:
        """Creates entry `number`.

        Raises:
            AlreadyExistsError: Another writer created it first; nothing was changed.
        """
        if number == 1:
            self._store.write_format()
        self._store.create_record(self._kind.key(number=number), body)

    def append(self, build: Callable[[Sequence[LogEntry]], R]) -> tuple[R, int]:
        """Appends the record that `build` returns for the entries so far; calls it again if another writer was first.

        Returns:
            What `build` returned, and its number; None and 0 if there was nothing to append.
        """
        while True:
            entries = self.entries()
            record = build(entries)
            if record is None:
                return record, 0
            number = len(entries) + 1
            try:
                self.create(number, record.as_dict())
            except AlreadyExistsError:
                logger.info("Another process wrote %s first; trying again.", self._store.where(self._kind.key(number=number)))
                continue
            return record, number
