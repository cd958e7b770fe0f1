"""Stores with the records of many days of runs, whose models were never trained: what pages and benchmarks read."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from statistics import NormalDist
from typing import Any

import numpy as np

from benchmarks.records import source_record_of, version_record_of
from sbr_tasks.clicks.commits import Import, Judgement, Revision, Validation
from sbr_tasks.evaluation.comparison import Difference
from sbr_tasks.gru4rec.curve import Epoch
from sbr_tasks.readout import Mixture
from sbr_tasks.readout.mixture import Shares
from sbr_tasks.registry.gate import COMPARED, Contender, Metrics, Opponent, decide
from sbr_tasks.registry.log import Decision, Entry, LogState, PromotionLog, Rollback, fold
from sbr_tasks.registry.versions import Choice
from sbr_tasks.settings import GateSettings, ModelSettings, load_settings
from sbr_tasks.store import FileRecord, NumberedLog, Store, kinds

WINDOW_DAYS = 30
SETTINGS = GateSettings(confidence=0.95)
N_EVENTS, N_SESSIONS = 4000, 1200
MIXTURE = Mixture(
    temperature=1.25,
    biases=(-0.9, 0.7, 0.4, 0.2, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0),
    own_items=(0.04, 0.31, 0.11, 0.08, 0.05, 0.04, 0.03, 0.02, 0.02, 0.01),
    shares=tuple(
        Shares(gru4rec=gru4rec, covisits=covisits, own_items=1 - gru4rec - covisits)
        for gru4rec, covisits in ((0.58, 0.38), (0.47, 0.27), (0.46, 0.22), (0.45, 0.2), (0.43, 0.18))
    ),
    n_events=2618,
)


def seed_history(store: Store, last: date, n_days: int, *, seed: int = 7, rollback: bool = True) -> list[Entry]:
    """Writes `n_days` days that end with `last`: commits of clicks, a version and a decision each, and perhaps a rollback.

    A rollback comes once two thirds of the days are over and there is an earlier champion to return to.

    Returns:
        The promotion log.
    """
    rng = np.random.default_rng(seed)
    days = [last - timedelta(days=n_days - 1 - i) for i in range(n_days)]
    for number, day in enumerate([days[0] - timedelta(days=i) for i in range(WINDOW_DAYS - 1, 0, -1)] + days):
        _write_commits(store, 2 * number + 1, day)
    log, state, entries, level = PromotionLog(store), LogState(), list[Entry](), 0.40
    for i, day in enumerate(days):
        name = f"{day}-{int(rng.integers(2**32)):08x}"
        level += float(rng.normal(0.0004, 0.001))
        write_manifest(store, name, parent=state.champion, mixture=MIXTURE)
        entry = _decision(state, name, day, level + float(rng.normal(0, 0.006)), rng)
        log.create(entry)
        entries.append(entry)
        state = fold(entries)
        before = sorted(state.were_champion - state.retired - {str(state.champion)})
        if rollback and i >= 2 * n_days // 3 and before:
            rollback = False
            back = _rollback(state, before[-1])
            log.create(back)
            entries.append(back)
            state = fold(entries)
    return entries


def write_manifest(store: Store, name: str, *, parent: str | None = None, mixture: Mixture | None = None) -> None:
    """The record of a version that has no files."""
    day = date.fromisoformat(name[:10])
    days = [day - timedelta(days=i) for i in reversed(range(WINDOW_DAYS))]
    curve = [
        Epoch(
            number=n,
            loss=7.5 - 0.8 * n**0.5,
            validation_recall_at_20=0.30 + 0.02 * n - 0.002 * n**2,
            validation_mrr_at_20=0.12 + 0.01 * n - 0.001 * n**2,
            took_s=41.5,
            events_per_second=52000.0,
        )
        for n in range(1, 7)
    ]
    version = version_record_of(
        name,
        window=f"{day:%Y%m%d}00000000",
        model=ModelSettings(layers=(100,), batch_size=64, n_epochs=6, learning_rate=0.1),
        parent=parent,
        window_days=WINDOW_DAYS,
        revisions={day: revision_of(day) for day in days},
        curve=tuple(curve),
        choice=Choice(day=day, n_epochs=5, mixture=mixture),
        n_events=1_250_000,
        n_items=31_000,
        took_s=251.0,
        trained_at=f"{day + timedelta(days=1)}T00:21:00+00:00",
    )
    store.create_record(kinds.VERSION.key(version=name), version.as_dict())


def revision_of(day: date) -> str:
    """The revision that a day's clicks have."""
    return f"{day:%Y%m%d}cafe"


