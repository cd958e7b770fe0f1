"""The promotion log: the only record of the champion.

Entry n is created by one writer only. Everything else that names the champion (MLflow's alias, the serving copy, the table of
`sbr models`) follows from the log and can be rebuilt from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from sbr_tasks.errors import DamagedError
from sbr_tasks.registry.gate import Metrics, Outcome
from sbr_tasks.store import LogEntry, NumberedLog, Record, Store, first_problem, kinds


class _Entry(Record):
    number: int = Field(0, exclude=True)


class Decision(_Entry):
    """The gate's decision on a version.

    Attributes:
        number: Its place in the log, from 1; 0 of a verdict that isn't in the log (`promotion.preview_decision`).
        version: The challenger.
        day: The challenger's day.
        outcome: What became of it.
        reasons: Why, in sentences.
        opponent: The version it was compared with; None when there was none.
        before: The champion before this entry; None while there is none.
        champion: The champion after this entry; None while there is none.
        challenger_metrics: What the challenger scored.
        opponent_metrics: What the opponent scored on the same events; None when there was none, or it couldn't be used.
        differences: Challenger minus opponent with intervals, by metric; see `evaluation.comparison.Difference`.
        baselines: What each baseline scored on the same events, by name.
        neural_gain: Challenger minus the baseline `covisits`, which lacks only GRU4Rec, with intervals, by metric.
        window: Fingerprint of the window whose test part they were scored on.
        actor: The run that decided, or who.
        at: When, ISO-8601.
        by_length: What the challenger and its opponent scored by length of the session, by version; see `evaluation.slices`.
    """

    kind: Literal["decision"] = "decision"
    version: str
    day: date
    outcome: Outcome
    reasons: tuple[str, ...]
    opponent: str | None
    before: str | None
    champion: str | None
    challenger_metrics: Metrics
    opponent_metrics: Metrics | None
    differences: Mapping[str, Mapping[str, float]]
    baselines: Mapping[str, Metrics]
    neural_gain: Mapping[str, Mapping[str, float]] = {}
    window: str
    actor: str
    at: str
    by_length: Mapping[str, Mapping[str, Metrics]] = {}

    @property
    def page(self) -> str:
        """Key of the decision's page in the store, once it is written."""
        return (
            kinds.PAGE.key(day=self.day, number=self.number)
            if self.number
            else kinds.UNDECIDED_PAGE.key(day=self.day, version=self.version)
        )

    @property
    def scored(self) -> dict[str, Metrics]:
        """What `challenger`, `champion` (where there was one) and each baseline scored on the same events, by who."""
        champion = {"champion": self.opponent_metrics} if self.opponent_metrics else {}
        return {"challenger": self.challenger_metrics, **champion, **self.baselines}


class Rollback(_Entry):
    """A person's return to an earlier champion.

    Attributes:
        number: Its place in the log, from 1.
        version: The version that is champion again.
        day: Its day.
        before: The champion that was replaced; it is retired.
        reason: Why.
        actor: Who, or which run.
        at: When, ISO-8601.
        pin: Whether the champion is pinned from here on.
    """

    kind: Literal["rollback"] = "rollback"
    version: str
    day: date
    before: str
    reason: str
    actor: str
    at: str
    pin: bool = False

    @property
    def champion(self) -> str:
        """The champion after this entry."""
        return self.version

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why, in sentences, as of a decision."""
        return (self.reason, "The champion was pinned.") if self.pin else (self.reason,)


class Pin(_Entry):
    """A pin, with which the champion stays whatever the gate says, or its end.

    Attributes:
        number: Its place in the log, from 1.
        kind: `pin`, or `unpin` where a pin ends.
        version: The champion.
        day: Its day.
        reason: Why; it may be empty where a pin ends.
        actor: Who, or which run.
        at: When, ISO-8601.
    """

    kind: Literal["pin", "unpin"]
    version: str
    day: date
    reason: str
    actor: str
    at: str

    @property
    def is_on(self) -> bool:
        """Whether the champion is pinned from here on."""
        return self.kind == "pin"

    @property
    def before(self) -> str:
        """The champion before this entry, and after it."""
        return self.version

    @property
    def champion(self) -> str:
        """The champion before this entry, and after it."""
        return self.version

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why, as of a decision; empty where no reason was given."""
        return (self.reason,) if self.reason else ()


Entry = Decision | Rollback | Pin
NewEntry = TypeVar("NewEntry", bound=Entry | None)
_ENTRY: TypeAdapter[Entry] = TypeAdapter(Annotated[Entry, Field(discriminator="kind")])


