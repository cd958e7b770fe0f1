"""Commits: the entries of the log that says which clicks of each day there are, and what was decided on them."""

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
    """One content of a day's clicks.

    Attributes:
        day: The day; in a commit it is the key of the revision.
        rev: Hash of the rows.
        file: The Parquet file that holds them.
        rows: Clicks.
        sessions: Distinct sessions.
        items: Distinct items.
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
    """The file of rejected lines, and how many of them it holds."""

    file: FileRecord
    count: int


class ImportSource(Record):
    """What an import read, and how.

    Attributes:
        path: Where the clicks were.
        format: The setting `source.format`.
        fingerprint: Identifies the source's files.
        settings: Fingerprint of the settings of the source.
        timezone: Zone whose midnights separate the days.
        id_type: The setting `source.id_type`.
        changed_days: The setting `ingest.changed_days`.
        for_day: The day whose run imported; None without a run.
        ledger: What became of every line.
        rows: Clicks that were stored.
        rejected: Lines that don't parse.
        rejects: Where they are kept; None where there are none.
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


class Override(Record):
    """Who accepted a day in quarantine, when and why, and the failures that this overrode."""

    by: str
    at: str
    reason: str
    failures: tuple[str, ...]


class Judgement(Record):
    """What was decided on one revision.

    Attributes:
        revision: With the place that its file has since.
        accepted: Whether windows may read it.
        failures: Sentences on why it failed.
        warnings: Sentences on what is odd.
        failed: Names of the expectations that failed.
        facts: What was measured, by name.
        result: Key of Great Expectations' result.
        data_docs: Key of the page that shows it.
        items: The day's items, for later days to compare with; None where they weren't measured.
        sessions: The day's sessions, likewise.
        released: How it came out of quarantine; of a release that was committed later, so not part of a commit.
    """

    revision: Revision
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
        files = (self.revision.file, self.items, self.sessions)
        return {self.result, self.data_docs, *(file.key for file in files if file)}


class ReleasedRevision(Record):
    """A revision that comes out of quarantine, with the place that its file has since, who decided that, and why."""

    revision: Revision
    by: str
    reason: str


def _sorted(keys: frozenset[str]) -> list[str]:
    return sorted(keys)


class Removed(Record):
    """What a removal takes away of a day: revisions that are not known any more, and keys of files."""

    revisions: Annotated[frozenset[str], PlainSerializer(_sorted)]
    files: Annotated[frozenset[str], PlainSerializer(_sorted)]


class Why(Record):
    """Who closed or opened a day, and why."""

    actor: str
    reason: str


def _with_days(days: Any) -> Any:
    """The days of a commit, each revision with the day that is its key."""
    if not isinstance(days, Mapping):
        return days
    return {day: _with_day(day, record) for day, record in days.items()}


def _with_day(day: Any, record: Any) -> Any:
    if not isinstance(record, dict):
        return record
    if isinstance(revision := record.get("revision"), dict):
        return {**record, "revision": {**revision, "day": day}}
    return {**record, "day": day}


class CommitBase(Record):
    """What all commits have in common: their number, which the log's key holds, and when they were made (ISO-8601)."""

    number: int = Field(0, exclude=True)
    at: str


class Import(CommitBase):
    """Days of one pass over a source.

    Attributes:
        source: What was read, and how.
        days: The revision that is imported, by day.
        empty: Intervals of days that the source was asked for and holds no click of.
        kept: Days that the source was asked for and whose stored revision stays, and whether the source holds other clicks.
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
    """What a validation decided, by day."""

    kind: Literal["validation"] = "validation"
    days: Annotated[Mapping[date, Judgement], BeforeValidator(_with_days)]


class Release(CommitBase):
    """Days that come out of quarantine."""

    kind: Literal["release"] = "release"
    days: Annotated[Mapping[date, ReleasedRevision], BeforeValidator(_with_days)]


class Removal(CommitBase):
    """Revisions and files that go.

    Attributes:
        why: For whoever reads the log later.
        forgets: A person gave the days up, rather than a clearing that counted them as old.
        days: What goes, by day.
    """

    kind: Literal["removal"] = "removal"
    why: str
    forgets: bool
    days: Mapping[date, Removed]


class Closing(CommitBase):
    """Days that will never have clicks."""

    kind: Literal["closing"] = "closing"
    days: Mapping[date, Why]


class Opening(CommitBase):
    """Days that aren't closed any more."""

    kind: Literal["opening"] = "opening"
    days: Mapping[date, Why]


Commit = Import | Validation | Release | Removal | Closing | Opening
_COMMIT: TypeAdapter[Commit] = TypeAdapter(Annotated[Commit, Field(discriminator="kind")])


def read_commit(entry: LogEntry, where: str) -> Commit:
    """The commit that is in the log; `where` names it in messages.

    Raises:
        DamagedError: It isn't what a commit of its kind is.
    """
    try:
        return _COMMIT.validate_python({**entry.body, "number": entry.number})
    except ValidationError as error:
        raise DamagedError(
            f"{where} can't be read: {first_problem(error)}. It is damaged (restore it from a backup), or a newer version "
            "of sbr-tasks wrote it."
        ) from None


def named_files(commit: Commit) -> dict[str, FileRecord | None]:
    """Files that a commit makes part of the store, by key; None where it gives no size and hash."""
    if isinstance(commit, Removal):
        return {}
    files: dict[str, FileRecord | None] = {file.key: file for file in file_records(commit.as_dict())}
    if isinstance(commit, Validation):
        files |= {key: None for judged in commit.days.values() for key in (judged.result, judged.data_docs)}
    return files
