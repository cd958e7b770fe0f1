"""The catalog of days: which revision of each day's clicks is incoming, accepted or in quarantine.

Its only record is a numbered log of commits. Imports and validations commit all their days at once; a revision that no commit
names doesn't exist. A removal is committed before its files are deleted, and ends the revision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from sbr_tasks.clicks.commits import (
    Closing,
    Commit,
    CommitBase,
    Declaration,
    Import,
    ImportSource,
    Judgement,
    Opening,
    Override,
    Release,
    ReleasedRevision,
    Removal,
    Removed,
    Revision,
    Validation,
    named_files,
    read_commit,
)
from sbr_tasks.clicks.ledger import Ledger
from sbr_tasks.days import as_intervals, describe_days
from sbr_tasks.errors import DamagedError, DayError, StoreError
from sbr_tasks.store import LogEntry, NumberedLog, Store, kinds

C = TypeVar("C", bound=CommitBase)


class OvertakenError(StoreError):
    """Another process committed a day while an import was reading. The import reads again, so people never see this error."""


class Closed(Declaration):
    """Who closed a day, when and why."""

    at: str

    def __str__(self) -> str:
        """Such as `anna on 2020-06-30: stocktaking`."""
        return f"{self.actor} on {self.at[:10]}: {self.reason}"


@dataclass
class DayState:
    """The state of one day.

    Attributes:
        source: Fingerprint of the source at the last import that covered the day.
        timezone: Time zone of the day at that import.
        id_type: Type of the ids at its last import (setting source.id_type); empty if it was never imported.
        empty: Whether the source had no clicks of the day, and none were ever accepted or put into quarantine.
        removed: Whether all revisions were removed (`sbr store gc` or `forget`); a run that needs the day ingests it again.
            A day that `gc` removed stays removed while the source has fewer clicks of it than the store had.
        removed_clicks: Clicks that `gc` removed; 0 for a day in quarantine.
        forgotten: Whether `sbr store forget` removed the day: a person gave it up, so it may become empty.
        differs: The value of `ingest.changed_days` with which differing clicks of the source weren't taken; empty if they don't
            differ.
        closed: Who closed the day; clicks that arrive later reopen it.
        incoming: The revision that was imported last.
        accepted: The revision that windows read.
        quarantined: The revision that failed validation, if no later revision replaced it.
        failures: Sentences on why it failed.
        warnings: Sentences on what the last validation found unusual.
        revisions: The imported revisions that weren't removed.
        decided: The decisions on validated revisions, by revision, with their release from quarantine if there was one.
    """

    source: str = ""
    timezone: str = ""
    id_type: str = ""
    empty: bool = False
    removed: bool = False
    removed_clicks: int = 0
    forgotten: bool = False
    differs: str = ""
    closed: Closed | None = None
    incoming: Revision | None = None
    accepted: Revision | None = None
    quarantined: Revision | None = None
    failures: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    revisions: dict[str, Revision] = field(default_factory=dict)
    decided: dict[str, Judgement] = field(default_factory=dict)

    @property
    def pending(self) -> Revision | None:
        """The imported revision that isn't validated yet."""
        return self.incoming if self.incoming and self.incoming.rev not in self.decided else None

    @property
    def stored(self) -> Revision | None:
        """The revision that new clicks are compared with: the one pending validation, else the accepted one."""
        return self.pending or self.accepted

    @property
    def last(self) -> Revision | None:
        """The newest revision, accepted or not."""
        return self.pending or self.quarantined or self.accepted

    @property
    def released(self) -> Override | None:
        """The release of the accepted revision from quarantine, if there was one."""
        judged = self.decided.get(self.accepted.rev) if self.accepted else None
        return judged.released if judged else None

    def warnings_of(self, rev: str) -> tuple[str, ...]:
        """The warnings of a revision, which needn't be the current one."""
        judged = self.decided.get(rev)
        return judged.warnings if judged else ()

    @property
    def status(self) -> str:
        """`unknown`, `empty`, `closed`, `incoming`, `accepted`, `quarantined` or `removed`."""
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
        self._where = store.where(kinds.COMMIT.folder())

    def commits(self) -> list[Commit]:
        """All commits, in order."""
        return self._read(self._log.entries())

    def days(self) -> dict[date, DayState]:
        """The state of every day that a commit names, oldest day first."""
        return day_states(self.commits())

    def look(self) -> tuple[int, dict[date, DayState]]:
        """The number of commits, and the state of every day after them."""
        commits = self.commits()
        return len(commits), day_states(commits)

    def ledger_of(self, day: date) -> Ledger | None:
        """The ledger of the last import that was made for the run of a day, stored the day, or found other clicks of it.

        None if there is none.
        """
        last = self._last_import(day)
        return last.source.ledger if last else None

    def days_of_source(self, day: date) -> list[date]:
        """The days with clicks in the source at the last import of a day (see `ledger_of`), oldest first."""
        last = self._last_import(day)
        return sorted({*last.days}.union(*last.source.ledger.left_out.values())) if last else []

    def _last_import(self, day: date) -> Import | None:
        for commit in reversed(self.commits()):
            if isinstance(commit, Import) and (
                commit.source.for_day == day or day in commit.days or commit.kept.get(day) == "different"
            ):
                return commit
        return None

    def validated_since(self, at: datetime) -> set[date]:
        """The days that were validated in that second or later."""
        first = at.replace(microsecond=0)
        validations = [commit for commit in self.commits() if isinstance(commit, Validation)]
        return {day for validation in validations if datetime.fromisoformat(validation.at) >= first for day in validation.days}

    def _read(self, entries: Sequence[LogEntry]) -> list[Commit]:
        return [read_commit(entry, f"Commit {entry.number} of {self._where}") for entry in entries]

    def _append(self, build: Callable[[Sequence[Commit]], C | None]) -> C | None:
        """Appends the commit that `build` returns for those so far; calls it again if another commit came first."""
        commit, number = self._log.append(lambda entries: build(self._read(entries)))
        return commit.model_copy(update={"number": number}) if commit else None

    def commit_import(
        self,
        revisions: Sequence[Revision],
        *,
        empty: Sequence[date],
        source: ImportSource,
        at: str,
        kept: Mapping[date, bool] | None = None,
        since: int | None = None,
    ) -> None:
        """Makes the revisions of one import current, all at once.

        Args:
            revisions: One per imported day.
            empty: Days in the scope of the import without clicks in the source.
            source: What was read, and how.
            at: When it was committed, ISO-8601.
            kept: Days in the scope of the import whose stored revision is kept, and whether the source has other clicks.
            since: The number of commits when the import began to read; None skips the check for later ones.

        Raises:
            OvertakenError: A later commit named one of the days; nothing was committed.
        """
        kept = kept or {}
        commit = Import(
            at=at,
            source=source,
            days={revision.day: revision for revision in revisions},
            empty=tuple(as_intervals(empty)),
            kept={day: "different" if differs else "same" for day, differs in kept.items()},
        )
        named = {*commit.days, *empty, *kept}

        def build(commits: Sequence[Commit]) -> Import:
            for other in commits[since:] if since is not None else ():
                later, confirmed = {*other.days}, set[date]()
                if isinstance(other, Import):
                    later, confirmed = later.union(other.empty_days), {*other.kept}
                if overtaken := (named & later) | (commit.days.keys() & confirmed):
                    raise OvertakenError(
                        f"Commit {other.number} ({other.kind}) named {describe_days(list(overtaken))} while this "
                        "import read its source. Nothing was stored."
                    )
            return commit

        self._append(build)

    def commit_validation(self, decisions: Mapping[date, Judgement], *, at: str) -> Mapping[date, Judgement]:
        """Records the decisions on revisions of some days, all at once.

        Args:
            decisions: Decisions by day.
            at: When it was committed, ISO-8601.

        Returns:
            The decisions that were recorded: those on revisions that were removed meanwhile aren't.
        """

        def build(commits: Sequence[Commit]) -> Validation | None:
            states = day_states(commits)
            days = {day: judged for day, judged in decisions.items() if judged.rev in states.get(day, DayState()).revisions}
            return Validation(at=at, days=days) if days else None

        commit = self._append(build)
        return commit.days if commit else {}

    def commit_removal(
        self, build: Callable[[Sequence[Commit]], Mapping[date, Removed]], *, reason: str, at: str, forgets: bool = False
    ) -> Removal | None:
        """Records which revisions and files are removed, before anything is deleted.

        Args:
            build: Returns what to remove, by day, for the commits so far; called again if another commit comes first.
            reason: Why, kept in the log.
            at: When, ISO-8601.
            forgets: Whether a person gave the days up; else they were removed because of their age.

        Returns:
            The commit; None if `build` returned nothing.
        """

        def removal(commits: Sequence[Commit]) -> Removal | None:
            removed = build(commits)
            return Removal(at=at, reason=reason, forgets=forgets, days=removed) if removed else None

        return self._append(removal)

    def commit_release(self, revision: Revision, *, actor: str, reason: str, at: str) -> None:
        """Accepts the quarantined revision of a day, and marks it as released.

        Args:
            revision: The revision.
            actor: Who released it.
            reason: Why.
            at: When it was committed, ISO-8601.

        Raises:
            DayError: The revision isn't in quarantine (any more).
        """
        commit = Release(at=at, days={revision.day: ReleasedRevision(rev=revision.rev, actor=actor, reason=reason)})

        def build(commits: Sequence[Commit]) -> Release:
            state = day_states(commits).get(revision.day, DayState())
            if state.status != "quarantined" or state.quarantined is None or state.quarantined.rev != revision.rev:
                raise DayError(f"{revision.day} is {state.status}; only the clicks of a day in quarantine can be released.")
            return commit

        self._append(build)

    def commit_closing(self, day: date, *, actor: str, reason: str, at: str) -> None:
        """Records that a day will never have clicks: no run waits for it, and no window misses it.

        Args:
            day: The day; it may be in the future.
            actor: Who closes it.
            reason: Why.
            at: When it was committed, ISO-8601.

        Raises:
            DayError: The day has clicks, had some that were removed, or is closed for another reason.
        """
        commit = Closing(at=at, days={day: Declaration(actor=actor, reason=reason)})

        def build(commits: Sequence[Commit]) -> Closing | None:
            state = day_states(commits).get(day, DayState())
            if state.status == "closed" and state.closed:
                if state.closed.reason == reason:
                    return None
                raise DayError(
                    f"{day} is closed already ({state.closed}). To change the reason, open it first: "
                    f"`sbr days open {day} --reason REASON`."
                )
            if state.status not in ("unknown", "empty"):
                raise DayError(f"{day} can't be closed, because it has clicks: it is {state.status}.")
            return commit

        self._append(build)

    def commit_opening(self, day: date, *, actor: str, reason: str, at: str) -> None:
        """Records that a day isn't closed any more; see `commit_closing` for the arguments.

        Raises:
            DayError: The day isn't closed.
        """
        commit = Opening(at=at, days={day: Declaration(actor=actor, reason=reason)})

        def build(commits: Sequence[Commit]) -> Opening:
            status = day_states(commits).get(day, DayState()).status
            if status != "closed":
                raise DayError(f"{day} isn't closed: it is {status}. `sbr days list` shows the days that are.")
            return commit

        self._append(build)

    def read(self, revision: Revision, columns: Sequence[str] | None = None, dictionaries: Sequence[str] = ()) -> pa.Table:
        """The clicks of a revision, verified against its record.

        Raises:
            DamagedError: The file is missing or damaged, or was removed since the record was read.
        """
        with self._explaining_damage(revision):
            return self.store.read_table(revision.file, columns, dictionaries)

    def local_file(self, revision: Revision, folder: Path) -> Path:
        """A local Parquet file with the clicks of a revision: the store's own file, or a copy in `folder`.

        See `read` for the errors.
        """
        with self._explaining_damage(revision):
            return self.store.local_file(revision.file, folder)

    @contextmanager
    def _explaining_damage(self, revision: Revision) -> Iterator[None]:
        try:
            yield
        except DamagedError as error:
            if revision.file.key in removed_files(self.commits()):
                raise DamagedError(
                    f"The clicks of {revision.day} were removed (`sbr store gc` or `forget`) after this run had looked for "
                    "them. Run the day again, from ingest_clicks on: it ingests them again."
                ) from error
            raise DamagedError(
                f"{error} Without a backup, `sbr store forget {revision.day} --reason REASON` and the run of the day again "
                "take its clicks from the source; `sbr store check` names all that is damaged."
            ) from error