def outcome_of(entry: Entry) -> str:
    """The outcome of a decision; else what a person did: `rollback`, `pin` or `unpin`."""
    if isinstance(entry, Decision):
        return entry.outcome.value
    return entry.kind


def read_entry(entry: LogEntry, where: str) -> Entry:
    """Parses an entry of the log; `where` names it in messages.

    Raises:
        DamagedError: It isn't a valid entry.
    """
    try:
        return _ENTRY.validate_python({**entry.body, "number": entry.number})
    except ValidationError as error:
        raise DamagedError(
            f"{where} can't be read: {first_problem(error)}. It is damaged (restore it from a backup), or a newer version "
            "of sbr-tasks wrote it."
        ) from None


class PromotionLog:
    """Reads and extends the log."""

    def __init__(self, store: Store) -> None:
        self._log = NumberedLog(store, kinds.ENTRY)
        self._where = store.where(kinds.ENTRY.folder())

    def entries(self) -> list[Entry]:
        """All entries, in order."""
        return self._read(self._log.entries())

    def _read(self, entries: Sequence[LogEntry]) -> list[Entry]:
        return [read_entry(entry, f"Entry {entry.number} of {self._where}") for entry in entries]

    def state(self) -> LogState:
        """What the log says now."""
        return fold(self.entries())

    def append(self, build: Callable[[LogState], NewEntry]) -> NewEntry:
        """Appends the entry that `build` returns for the log's state; calls it again if another run was first.

        Returns:
            The entry; None if `build` returned None, because none is needed.
        """
        return self._log.append(lambda entries: build(fold(self._read(entries))))[0]

    def create(self, entry: Entry) -> None:
        """Writes the entry with its number.

        Raises:
            AlreadyExistsError: Another run wrote that number first.
        """
        self._log.create(entry.number, entry.as_dict())


@dataclass
class LogState:
    """What a log says.

    Attributes:
        n_entries: Its length.
        champion: The version that is live; None while there is none.
        champion_entry: The entry that made it champion; 0 while there is none. The serving copy has this number.
        days: The day of each version that the log names.
        decisions: The last decision on each version.
        passed: The versions that were promoted, or would have been, each with the entry that said so.
        were_champion: The versions that were champion at some time.
        retired: The versions that were rolled back from.
        pin: The entry that pinned the champion; None where it isn't pinned.
    """

    n_entries: int = 0
    champion: str | None = None
    champion_entry: int = 0
    days: dict[str, date] = field(default_factory=dict)
    decisions: dict[str, Decision] = field(default_factory=dict)
    passed: dict[str, int] = field(default_factory=dict)
    were_champion: set[str] = field(default_factory=set)
    retired: set[str] = field(default_factory=set)
    pin: Pin | Rollback | None = None

    @property
    def champion_day(self) -> date | None:
        """The day of the live version."""
        return self.days[self.champion] if self.champion else None

    @property
    def may_return(self) -> list[str]:
        """The versions that the champion may be rolled back to, newest day first."""
        return sorted(self.were_champion - self.retired - {self.champion or ""}, reverse=True)

    def champion_as_of(self, day: date) -> str | None:
        """The newest version of a strictly earlier day that was promoted, or would have been, and isn't retired."""
        earlier = [name for name in self.passed if self.days[name] < day and name not in self.retired]
        return max(earlier, key=lambda name: (self.days[name], self.passed[name]), default=None)

    def opponent_for(self, day: date) -> str | None:
        """The version that a challenger of `day` has to beat; None when there is none.

        That is the champion, unless it is of a newer day: then the champion as of that day.
        """
        if self.champion_day is not None and self.champion_day <= day:
            return self.champion
        return self.champion_as_of(day)

    def parent_for(self, day: date) -> str | None:
        """The version that a training for `day` may start from: the champion, or the one as of that day, of an earlier day."""
        if self.champion_day is not None and self.champion_day < day:
            return self.champion
        return self.champion_as_of(day)


def fold(entries: Sequence[Entry]) -> LogState:
    """What a log says after some entries."""
    state = LogState()
    for entry in entries:
        state.n_entries = entry.number
        state.days[entry.version] = entry.day
        if isinstance(entry, Pin):
            state.pin = entry if entry.is_on else None
            continue
        if isinstance(entry, Rollback):
            state.retired.add(entry.before)
            state.pin = entry if entry.pin else state.pin
            moves = True
        else:
            state.decisions[entry.version] = entry
            moves = entry.outcome.moves_champion
            if entry.outcome.passed:
                state.passed[entry.version] = entry.number
        if moves:
            state.champion, state.champion_entry = entry.version, entry.number
            state.were_champion.add(entry.version)
    return state
