"""What changed between a run and the one before it: settings, data and scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sbr_tasks.days import describe_days
from sbr_tasks.evaluation.metrics import metric_title
from sbr_tasks.registry.gate import BASELINE_NAMES, COMPARED
from sbr_tasks.registry.log import Decision, Entry
from sbr_tasks.registry.versions import ModelVersion
from sbr_tasks.window.record import PARTS, Window


@dataclass(frozen=True)
class Change:
    """One fact of the run before and of this one, in words; `by` says by how much where both are numbers."""

    what: str
    before: str
    now: str
    by: str = ""


@dataclass(frozen=True)
class RunRecords:
    """What a run is compared by.

    Attributes:
        decision: Its decision.
        window: None where its record is lost.
        version: None where its record is lost.
    """

    decision: Decision
    window: Window | None
    version: ModelVersion | None


@dataclass(frozen=True)
class Changes:
    """What changed since the previous run: settings only where they differ, data and scores always."""

    settings: tuple[Change, ...]
    data: tuple[Change, ...]
    scores: tuple[Change, ...]


def previous_run(entries: Sequence[Entry], decision: Decision) -> Decision | None:
    """The decision that a run is compared with: the last one, before it, on the newest day that isn't after its own."""
    until = decision.number - 1 if decision.number else len(entries)
    earlier = [
        entry
        for entry in entries[:until]
        if isinstance(entry, Decision) and entry.day <= decision.day and entry.version != decision.version
    ]
    return max(earlier, key=lambda entry: (entry.day, entry.number), default=None)


def changes_between(before: RunRecords, now: RunRecords) -> Changes:
    """What changed from one run to another."""
    old, new = _settings(before), _settings(now)
    differing = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    return Changes(
        settings=tuple(Change(name, _value(old.get(name)), _value(new.get(name))) for name in differing),
        data=tuple(_data(before, now)),
        scores=tuple(_scores(before.decision, now.decision)),
    )


def _settings(records: RunRecords) -> dict[str, Any]:
    """Settings, code and packages of a run by dotted name; those of a lost record are missing."""
    flat: dict[str, Any] = {}
    if records.window:
        inputs = records.window.inputs
        flat |= {f"window.{name}": value for name, value in inputs.window.as_dict().items()}
        flat |= {"timezone": inputs.timezone, "window code": inputs.code}
    if records.version:
        trained, lineage = records.version.inputs, records.version.lineage
        for section in ("model", "training", "serving"):
            flat |= {f"{section}.{name}": value for name, value in trained.as_dict()[section].items()}
        flat |= {f"package.{name}": release for name, release in lineage.packages.items()}
        flat |= {
            "parent (warm start)": trained.parent,
            "training and scoring code": trained.code,
            "git revision": lineage.git_revision,
            "python": lineage.python,
        }
    return {name: value for name, value in flat.items() if value is not None}


def _data(before: RunRecords, now: RunRecords) -> list[Change]:
    if before.window is None or now.window is None:
        return []
    windows = (before.window, now.window)
    old, new = (window.inputs.revisions for window in windows)
    replaced = [day for day, rev in old.items() if new.get(day, rev) != rev]
    counts = {"accepted clicks": [window.clicks for window in windows]}
    counts |= {f"{part} sessions": [window.parts[part].sessions for window in windows] for part in PARTS}
    counts["items in the index"] = [window.n_items for window in windows]
    return [
        Change("days", _days(old), _days(new)),
        Change("days whose clicks changed", "", _days(replaced)),
        Change("missing days", _days(before.window.missing_days), _days(now.window.missing_days)),
        *(Change(what, f"{was:,}", f"{is_now:,}", _relative(was, is_now)) for what, (was, is_now) in counts.items()),
    ]


def _scores(before: Decision, now: Decision) -> list[Change]:
    names = [name for name in now.baselines if name in before.baselines]
    pairs: list[tuple[str, Mapping[str, float], Mapping[str, float]]] = [
        ("challenger", before.challenger_metrics, now.challenger_metrics),
        *((f"{BASELINE_NAMES.get(name, name)} baseline", before.baselines[name], now.baselines[name]) for name in names),
    ]
    scores = [
        Change(
            f"{metric_title(metric)}, {who}",
            f"{old[metric]:.4f}",
            f"{new[metric]:.4f}",
            _relative(old[metric], new[metric]),
        )
        for who, old, new in pairs
        for metric in COMPARED
        if metric in old and metric in new
    ]
    events = [metrics.get("n_events") for metrics in (before.challenger_metrics, now.challenger_metrics)]
    if None not in events:
        was, is_now = (int(count) for count in events if count is not None)
        scores.append(Change("test events", f"{was:,}", f"{is_now:,}", _relative(was, is_now)))
    return scores


def _days(days: Iterable[date]) -> str:
    return describe_days([*days]) or "none"


def _relative(was: float, is_now: float) -> str:
    return f"{100 * (is_now / was - 1):+.1f}%" if was else ""


def _value(value: Any) -> str:
    return "" if value is None else str(value)
