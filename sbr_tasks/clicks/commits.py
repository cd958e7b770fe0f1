"""Commits: the entries of the log of imported days and of the decisions on them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, TypeAdapter, ValidationError

from sbr_tasks.clicks.ledger import Ledger
from sbr_tasks.days import days_of_intervals
from sbr_tasks.errors import DamagedError
from sbr_tasks.settings import ChangedDays
from sbr_tasks.store import FileRecord, LogEntry, Record, file_records, first_problem


class Revision(Record):
    """One version of a day's clicks.

    Attributes:
        day: The day; in a commit it is the key of the revision.
        rev: Hash of the rows.
        file: The Parquet file of the clicks.
        rows: Number of clicks.
        sessions: Number of distinct sessions.
        items: Number of distinct items.
        first: Time of the first click, ISO-8601.
        last: Time of the last click, ISO-8601.
    """

    day: date = Field(exclude=True)
    rev: str
    file: FileRecord
    rows: int
    sessions: int
    items: int
    first: str
    last: str


class RejectsFile(Record):
    """The file of rejected lines, and the number of lines in it."""

    file: FileRecord
    count: int


class ImportSource(Record):
    """What an import read, and how.

    Attributes:
        path: The setting `source.path`.
        format: The setting `source.format`.
        fingerprint: Identifies the source's files.
        settings: Fingerprint of the settings of the source.
        timezone: Zone whose midnights separate the days.
        id_type: The setting `source.id_type`.
        changed_days: The setting `ingest.changed_days`.
        for_day: The day of the run that imported; None without a run.
        ledger: Accounts for every line.
        rows: Clicks that were stored.
        rejected: Lines that were rejected.
        rejects: The file of rejected lines; None if there are none.
    """

    path: str
    format: str
    fingerprint: str
    settings: str
    timezone: str
    id_type: Literal["integer", "string"]
    changed_days: ChangedDays
    for_day: date | None
    ledger: Ledger
    rows: int
    rejected: int
    rejects: RejectsFile | None


class Declaration(Record):
    """Who declared something about a day, such as that it is closed, and why."""

    actor: str
    reason: str


class Override(Declaration):
    """A day's release from quarantine: who decided it, when and why, and the failures that it overrode."""

    at: str
    failures: tuple[str, ...]


class Judgement(Record):
    """The decision on one revision.

    Attributes:
        rev: The revision.
        accepted: Whether windows may read it.
        failures: Sentences on why it failed.
        warnings: Sentences on what is unusual.
        failed: Names of the expectations that failed.
        facts: The day's facts, by name.
        result: Key of Great Expectations' result.
        data_docs: Key of the page that shows it.
        items: The day's items, for later days to compare with; None if they weren't measured.
        sessions: The day's sessions, for the same purpose.
        released: The release from quarantine. It was committed later, so it isn't stored with the decision.
    """

    rev: str
    accepted: bool
    failures: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    facts: Mapping[str, Any] = {}
    result: str
    data_docs: str
    items: FileRecord | None = None
    sessions: FileRecord | None = None
    released: Override | None = Field(None, exclude=True)

    @property
    def keys(self) -> set[str]:
        """Keys of its files."""
        return {self.result, self.data_docs, *(file.key for file in (self.items, self.sessions) if file)}


class ReleasedRevision(Declaration):
    """A revision released from quarantine, who released it, and why."""

    rev: str


def _sorted(keys: frozenset[str]) -> list[str]:
    return sorted(keys)


class Removed(Record):
    """What a removal deletes of a day: revisions, and keys of files."""

    revisions: Annotated[frozenset[str], PlainSerializer(_sorted)]
    files: Annotated[frozenset[str], PlainSerializer(_sorted)]


def _with_days(days: Any) -> Any:
    """Revisions by day, each with the day that is its key."""
    if not isinstance(days, Mapping):
        return days
    return {day: {**record, "day": day} if isinstance(record, dict) else record for day, record in days.items()}


class CommitBase(Record):
    """Base of all commits: their number, which is in the key of the log entry, and their time (ISO-8601)."""

    number: int = Field(0, exclude=True)
    at: str


class Import(CommitBase):
    """The days of one pass over a source.

    Attributes:
        source: What was read, and how.
        days: The imported revisions, by day.
        empty: Intervals of days in the scope of the import without clicks in the source.
        kept: Days in the scope of the import whose stored revision is kept, and whether the source has other clicks.
    """

    kind: Literal["import"] = "import"
    source: ImportSource
    days: Annotated[Mapping[date, Revision], BeforeValidator(_with_days)]
    empty: tuple[str, ...]
    kept: Mapping[date, Literal["same", "different"]]

    @property
    def empty_days(self) -> list[date]:
        """The days of `empty`, oldest first."""
        return list(days_of_intervals(self.empty))


class Validation(CommitBase):
    """The decisions of a validation, by day."""

    kind: Literal["validation"] = "validation"
    days: Mapping[date, Judgement]


class Release(CommitBase):
    """Days released from quarantine."""

    kind: Literal["release"] = "release"
    days: Mapping[date, ReleasedRevision]


class Removal(CommitBase):
    """Revisions and files that are removed.

    Attributes:
        reason: Why, for readers of the log.
        forgets: Whether a person gave the days up; else they were removed because of their age.
        days: What is removed, by day.
    """

    kind: Literal["removal"] = "removal"
    reason: str
    forgets: bool
    days: Mapping[date, Removed]


class Closing(CommitBase):
    """Days that will never have clicks."""

    kind: Literal["closing"] = "closing"
    days: Mapping[date, Declaration]


class Opening(CommitBase):
    """Days that aren't closed any more."""

    kind: Literal["opening"] = "opening"
    days: Mapping[date, Declaration]


Commit = Import | Validation | Release | Removal | Closing | Opening
_COMMIT: TypeAdapter[Commit] = TypeAdapter(Annotated[Commit, Field(discriminator="kind")])


def read_commit(entry: LogEntry, where: str) -> Commit:
    """Parses a log entry as a commit; `where` names it in messages.

    Raises:
        DamagedError: The entry isn't a valid commit.
    """
    try:
        return _COMMIT.validate_python({**entry.body, "number": entry.number})
    except ValidationError as error:
        raise DamagedError(
            f"{where} can't be read: {first_problem(error)}. It is damaged (restore it from a backup), or a newer version "
            "of sbr-tasks wrote it."
        ) from None


def named_files(commit: Commit) -> dict[str, FileRecord | None]:
    """Files that a commit names, by key; None if the commit has no size and hash of a file."""
    if isinstance(commit, Removal):
        return {}
    files: dict[str, FileRecord | None] = {file.key: file for file in file_records(commit.as_dict())}
    if isinstance(commit, Validation):
        files |= {key: None for judged in commit.days.values() for key in (judged.result, judged.data_docs)}
    return files
