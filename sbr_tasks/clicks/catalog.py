"""The catalog of days: which revision of each day's clicks is incoming, accepted or in quarantine.

Its one record is a numbered log of commits. An import commits all its days at once, and so does a validation; what no commit
names isn't there. A removal is committed before files are deleted: a revision that was removed isn't there any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field

from sbr_tasks.clicks.ledger import Ledger
from sbr_tasks.days import as_intervals, days_of_intervals, describe_days
from sbr_tasks.errors import DamagedError, DayError, StoreError
from sbr_tasks.store import FileRecord, Json, LogEntry, NumberedLog, Record, Store, file_records, kinds, to_json


class OvertakenError(StoreError):
    """Somebody else committed a day since an import began to read; it reads again, so that no person meets this."""


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


@dataclass(frozen=True)
class Removed:
    """What a removal takes away of a day: revisions that are not known any more, and keys of files."""

    revisions: frozenset[str]
    files: frozenset[str]


@dataclass
class DayState:
    """What is known of one day.

    Attributes:
        source: Fingerprint of the source that the day was last asked of.
        timezone: Zone whose midnights it was cut at then.
        id_type: Type of the ids of its last import (setting source.id_type); empty where the commit doesn't say.
        empty: The source held no click of the day, and none was ever accepted or put into quarantine.
        removed: All its revisions were removed (`sbr store gc` or `forget`); a run that needs the day ingests it again.
            A day that `gc` removed stays so while the source holds fewer clicks of it than the store did.
        removed_clicks: How many clicks `gc` removed; 0 of a day in quarantine.
        forgotten: It was `sbr store forget` that removed it: a person gave it up, so it may be empty in future.
        differs: The value of `ingest.changed_days` under which the source's clicks, which differ from those that are stored,
            weren't taken; empty where they don't differ.
        closed: `actor`, `at` and `reason` of whoever said that the day will never have clicks; clicks that come reopen it.
        incoming: The revision that was imported last.
        accepted: The revision that windows read.
        quarantined: The revision that failed validation, when that is the last word on the day.
        failures: Sentences on why it failed.
        warnings: Sentences on what the last validation found odd.
        decided: Revisions that were validated, whether they were accepted, and if by whom they were released from quarantine.
    """

    source: str = ""
    timezone: str = ""
    id_type: str = ""
    empty: bool = False
    removed: bool = False
    removed_clicks: int = 0
    forgotten: bool = False
    differs: str = ""
    closed: Json | None = None
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
    def stored(self) -> Revision | None:
        """The revision that a source may not shrink: the one that waits for validation, else the accepted one."""
        return self.pending or self.accepted

    @property
    def last(self) -> Revision | None:
        """The revision that is the last word on the day, accepted or not."""
        return self.pending or self.quarantined or self.accepted

    @property
    def released(self) -> Json | None:
        """`by`, `at`, `reason` and `failures` of the release, if the accepted revision was once in quarantine."""
        return self.decided.get(self.accepted.rev, {}).get("released") if self.accepted else None

    def warnings_of(self, rev: str) -> list[str]:
        """What was found odd about one revision, whichever is current now."""
        return list(self.decided.get(rev, {}).get("warnings", []))

    @property
    def why_closed(self) -> str:
        """Who closed the day, when and why; empty where nobody did."""
        return f"{self.closed['actor']} on {self.closed['at'][:10]}: {self.closed['reason']}" if self.closed else ""

    @property
    def status(self) -> str:
        """`unknown`, `empty`, `closed`, `incoming`, `accepted`, `quarantined` or `removed`: the last word on the day."""
        if self.pending:
            return "incoming"
        if self.quarantined:
            return "quarantined"
        if self.accepted:
            return "accepted"
        if self.removed:
            return "removed"
        if self.closed:
            return "closed"
        return "empty" if self.empty else "unknown"


class ClickCatalog:
    """Reads and commits the state of days."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._log = NumberedLog(store, kinds.COMMIT)

    def days(self) -> dict[date, DayState]:
        """The state of every day that a commit names, oldest day first."""
        return fold(self._log.entries())

    def look(self) -> tuple[int, dict[date, DayState]]:
        """The number of commits so far, and the state of every day after them."""
        entries = self._log.entries()
        return len(entries), fold(entries)

    def ledger_of(self, day: date) -> Ledger | None:
        """The ledger of the last import that the run of a day made, or that stored the day or found other clicks of it.

        None where none is on record.
        """
        body = self._last_import(day)
        return Ledger.model_validate_json(to_json(body["source"]["ledger"])) if body else None

    def days_of_source(self, day: date) -> list[date]:
        """The days of which the source held clicks when it was last asked for a day, oldest first."""
        body = self._last_import(day)
        left_out = Ledger.model_validate_json(to_json(body["source"]["ledger"])).left_out if body else {}
        stored = {date.fromisoformat(text) for text in body["days"]} if body else set()
        return sorted(stored.union(*left_out.values()))

    def _last_import(self, day: date) -> Json | None:
        for entry in reversed(self._log.entries()):
            body = entry.body
            if body["kind"] != "import" or "ledger" not in body["source"]:
                continue
            is_different = body.get("kept", {}).get(str(day)) == "different"
            if body["source"]["for_day"] == str(day) or str(day) in body["days"] or is_different:
                return body
        return None

    def validated_since(self, at: datetime) -> set[date]:
        """The days that a validation of that second or a later one decided on."""
        first = at.replace(microsecond=0)
        bodies = [entry.body for entry in self._log.entries()]
        recent = [body for body in bodies if body["kind"] == "validation" and datetime.fromisoformat(body["at"]) >= first]
        return {date.fromisoformat(day) for body in recent for day in body["days"]}

    def commit_import(
        self,
        revisions: Sequence[Revision],
        *,
        empty: Sequence[date],
        source: Mapping[str, Any],
        at: str,
        kept: Mapping[date, bool] | None = None,
        since: int | None = None,
    ) -> None:
        """Makes the revisions of one import current, all at once.

        Args:
            revisions: One per imported day.
            empty: Days that the source was asked for and holds no click of.
            source: `path`, `format`, `fingerprint`, `settings`, counts and ledger of the import.
            at: When it was committed, ISO-8601.
            kept: Days that the source was asked for and whose stored revision stays, and whether the source holds other
                clicks of them.
            since: The number of commits when the import began to read; None: nothing can have come between.

        Raises:
            OvertakenError: A later commit named one of the days; nothing was committed.
        """
        kept = kept or {}
        body = {
            "kind": "import",
            "at": at,
            "source": dict(source),
            "days": {str(revision.day): revision.as_dict() for revision in revisions},
            "empty": as_intervals(empty),
            "kept": {str(day): "different" if differs else "same" for day, differs in kept.items()},
        }
        changed = {revision.day for revision in revisions}
        named = {*changed, *empty, *kept}

        def build(entries: Sequence[LogEntry]) -> Json:
            for entry in entries[since:] if since is not None else ():
                later = {*map(date.fromisoformat, entry.body["days"]), *days_of_intervals(entry.body.get("empty", ()))}
                confirmed = set(map(date.fromisoformat, entry.body.get("kept", ())))
                if overtaken := (named & later) | (changed & confirmed):
                    raise OvertakenError(
                        f"Commit {entry.number} ({entry.body['kind']}) named {describe_days(list(overtaken))} while this "
                        "import read its source. Nothing was stored."
                    )
            return body

        self._log.append(build)

    def commit_validation(self, decisions: Mapping[date, Mapping[str, Any]], *, at: str) -> None:
        """Records what was decided on the pending revisions of some days, all at once.

        Args:
            decisions: By day: `revision` (as a dict, with the current place of its file), `accepted`, `failures`, `warnings`,
                `result` and `data_docs` (keys).
            at: When it was committed, ISO-8601.
        """
        body = {"kind": "validation", "at": at, "days": {str(day): dict(decision) for day, decision in decisions.items()}}
        self._log.append(lambda _: body)

    def commit_removal(
        self, build: Callable[[Sequence[LogEntry]], Mapping[date, Removed]], *, why: str, at: str, forgets: bool = False
    ) -> LogEntry | None:
        """Records which revisions and files are removed, before anything is deleted.

        Args:
            build: What to remove, by day, given the commits so far; asked again when another commit comes first.
            why: For whoever reads the log later.
            at: When, ISO-8601.
            forgets: A person gave the days up, rather than a clearing that counted them as old.

        Returns:
            The commit; None when `build` names nothing.
        """

        def body(entries: Sequence[LogEntry]) -> Json | None:
            removed = {
                str(day): {"revisions": sorted(one.revisions), "files": sorted(one.files)}
                for day, one in build(entries).items()
            }
            return {"kind": "removal", "at": at, "why": why, "forgets": forgets, "days": removed} if removed else None

        return self._log.append(body)

    def commit_release(self, revision: Revision, *, by: str, reason: str, at: str) -> None:
        """Accepts the revision of a day that is in quarantine, for ever marked as released.

        Args:
            revision: The revision, with its file where windows may read it.
            by: Who decided it.
            reason: Why.
            at: When it was committed, ISO-8601.

        Raises:
            DayError: The revision isn't in quarantine, or not any more.
        """
        body = {
            "kind": "release",
            "at": at,
            "days": {str(revision.day): {"revision": revision.as_dict(), "by": by, "reason": reason}},
        }

        def build(entries: Sequence[LogEntry]) -> Json:
            state = fold(entries).get(revision.day, DayState())
            if state.status != "quarantined" or state.quarantined is None or state.quarantined.rev != revision.rev:
                raise DayError(f"{revision.day} is {state.status}; only the clicks of a day in quarantine can be released.")
            return body

        self._log.append(build)

    def commit_closing(self, day: date, *, actor: str, reason: str, at: str) -> None:
        """Records that a day will never have clicks: no run waits for it, and no window misses it.

        Args:
            day: The day; it may be in the future.
            actor: Who says so.
            reason: Why.
            at: When it was committed, ISO-8601.

        Raises:
            DayError: The day has clicks, had some that were removed, or is closed for another reason.
        """
        body = {"kind": "closing", "at": at, "days": {str(day): {"actor": actor, "reason": reason}}}

        def build(entries: Sequence[LogEntry]) -> Json | None:
            state = fold(entries).get(day, DayState())
            if state.status == "closed" and state.closed:
                if state.closed["reason"] == reason:
                    return None
                raise DayError(
                    f"{day} is closed already ({state.why_closed}). To change the reason, open it first: "
                    f"`sbr days open {day} --reason WHY`."
                )
            if state.status not in ("unknown", "empty"):
                raise DayError(f"{day} can't be closed, because it has clicks: it is {state.status}.")
            return body

        self._log.append(build)

    def commit_opening(self, day: date, *, actor: str, reason: str, at: str) -> None:
        """Records that a day isn't closed any more; see `commit_closing` for the arguments.

        Raises:
            DayError: The day isn't closed.
        """
        body = {"kind": "opening", "at": at, "days": {str(day): {"actor": actor, "reason": reason}}}

        def build(entries: Sequence[LogEntry]) -> Json:
            status = fold(entries).get(day, DayState()).status
            if status != "closed":
                raise DayError(f"{day} isn't closed: it is {status}. `sbr days list` shows the days that are.")
            return body

        self._log.append(build)

    def read(self, revision: Revision, columns: Sequence[str] | None = None, dictionaries: Sequence[str] = ()) -> pa.Table:
        """The clicks of a revision, verified against its record.

        Raises:
            DamagedError: The file is missing or damaged, or was removed since the record was read.
        """
        with self._known_if_removed(revision):
            return self.store.read_table(revision.file, columns, dictionaries)

    def local_file(self, revision: Revision, folder: Path) -> Path:
        """A Parquet file of this machine with the clicks of a revision: the store's own, or a copy in `folder`.

        See `read` for the errors.
        """
        with self._known_if_removed(revision):
            return self.store.local_file(revision.file, folder)

    @contextmanager
    def _known_if_removed(self, revision: Revision) -> Iterator[None]:
        try:
            yield
        except DamagedError as error:
            if revision.file.key in removed_files(self._log.entries()):
                raise DamagedError(
                    f"The clicks of {revision.day} were removed (`sbr store gc` or `forget`) after this run had looked for "
                    "them. Run the day again, from ingest_clicks on: it ingests them again."
                ) from error
            raise DamagedError(
                f"{error} Without a backup, `sbr store forget {revision.day} --reason WHY` and the run of the day again take "
                "its clicks from the source; `sbr store check` names all that is damaged."
            ) from error