def day_states(commits: Sequence[Commit]) -> dict[date, DayState]:
    """The state of all days after some commits, oldest day first."""
    days: dict[date, DayState] = {}
    for commit in commits:
        if isinstance(commit, Import):
            _apply_import(days, commit)
        elif isinstance(commit, Validation):
            _apply_validation(days, commit)
        elif isinstance(commit, Removal):
            _apply_removal(days, commit)
        elif isinstance(commit, Release):
            _apply_release(days, commit)
        elif isinstance(commit, Closing):
            _apply_closing(days, commit)
        else:
            for day in commit.days:
                days[day].closed = None
    return dict(sorted(days.items()))


def _apply_import(days: dict[date, DayState], commit: Import) -> None:
    source = commit.source
    for day in commit.empty_days:
        state = days.setdefault(day, DayState())
        state.source, state.timezone = source.fingerprint, source.timezone
        if state.removed and not state.forgotten:
            continue
        state.empty, state.removed = state.incoming is None, False
    for day, content in commit.kept.items():
        state = days.setdefault(day, DayState())
        state.source, state.differs = source.fingerprint, source.changed_days if content == "different" else ""
    for day, revision in commit.days.items():
        state = days.setdefault(day, DayState())
        state.source, state.timezone, state.id_type = source.fingerprint, source.timezone, source.id_type
        state.empty, state.removed, state.removed_clicks, state.differs, state.closed = False, False, 0, "", None
        state.incoming = state.revisions[revision.rev] = revision
        if earlier := state.decided.get(revision.rev):
            _decide(state, earlier)


