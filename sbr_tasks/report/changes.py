"""What changed between a run and the one before it: settings, data and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sbr_tasks.days import describe_days
from sbr_tasks.evaluation.metrics import metric_title
from sbr_tasks.registry.gate import COMPARED
from sbr_tasks.registry.log import Decision, Entry
from sbr_tasks.store import Json
from sbr_tasks.window.build import PARTS


@dataclass(frozen=True)
class Change:
    """One fact of the run before and of this one, in words; `by` says by how much where both are numbers."""

    what: str
    before: str
    now: str
    by: str = ""


@dataclass(frozen=True)
class Facts:
    """What a run is compared by.

    Attributes:
        promotion: Its decision.
        window: The manifest of its window; None where it is lost.
        version: The manifest of its version; None where it is lost.
    """

    promotion: Decision
    window: Json | None
    version: Json | None


@dataclass(frozen=True)
class Changes:
    """What changed since the previous run: settings only where they differ, data and scores always."""

    settings: tuple[Change, ...]
    data: tuple[Change, ...]
    scores: tuple[Change, ...]


def previous_run(entries: Sequence[Entry], promotion: Decision) -> Decision | None:
    """The decision that a run is compared with: the last one, before it, on the newest day that isn't after its own."""
    until = promotion.number - 1 if promotion.number else len(entries)
    earlier = [
        entry
        for entry in entries[:until]
        if isinstance(entry, Decision) and entry.as_of <= promotion.as_of and entry.version != promotion.version
    ]
    return max(earlier, key=lambda entry: (entry.as_of, entry.number), default=None)


def changes_between(before: Facts, now: Facts) -> Changes:
    """What changed from one run to another."""
    old, new = _settings(before), _settings(now)
    differing = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    return Changes(
        settings=tuple(Change(name, _value(old.get(name)), _value(new.get(name))) for name in differing),
        data=tuple(_data(before, now)),
        scores=tuple(_scores(before.promotion, now.promotion)),
    )


def _settings(facts: Facts) -> Json:
    """Settings, code and packages of a run by dotted name; those of a lost record are missing."""
    window, version = facts.window or {"inputs": {}}, facts.version or {"inputs": {}}
    of_window, of_version = window["inputs"], version["inputs"]
    lineage = version.get("lineage", {})
    named = {
        "window": of_window.get("window", {}),
        **{name: of_version.get(name, {}) for name in ("model", "training", "serving")},
        "package": lineage.get("packages", {}),
    }
    flat = {f"{section}.{name}": value for section, values in named.items() for name, value in values.items()}
    known = {
        "timezone": of_window.get("timezone"),
        "parent (warm start)": of_version.get("parent"),
        "window code": of_window.get("code"),
        "training and scoring code": of_version.get("code"),
        "git revision": lineage.get("git_revision"),
        "python": lineage.get("python"),
    }
    return flat | {name: value for name, value in known.items() if value is not None}


def _data(before: Facts, now: Facts) -> list[Change]:
    if before.window is None or now.window is None:
        return []
    old, new = before.window, now.window
    revisions: list[Mapping[str, str]] = [facts["inputs"]["revisions"] for facts in (old, new)]
    replaced = [day for day, rev in revisions[0].items() if revisions[1].get(day, rev) != rev]
    counts = {"accepted clicks": [window["clicks"] for window in (old, new)]}
    counts |= {f"{part} sessions": [window["parts"][part]["sessions"] for window in (old, new)] for part in PARTS}
    counts["items in the index"] = [window["n_items"] for window in (old, new)]
    return [
        Change("days", _days(revisions[0]), _days(revisions[1])),
        Change("days whose clicks changed", "", _days(replaced)),
        Change("missing days", _days(old["missing_days"]), _days(new["missing_days"])),
        *(Change(what, f"{was:,}", f"{is_now:,}", _relative(was, is_now)) for what, (was, is_now) in counts.items()),
    ]


def _scores(before: Decision, now: Decision) -> list[Change]:
    names = [name for name in now.baselines if name in before.baselines]
    pairs: list[tuple[str, Mapping[str, float], Mapping[str, float]]] = [
        ("challenger", before.challenger_metrics, now.challenger_metrics),
        *((f"{name} baseline", before.baselines[name], now.baselines[name]) for name in names),
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
        was, is_now = (int(found) for found in events if found is not None)
        scores.append(Change("test events", f"{was:,}", f"{is_now:,}", _relative(was, is_now)))
    return scores


def _days(days: Sequence[str] | Mapping[str, Any]) -> str:
    return describe_days([date.fromisoformat(day) for day in days]) or "none"


def _relative(was: float, is_now: float) -> str:
    return f"{100 * (is_now / was - 1):+.1f}%" if was else ""


def _value(value: Any) -> str:
    return "" if value is None else str(value)