def fold(entries: Sequence[LogEntry]) -> dict[date, DayState]:
    """The state of days after some commits."""
    days: dict[date, DayState] = {}
    apply: dict[str, Callable[[dict[date, DayState], Json], None]] = {
        "import": _apply_import,
        "validation": _apply_validation,
        "removal": _apply_removal,
        "release": _apply_release,
        "closing": _apply_closing,
        "opening": _apply_opening,
    }
    for entry in entries:
        kind = entry.body["kind"]
        if kind not in apply:
            raise StoreError(f"Commit {entry.number} is of the unknown kind {kind!r}; a newer version of sbr-tasks wrote it.")
        apply[kind](days, entry.body)
    return dict(sorted(days.items()))


def _apply_import(days: dict[date, DayState], body: Json) -> None:
    source, timezone = body["source"]["fingerprint"], body["source"]["timezone"]
    for day in days_of_intervals(body["empty"]):
        state = days.setdefault(day, DayState())
        state.source, state.timezone = source, timezone
        if state.removed and not state.forgotten:
            continue
        state.empty, state.removed = state.incoming is None, False
    for text, found in body.get("kept", {}).items():
        state = days.setdefault(date.fromisoformat(text), DayState())
        state.source, state.differs = source, body["source"]["changed_days"] if found == "different" else ""
    for text, record in body["days"].items():
        day = date.fromisoformat(text)
        state = days.setdefault(day, DayState())
        state.source, state.timezone, state.id_type = source, timezone, body["source"].get("id_type", "")
        state.empty, state.removed, state.removed_clicks, state.differs, state.closed = False, False, 0, "", None
        state.incoming = Revision(day=day, **record)
        earlier = state.decided.get(state.incoming.rev)
        if earlier:
            _decide(state, day, earlier)