def _apply_validation(days: dict[date, DayState], commit: Validation) -> None:
    for day, judged in commit.days.items():
        state = days.setdefault(day, DayState())
        earlier = state.decided.get(judged.rev)
        # A person may have released these clicks while another validation of them was running: keep that decision.
        if earlier is None or not earlier.released:
            state.decided[judged.rev] = judged
        _decide(state, state.decided[judged.rev])


def _apply_removal(days: dict[date, DayState], commit: Removal) -> None:
    """Forgets the decisions on removed revisions, so that the same clicks are validated again if they come back."""
    for day, removed in commit.days.items():
        state = days.setdefault(day, DayState())
        gone, stored = removed.revisions, state.stored
        state.revisions = {rev: revision for rev, revision in state.revisions.items() if rev not in gone}
        state.decided = {rev: judged for rev, judged in state.decided.items() if rev not in gone}
        for name in ("incoming", "accepted", "quarantined"):
            revision: Revision | None = getattr(state, name)
            if revision and revision.rev in gone:
                setattr(state, name, None)
        if state.incoming is state.accepted is state.quarantined is None and not state.empty:
            n_clicks = 0 if commit.forgets else stored.rows if stored else state.removed_clicks
            # Without a source, so that the next run that needs the day ingests it.
            days[day] = DayState(removed=True, removed_clicks=n_clicks, forgotten=commit.forgets)


