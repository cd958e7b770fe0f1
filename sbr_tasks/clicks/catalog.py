"""The catalog of days: which revision of each day's clicks is incoming, accepted or in quarantine.

Its one record is a numbered log of commits. An import commits all its days at once, and so does a validation; what no commit
names isn't there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pyarrow as pa

from sbr_tasks.errors import StoreError
from sbr_tasks.store import FileRecord, Json, LogEntry, NumberedLog, Store

COMMITS = "commits/clicks"


@dataclass(frozen=True)
class Revision:
    """One content of a day's clicks.

    Attributes:
        day: The day.
        rev: Hash of the rows.
        file: The Parquet file that holds them.
        rows: Clicks.
        sessions: Distinct sessions.
        items: Distinct items.
        first: Time of the first click, ISO-8601.
        last: Time of the last click, ISO-8601.
    """

    day: date
    rev: str
    file: FileRecord
    rows: int
    sessions: int
    items: int
    first: str
    last: str

    def as_dict(self) -> Json:
        return {
            "rev": self.rev,
            "file": self.file.as_dict(),
            "rows": self.rows,
            "sessions": self.sessions,
            "items": self.items,
            "first": self.first,
            "last": self.last,
        }

    @classmethod
    def from_dict(cls, day: date, record: Mapping[str, Any]) -> Revision:
        facts = {name: record[name] for name in ("rev", "rows", "sessions", "items", "first", "last")}
        return cls(day=day, file=FileRecord.from_dict(record["file"]), **facts)


@dataclass
class DayState:
    """What is known of one day.

    Attributes:
        source: Fingerprint of the source that the day was last asked of.
        timezone: Zone whose midnights it was cut at then.
        empty: The source held no click of the day, and none was ever accepted or put into quarantine.
        incoming: The revision that was imported last.
        accepted: The revision that windows read.
        quarantined: The revision that failed validation, when that is the last word on the day.
        failures: Sentences on why it failed.
        warnings: Sentences on what the last validation found odd.
        decided: Revisions that were validated, and whether they were accepted.
    """

    source: str = ""
    timezone: str = ""
    empty: bool = False
    incoming: Revision | None = None
    accepted: Revision | None = None
    quarantined: Revision | None = None
    failures: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    decided: dict[str, Json] = field(default_factory=dict)

    @property
    def pending(self) -> Revision | None:
        """The imported revision that wasn't validated yet."""
        return self.incoming if self.incoming and self.incoming.rev not in self.decided else None

    @property
    def status(self) -> str:
        """`unknown`, `empty`, `incoming`, `accepted` or `quarantined`: the last word on the day."""
        if self.pending:
            return "incoming"
        if self.quarantined:
            return "quarantined"
        if self.accepted:
            return "accepted"
        return "empty" if self.empty else "unknown"


class ClickCatalog:
    """Reads and commits the state of days."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._log = NumberedLog(store, COMMITS)

    def days(self) -> dict[date, DayState]:
        """The state of every day that a commit names, oldest day first."""
        return fold(self._log.entries())

    def commit_import(
        self, revisions: Sequence[Revision], *, empty: Sequence[date], source: Mapping[str, Any], at: str
    ) -> None:
        """Makes the revisions of one import current, all at once.

        Args:
            revisions: One per imported day.
            empty: Days that the source was asked for and holds no click of.
            source: `path`, `format`, `fingerprint`, `settings` and counts of the import.
            at: When it was committed, ISO-8601.
        """
        body = {
            "kind": "import",
            "at": at,
            "source": dict(source),
            "days": {str(revision.day): revision.as_dict() for revision in revisions},
            "empty": [str(day) for day in empty],
        }
        self._log.append(lambda _: body)

    def commit_validation(self, decisions: Mapping[date, Mapping[str, Any]], *, at: str) -> None:
        """Records what was decided on the pending revisions of some days, all at once.

        Args:
            decisions: By day: `revision` (as a dict, with its file where it lies now), `accepted`, `failures`, `warnings`,
                `result` and `data_docs` (keys).
            at: When it was committed, ISO-8601.
        """
        body = {"kind": "validation", "at": at, "days": {str(day): dict(decision) for day, decision in decisions.items()}}
        self._log.append(lambda _: body)

    def read(self, revision: Revision, columns: Sequence[str] | None = None) -> pa.Table:
        """The clicks of a revision, verified against its record."""
        return self.store.read_table(revision.file, columns)


def fold(entries: Sequence[LogEntry]) -> dict[date, DayState]:
    """The state of days after some commits."""
    days: dict[date, DayState] = {}
    apply: dict[str, Callable[[dict[date, DayState], Json], None]] = {"import": _apply_import, "validation": _apply_validation}
    for entry in entries:
        kind = entry.body["kind"]
        if kind not in apply:
            raise StoreError(f"Commit {entry.number} is of the unknown kind {kind!r}; a newer version of sbr-tasks wrote it.")
        apply[kind](days, entry.body)
    return dict(sorted(days.items()))


def _apply_import(days: dict[date, DayState], body: Json) -> None:
    source, timezone = body["source"]["fingerprint"], body["source"]["timezone"]
    for text in body["empty"]:
        state = days.setdefault(date.fromisoformat(text), DayState())
        state.source, state.timezone = source, timezone
        state.empty = state.incoming is None
    for text, record in body["days"].items():
        day = date.fromisoformat(text)
        state = days.setdefault(day, DayState())
        state.source, state.timezone, state.empty = source, timezone, False
        state.incoming = Revision.from_dict(day, record)
        earlier = state.decided.get(state.incoming.rev)
        if earlier:
            _decide(state, day, earlier)


def _apply_validation(days: dict[date, DayState], body: Json) -> None:
    for text, decision in body["days"].items():
        day = date.fromisoformat(text)
        state = days.setdefault(day, DayState())
        state.decided[decision["revision"]["rev"]] = decision
        _decide(state, day, decision)


def _decide(state: DayState, day: date, decision: Json) -> None:
    revision = Revision.from_dict(day, decision["revision"])
    if decision["accepted"]:
        state.accepted, state.quarantined = revision, None
    else:
        state.quarantined = revision
    state.failures, state.warnings = list(decision["failures"]), list(decision["warnings"])