def _apply_validation(days: dict[date, DayState], body: Json) -> None:
    for text, decision in body["days"].items():
        day, rev = date.fromisoformat(text), decision["revision"]["rev"]
        state = days.setdefault(day, DayState())
        # A person may have released these clicks while another validation of them was at work: that decision is kept.
        if not state.decided.get(rev, {}).get("released"):
            state.decided[rev] = decision
        _decide(state, day, state.decided[rev])


def _apply_removal(days: dict[date, DayState], body: Json) -> None:
    """A revision that is removed was never decided on: the same clicks are validated again when they come back."""
    for text, removed in body["days"].items():
        day = date.fromisoformat(text)
        state = days.setdefault(day, DayState())
        gone, stored = set(removed["revisions"]), state.stored
        state.decided = {rev: decision for rev, decision in state.decided.items() if rev not in gone}
        for name in ("incoming", "accepted", "quarantined"):
            revision: Revision | None = getattr(state, name)
            if revision and revision.rev in gone:
                setattr(state, name, None)
        if state.incoming is state.accepted is state.quarantined is None and not state.empty:
            forgotten = body.get("forgets", False)
            n_clicks = 0 if forgotten else stored.rows if stored else state.removed_clicks
            # As if the source was never asked: the next run that needs the day asks it.
            days[day] = DayState(removed=True, removed_clicks=n_clicks, forgotten=forgotten)