def _write_commits(store: Store, number: int, day: date) -> None:
    revision = Revision(
        day=day,
        rev=revision_of(day),
        file=FileRecord(key=f"clicks/day={day}/clicks.parquet", size=1, sha256="0" * 64),
        rows=180_000,
        sessions=50_000,
        items=12_000,
        first="",
        last="",
    )
    judged = Judgement(
        rev=revision.rev,
        accepted=True,
        warnings=("volume: 180,000 clicks are far from the median of 120,000",) if day.day == 13 else (),
        result=f"validation/day={day}/result.json",
        data_docs=f"validation/day={day}/data_docs.html",
    )
    at = f"{day + timedelta(days=1)}T00:05:00+00:00"
    source = source_record_of(load_settings({"source.path": "in"}))
    log = NumberedLog(store, kinds.COMMIT)
    log.create(number, Import(at=at, source=source, days={day: revision}, empty=(), kept={}).as_dict())
    log.create(number + 1, Validation(at=at, days={day: judged}).as_dict())


def _decision(state: LogState, name: str, day: date, level: float, rng: np.random.Generator) -> Decision:
    metrics, baselines = _metrics(level), {"popularity": _metrics(0.05), "markov": _metrics(0.31), "covisits": _metrics(0.37)}
    opponent = champion = None
    differences: dict[str, Difference] = {}
    if state.champion:
        gap = float(rng.normal(0.0015, 0.004))
        scored = _metrics(level - gap)
        for metric in COMPARED:
            value, half = metrics[metric] - scored[metric], 0.01 * scored[metric]
            wide = half * NormalDist().inv_cdf(0.975) / NormalDist().inv_cdf(0.95)
            better = NormalDist().cdf(value * NormalDist().inv_cdf(0.95) / half)
            differences[metric] = Difference(value, value - wide, value + wide, better, gate_bound=value - half)
        opponent, champion = scored, Opponent(state.champion, scored, differences)
    contender = Contender(name, day, metrics)
    decision = decide(contender, champion, baselines=baselines, live_day=state.champion_day, settings=SETTINGS)
    outcome = decision.outcome
    return Decision(
        number=state.n_entries + 1,
        version=name,
        day=day,
        outcome=outcome,
        reasons=decision.reasons,
        opponent=state.champion,
        before=state.champion,
        champion=name if outcome.moves_champion else state.champion,
        challenger_metrics=metrics,
        opponent_metrics=opponent,
        differences={metric: found.as_dict() for metric, found in differences.items()},
        baselines=baselines,
        neural_gain={metric: _gain(metrics[metric] - baselines["covisits"][metric]) for metric in COMPARED},
        window=f"{day:%Y%m%d}00000000",
        actor=f"scheduled__{day + timedelta(days=1)}T00:00:00+00:00",  # Airflow names a run by the end of its interval
        at=f"{day + timedelta(days=1)}T00:35:00+00:00",
        by_length={name: _by_length(level)} | ({state.champion: _by_length(level - 0.001)} if state.champion else {}),
    )


def _gain(value: float) -> dict[str, float]:
    return Difference(value, value - 0.012, value + 0.012, 0.99).as_dict()


def _rollback(state: LogState, to: str) -> Rollback:
    at = datetime.combine(state.days[str(state.champion)] + timedelta(days=1), datetime.min.time()).replace(hour=9)
    return Rollback(
        number=state.n_entries + 1,
        version=to,
        day=state.days[to],
        before=str(state.champion),
        reason="The shop's editors saw sold-out items at the top of the list.",
        actor="manual__seeded",
        at=f"{at.isoformat()}+00:00",
    )


def _metrics(recall: float) -> Metrics:
    ks = {1: 0.22, 5: 0.55, 10: 0.78, 20: 1.0}
    found: dict[str, Any] = {f"recall_at_{k}": recall * share for k, share in ks.items()}
    found |= {f"mrr_at_{k}": recall * 0.42 * share**0.25 for k, share in ks.items()}
    knowledge = {"known_targets": 0.93, "known_inputs": 0.94, "recall_at_20_among_known": recall / 0.93}
    return found | {"n_events": N_EVENTS, "n_sessions": N_SESSIONS} | knowledge


def _by_length(recall: float) -> dict[str, Metrics]:
    lengths = {"2": (0.9, 900), "3-5": (1.0, 1900), "6+": (1.08, 1200)}
    return {
        name: {"recall_at_20": recall * share, "mrr_at_20": recall * 0.42 * share, "n_events": n}
        for name, (share, n) in lengths.items()
    }
