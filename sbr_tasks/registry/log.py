"""The promotion log: the one truth about the champion.

Entry n is created by one writer only. Everything else that tells the champion (MLflow's alias, the table of `sbr models`)
follows from the log and can be made again from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sbr_tasks.registry.gate import Metrics, Outcome
from sbr_tasks.store import Json, LogEntry, NumberedLog, Store

PROMOTIONS = "promotions"


@dataclass(frozen=True)
class Promotion:
    """One decision of the log.

    Attributes:
        number: Its place in the log, from 1.
        version: The challenger.
        as_of: The challenger's day.
        outcome: What became of it.
        reasons: Why, in sentences.
        opponent: The version it was compared with; None when there was none.
        champion: The champion after this entry; None while there is none.
        challenger_metrics: What the challenger scored.
        opponent_metrics: What the opponent scored on the same events.
        baselines: What each baseline scored on the same events, by name.
        window: Fingerprint of the window whose test part they were scored on.
        run: The run that decided.
        at: When, ISO-8601.
    """

    number: int
    version: str
    as_of: date
    outcome: Outcome
    reasons: tuple[str, ...]
    opponent: str | None
    champion: str | None
    challenger_metrics: Metrics
    opponent_metrics: Metrics | None
    baselines: dict[str, Metrics]
    window: str
    run: str
    at: str

    def as_dict(self) -> Json:
        """The entry as it lies in the log; the number is its key."""
        body: Json = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "number"}
        return body | {"as_of": str(self.as_of), "outcome": self.outcome.value, "reasons": list(self.reasons)}

    @classmethod
    def from_entry(cls, entry: LogEntry) -> Promotion:
        """Reads an entry of the log."""
        body: dict[str, Any] = dict(entry.body)
        body["as_of"] = date.fromisoformat(body["as_of"])
        body["outcome"] = Outcome(body["outcome"])
        body["reasons"] = tuple(body["reasons"])
        return cls(number=entry.number, **body)


class PromotionLog:
    """Reads and extends the log."""

    def __init__(self, store: Store) -> None:
        self._log = NumberedLog(store, PROMOTIONS)

    def entries(self) -> list[Promotion]:
        """All decisions, in order."""
        return [Promotion.from_entry(entry) for entry in self._log.entries()]

    def create(self, promotion: Promotion) -> None:
        """Writes the entry with the promotion's number.

        Raises:
            AlreadyExistsError: Another run wrote that number first.
        """
        self._log.create(promotion.number, promotion.as_dict())


def live_champion(entries: Sequence[Promotion]) -> str | None:
    """The champion after some entries; None while there is none."""
    return entries[-1].champion if entries else None


def decision_on(entries: Sequence[Promotion], version: str) -> Promotion | None:
    """The entry that decided on a version; None when none did."""
    return next((entry for entry in entries if entry.version == version), None)


def day_of(entries: Sequence[Promotion], version: str | None) -> date | None:
    """The day of a version that the log decided on; None for None."""
    if version is None:
        return None
    return next(entry.as_of for entry in entries if entry.version == version)


def opponent_for(entries: Sequence[Promotion], as_of: date) -> str | None:
    """The version that a challenger of `as_of` has to beat; None when there is none.

    That is the champion, unless it is of a newer day. Then it is the champion as of that day: the newest version of a
    strictly earlier day that was promoted, or would have been.
    """
    champion = live_champion(entries)
    day = day_of(entries, champion)
    if champion and day and day <= as_of:
        return champion
    earlier = [entry for entry in entries if entry.outcome.passed and entry.as_of < as_of]
    return max(earlier, key=lambda entry: (entry.as_of, entry.number)).version if earlier else None
