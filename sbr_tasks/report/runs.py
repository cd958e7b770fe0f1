"""One row a day: what a run found and what it decided, read from the store's records."""

from __future__ import annotations

from collections.abc import Sequence, Set
from datetime import date
from shutil import get_terminal_size

from tabulate import tabulate

from sbr_tasks.clicks.catalog import ClickCatalog, DayState
from sbr_tasks.evaluation.metrics import KNOWN_TARGETS
from sbr_tasks.plain_text import percent
from sbr_tasks.registry.log import Decision, PromotionLog, fold
from sbr_tasks.report.stored import window_of
from sbr_tasks.report.words import OUTCOMES
from sbr_tasks.store import Store
from sbr_tasks.summary import Result
from sbr_tasks.window.coverage import describe_cleansing

_HEADERS = (
    "day",
    "clicks",
    "validation",
    "window clicks",
    "Recall@20\nchallenger",
    "Recall@20\nchampion",
    "MRR@20\nchallenger",
    "MRR@20\nchampion",
    "known targets\nchallenger",
    "known targets\nchampion",
    "decision",
    "reasons",
)
_REASON_WIDTHS = (24, 48)
_OTHER_COLUMNS_WIDTH = 154


class RunRow(Result):
    """One day; None where the run hasn't reached that step yet.

    Attributes:
        day: The day of the run.
        clicks: Clicks of the day that were ingested.
        validation: `accepted`, perhaps with `, released` and `, n warnings`; `quarantined`, `empty`, `incoming`, `removed` or
            `unknown`.
        window_clicks: Clicks of the window's train, validation and test.
        cleansing: What cleansing keeps, in a sentence.
        challenger: Name of the version that was decided on.
        recall_at_20: The challenger's, on the test day.
        champion_recall_at_20: That of the version it was compared with.
        mrr_at_20: The challenger's.
        champion_mrr_at_20: That of the version it was compared with.
        known_targets: The share of test events whose target the challenger knows.
        champion_known_targets: That of the version it was compared with.
        decision: The outcome of its decision.
        is_retired: Whether the challenger was rolled back from since.
        reason: Its reasons, in sentences.
    """

    day: date
    clicks: int | None
    validation: str
    window_clicks: int | None = None
    cleansing: str | None = None
    challenger: str | None = None
    recall_at_20: float | None = None
    champion_recall_at_20: float | None = None
    mrr_at_20: float | None = None
    champion_mrr_at_20: float | None = None
    known_targets: float | None = None
    champion_known_targets: float | None = None
    decision: str | None = None
    is_retired: bool = False
    reason: str | None = None


def run_rows(store: Store, days: Sequence[date] | None = None) -> list[RunRow]:
    """The rows of some days, oldest first; a day that was retrained shows its last decision.

    Args:
        store: Has the records.
        days: The days to show; None: every day with a decision.
    """
    entries = PromotionLog(store).entries()
    decisions = {entry.day: entry for entry in entries if isinstance(entry, Decision)}
    retired = fold(entries).retired
    states = ClickCatalog(store).days()
    shown = sorted(decisions) if days is None else sorted(days)
    return [_row(store, day, states.get(day, DayState()), decisions.get(day), retired) for day in shown]


def run_table(rows: Sequence[RunRow]) -> str:
    """The rows as a table for people, as wide as the terminal allows, and what cleansing keeps on the last of these days."""
    cells = [
        [
            row.day,
            row.clicks,
            row.validation,
            row.window_clicks,
            row.recall_at_20,
            row.champion_recall_at_20,
            row.mrr_at_20,
            row.champion_mrr_at_20,
            *(None if share is None else percent(share) for share in (row.known_targets, row.champion_known_targets)),
            f"{OUTCOMES[row.decision].label if row.decision else 'none'}{', retired' if row.is_retired else ''}",
            row.reason,
        ]
        for row in rows
    ]
    narrow, wide = _REASON_WIDTHS
    free = get_terminal_size((_OTHER_COLUMNS_WIDTH + wide, 24)).columns - _OTHER_COLUMNS_WIDTH
    widths = [None] * (len(_HEADERS) - 1) + [min(max(free, narrow), wide)]
    table = tabulate(
        cells, headers=_HEADERS, intfmt=",", floatfmt=".4f", missingval="-", maxcolwidths=widths, tablefmt="simple_grid"
    )
    costs = [f"{row.day}: {row.cleansing}" for row in rows if row.cleansing]
    return "\n".join([table, *costs[-1:]])


def _row(store: Store, day: date, state: DayState, decision: Decision | None, retired: Set[str]) -> RunRow:
    revision = state.incoming or state.accepted
    row = RunRow(day=day, clicks=revision.rows if revision else None, validation=_validation(state))
    if decision is None:
        return row
    challenger, opponent = decision.challenger_metrics, decision.opponent_metrics or {}
    window = window_of(store, day, decision.window)
    return RunRow(
        day=row.day,
        clicks=row.clicks,
        validation=row.validation,
        window_clicks=window.part_clicks if window else None,
        cleansing=describe_cleansing(window) if window else None,
        challenger=decision.version,
        recall_at_20=challenger.get("recall_at_20"),
        champion_recall_at_20=opponent.get("recall_at_20"),
        mrr_at_20=challenger.get("mrr_at_20"),
        champion_mrr_at_20=opponent.get("mrr_at_20"),
        known_targets=challenger.get(KNOWN_TARGETS),
        champion_known_targets=opponent.get(KNOWN_TARGETS),
        decision=decision.outcome.value,
        is_retired=decision.version in retired,
        reason=" ".join(decision.reasons),
    )


def _validation(state: DayState) -> str:
    if state.status != "accepted":
        return state.status
    n = len(state.warnings) - bool(state.released)  # a release is the first warning
    parts = ["accepted", *(["released"] if state.released else []), *([f"{n} warning{'s' if n > 1 else ''}"] if n else [])]
    return ", ".join(parts)