def removed_files(entries: Sequence[LogEntry]) -> set[str]:
    """Keys of files that a commit removed and no later one names again."""
    removed = set[str]()
    for entry in entries:
        if entry.body["kind"] == "removal":
            removed.update(key for one in entry.body["days"].values() for key in one["files"])
        else:
            removed -= set(named_files(entry.body))
    return removed


def named_files(body: Json) -> dict[str, FileRecord | None]:
    """Files that a commit makes part of the store, by key; None where it gives no size and hash."""
    found: dict[str, FileRecord | None] = {record.key: record for record in file_records(body)}
    for decision in body["days"].values():
        found |= {decision[name]: None for name in ("result", "data_docs") if name in decision}
    return found


def _apply_release(days: dict[date, DayState], body: Json) -> None:
    for text, release in body["days"].items():
        day, rev = date.fromisoformat(text), release["revision"]["rev"]
        state = days[day]
        judged = state.decided[rev]
        sentence = f"released from quarantine by {release['by']} on {body['at'][:10]}: {release['reason']}; failed: "
        state.decided[rev] = judged | {
            "revision": release["revision"],
            "accepted": True,
            "released": {"by": release["by"], "at": body["at"], "reason": release["reason"], "failures": judged["failures"]},
            "failures": [],
            "warnings": [sentence + "; ".join(judged["failures"]), *judged["warnings"]],
        }
        _decide(state, day, state.decided[rev])


def _apply_closing(days: dict[date, DayState], body: Json) -> None:
    for text, closing in body["days"].items():
        state = days.setdefault(date.fromisoformat(text), DayState())
        state.closed = {"actor": closing["actor"], "at": body["at"], "reason": closing["reason"]}


def _apply_opening(days: dict[date, DayState], body: Json) -> None:
    for text in body["days"]:
        days[date.fromisoformat(text)].closed = None


def _decide(state: DayState, day: date, decision: Json) -> None:
    revision = Revision(day=day, **decision["revision"])
    if decision["accepted"]:
        state.accepted, state.quarantined = revision, None
    else:
        state.quarantined = revision
    state.failures, state.warnings = list(decision["failures"]), list(decision["warnings"])
