"""What the Models page shows first: the live champion and every decision, from the promotion log alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from sbr_tasks.clicks.catalog import ClickCatalog
from sbr_tasks.evaluation.metrics import metric_title
from sbr_tasks.registry.gate import COMPARED
from sbr_tasks.registry.log import Decision, Entry, LogState, PromotionLog, fold, outcome_of
from sbr_tasks.registry.staleness import staleness
from sbr_tasks.registry.versions import ModelVersion
from sbr_tasks.report.version import read_version
from sbr_tasks.report.words import OUTCOMES
from sbr_tasks.settings import Settings
from sbr_tasks.store import Json, Store


@lru_cache(maxsize=4)
def _open(url: str, options: tuple[tuple[str, str], ...]) -> Store:
    return Store(url, dict(options))


def shared_store(settings: Settings) -> Store:
    """The store that the settings name, opened once a process: it reads each log entry once.

    Raises:
        FormatError: Another release wrote it.
    """
    store = _open(settings.store, tuple(sorted(settings.store_options.items())))
    store.require_format()
    return store


@dataclass(frozen=True)
class Overview:
    """The first view.

    Attributes:
        entries: The promotion log.
        state: What it says.
        version: The champion's record; None without a champion, or where it can't be read.
        fault: Why it can't be read.
        today: The day from which the champion's age is counted.
        log: Where the log was looked for.
    """

    entries: Sequence[Entry]
    state: LogState
    version: ModelVersion | None
    fault: str | None
    today: date
    log: str

    @property
    def made_champion(self) -> Entry | None:
        """The entry that made the champion live."""
        return self.entries[self.state.champion_entry - 1] if self.state.champion else None

    @property
    def decision(self) -> Decision | None:
        """The last decision on the champion."""
        return self.state.decisions.get(self.state.champion or "")

    @property
    def days_old(self) -> int:
        """The champion's age."""
        return (self.today - self.state.champion_day).days if self.state.champion_day else 0

    @property
    def outcomes(self) -> dict[str, int]:
        """How many entries have each outcome, in the order of `words.OUTCOMES`."""
        outcomes = [outcome_of(entry) for entry in self.entries]
        return {outcome: n for outcome in map(str, OUTCOMES) if (n := outcomes.count(outcome))}

    def rows(self, outcome: str = "", text: str = "") -> list[Entry]:
        """The entries of an outcome whose version's name contains a text, newest first; empty texts leave none out."""
        return [
            entry
            for entry in reversed(self.entries)
            if (not outcome or outcome_of(entry) == outcome) and text.strip() in entry.version
        ]

    @property
    def points(self) -> list[Json]:
        """What the chart draws: one point a decision with events, by day."""
        decisions = [entry for entry in self.entries if isinstance(entry, Decision)]
        scored = [decision for decision in decisions if COMPARED[0] in decision.challenger_metrics]
        return [
            {
                "day": str(decision.day),
                "version": decision.version,
                "label": OUTCOMES[decision.outcome].label,
                "tone": OUTCOMES[decision.outcome].tone,
                "isRetired": decision.version in self.state.retired,
                "becameChampion": decision.outcome.moves_champion,
                "nEvents": decision.challenger_metrics["n_events"],
                "scores": [
                    {
                        "title": metric_title(metric),
                        "challenger": decision.challenger_metrics[metric],
                        "champion": (decision.opponent_metrics or {}).get(metric),
                        "difference": _interval(decision.differences.get(metric)),
                    }
                    for metric in COMPARED
                ],
            }
            for decision in sorted(scored, key=lambda decision: (decision.day, decision.number))
        ]


def _interval(difference: Mapping[str, float] | None) -> Json | None:
    return {name: difference[name] for name in ("value", "lower", "upper")} if difference else None


def overview(store: Store, today: date) -> Overview:
    """What the page shows first.

    Raises:
        DamagedError: The log can't be read.
    """
    entries = PromotionLog(store).entries()
    state = fold(entries)
    version, fault = read_version(store, state.champion) if state.champion else (None, None)
    return Overview(entries, state, version, fault, today, store.where("promotions"))


def stale_in_words(store: Store, name: str) -> str | None:
    """Days of a version's window, or of its ancestors', whose clicks were replaced since; empty if none were, None if unknown.

    It reads the manifests of all ancestors, so the page loads it separately.
    """
    stale = staleness(store, [name], ClickCatalog(store).days()).get(name)
    return stale.in_words() if stale is not None else None