def removed_files(commits: Sequence[Commit]) -> set[str]:
    """Keys of files that were removed and that no later commit names."""
    removed = set[str]()
    for commit in commits:
        if isinstance(commit, Removal):
            removed.update(key for revision in commit.days.values() for key in revision.files)
        else:
            removed -= named_files(commit).keys()
    return removed


def _apply_release(days: dict[date, DayState], commit: Release) -> None:
    for day, released in commit.days.items():
        state = days[day]
        judged = state.decided[released.rev]
        sentence = f"released from quarantine by {released.actor} on {commit.at[:10]}: {released.reason}; failed: "
        changes = {
            "accepted": True,
            "released": Override(actor=released.actor, reason=released.reason, at=commit.at, failures=judged.failures),
            "failures": (),
            "warnings": (sentence + "; ".join(judged.failures), *judged.warnings),
        }
        state.decided[released.rev] = judged.model_copy(update=changes)
        _decide(state, state.decided[released.rev])


def _apply_closing(days: dict[date, DayState], commit: Closing) -> None:
    for day, closing in commit.days.items():
        state = days.setdefault(day, DayState())
        state.closed = Closed(actor=closing.actor, at=commit.at, reason=closing.reason)


def _decide(state: DayState, judged: Judgement) -> None:
    revision = state.revisions[judged.rev]
    if judged.accepted:
        state.accepted, state.quarantined = revision, None
    else:
        state.quarantined = revision
    state.failures, state.warnings = judged.failures, judged.warnings
