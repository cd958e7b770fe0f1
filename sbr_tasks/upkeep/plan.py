"""What nothing needs any more: a pure function of an inventory, a number of days and a moment.

"Now" is the newest decided day: a run is retained if its day is at most `keep_days` before it. No click moves it, because one
wrong clock would make every real day old.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from sbr_tasks.clicks.catalog import DayState, day_states
from sbr_tasks.clicks.commits import Commit, Import, Removal, Removed, Validation
from sbr_tasks.registry.log import Decision, fold
from sbr_tasks.store import Stat, kinds
from sbr_tasks.upkeep.inventory import Inventory
from sbr_tasks.window.record import Window

_LOGS = (kinds.COMMIT.area, kinds.ENTRY.area)
_COPIES_KEPT = 2
"""Newest serving copies that stay: a server may be loading the last but one."""


@dataclass(frozen=True)
class Kept:
    """What counts as needed.

    Attributes:
        newest: The newest day in the promotion log; None while there is none, and then all days are kept.
        first_run: The oldest day whose run is retained.
        first_day: The oldest day of the window of a retained run.
        before: Files written at this moment or later are kept, whatever they are.
    """

    newest: date | None
    first_run: date
    first_day: date
    before: datetime


@dataclass
class Plan:
    """What is removed.

    Attributes:
        kept: The limits that it follows from.
        days: Revisions and files of clicks, by day, as they are committed.
        windows: Windows that a log entry names: their records stay as `removed.json`.
        files: Everything that is deleted, by key: what it is (`clicks`, `windows`, ..., `orphans`), and what was listed of it.
        young: Orphans that are too recent to be removed.
    """

    kept: Kept
    days: dict[date, Removed]
    windows: list[Window] = field(default_factory=list)
    files: dict[str, tuple[str, Stat]] = field(default_factory=dict)
    young: list[Stat] = field(default_factory=list)


def make_plan(inventory: Inventory, *, keep_days: int, window_days: int, before: datetime) -> Plan:
    """What a clearing of the store removes.

    Args:
        inventory: The store; its records can all be read.
        keep_days: Days before the newest decided one whose runs are retained.
        window_days: Length of a window.
        before: Only files last written before this moment are removed.
    """
    newest = max((entry.day for entry in inventory.entries if isinstance(entry, Decision)), default=None)
    first_run = newest - timedelta(days=keep_days) if newest else date.min
    first_day = first_run - timedelta(days=window_days - 1) if newest else date.min
    plan = Plan(Kept(newest, first_run, first_day, before), {})
    gone = {
        key
        for kind, is_needed in _needs(inventory, first_run).items()
        for key in inventory.named.keys() & inventory.stats.keys()
        if (fields := kind.parse(key)) and not is_needed(fields) and inventory.stats[key].modified < before
    }
    for key, named in inventory.named.items():
        if named.record in gone and key in inventory.stats:
            plan.files[key] = (kinds.area_of(key), inventory.stats[key])
    decided = {(entry.day, entry.window) for entry in inventory.entries if isinstance(entry, Decision)}
    removed = [window for key, window in inventory.windows.items() if key in gone]
    plan.windows = [window for window in removed if (window.day, window.fingerprint) in decided]
    plan.days = plan_days(inventory.commits, inventory, plan)
    add_days(plan, inventory)
    for stat in inventory.orphans():
        if kinds.area_of(stat.key) not in _LOGS:
            if stat.modified < before:
                plan.files[stat.key] = ("orphans", stat)
            else:
                plan.young.append(stat)
    return plan


def _needs(inventory: Inventory, first_run: date) -> Mapping[kinds.Kind, Callable[[dict[str, Any]], bool]]:
    """Which records are needed, by kind and the fields of their keys; the files that a record names go with it.

    Records of other kinds always stay.
    """
    entries = inventory.entries
    state = fold(entries)
    versions, kept_versions = inventory.versions, _kept_versions(inventory, first_run)
    days = {entry.window: entry.day for entry in entries if isinstance(entry, Decision)}
    days |= {window.fingerprint: window.day for window in inventory.windows.values()}
    copies = sorted(fields["number"] for key in inventory.stats if (fields := kinds.SERVED.parse(key)))
    # Older copies stay until the champion's is complete.
    oldest_copy = state.champion_entry if state.champion_entry in copies else 0
    return {
        kinds.WINDOW: lambda fields: fields["day"] >= first_run,
        kinds.VERSION: lambda fields: fields["version"] in kept_versions,
        kinds.SCORE: lambda fields: days.get(fields["window"], date.min) >= first_run,
        kinds.SERVED: lambda fields: fields["number"] >= oldest_copy or fields["number"] in copies[-_COPIES_KEPT:],
        kinds.NEXT_ITEMS: lambda fields: fields["version"] == state.champion or versions[fields["version"]].day >= first_run,
        kinds.CHECKPOINT: lambda _: False,
    }


def _kept_versions(inventory: Inventory, first_run: date) -> set[str]:
    """Every version that the log names stays, and its ancestors: it may be champion again, or is what a decision was about."""
    versions = inventory.versions
    kept = {name for name, version in versions.items() if version.day >= first_run}
    for entry in inventory.entries:
        opponent = entry.opponent if isinstance(entry, Decision) else None
        kept |= {name for name in (entry.version, entry.before, entry.champion, opponent) if name}
    for name in sorted(kept):
        version = versions.get(name)
        while version and (parent := version.inputs.parent) and parent not in kept:
            kept.add(parent)
            version = versions.get(parent)
    return kept


def plan_days(commits: Sequence[Commit], inventory: Inventory, plan: Plan) -> dict[date, Removed]:
    """Revisions and files of clicks that no retained run needs, given some commits.

    A revision stays if the day is in the window of a retained run and it is the day's newest, or if a remaining window was
    built from it.
    """
    states = day_states(commits)
    used = {
        (used_day, rev)
        for key, window in inventory.windows.items()
        if key not in plan.files
        for used_day, rev in window.inputs.revisions.items()
    }
    removed: dict[date, Removed] = {}
    for day, revisions in revision_files(commits).items():
        state, gone, files = states.get(day, DayState()), set[str](), set[str]()
        last = {one.rev for one in (state.pending, state.accepted, state.quarantined) if one}
        for rev, keys in revisions.items():
            is_needed = (day >= plan.kept.first_day and rev in last) or (day, rev) in used
            is_old = all(key not in inventory.stats or inventory.stats[key].modified < plan.kept.before for key in keys)
            if keys and is_old and not is_needed:
                files |= keys
                gone.add(rev)
        if gone:
            removed[day] = Removed(revisions=frozenset(gone), files=frozenset(files))
    return removed


def accepted_days(commits: Sequence[Commit], removed: Mapping[date, Removed]) -> tuple[list[date], list[date]]:
    """All accepted days, given some commits, and those of them whose accepted clicks a removal deletes."""
    accepted = {day: state.accepted.rev for day, state in day_states(commits).items() if state.accepted}
    return list(accepted), [day for day, rev in accepted.items() if day in removed and rev in removed[day].revisions]


def revision_files(commits: Sequence[Commit]) -> dict[date, dict[str, set[str]]]:
    """Keys of files by day and revision; without what was removed."""
    files: dict[date, dict[str, set[str]]] = {}
    for commit in commits:
        if isinstance(commit, Removal):
            for day, removed in commit.days.items():
                for keys in files.get(day, {}).values():
                    keys.difference_update(removed.files)
        for day, rev, keys in _files_of(commit):
            files.setdefault(day, {}).setdefault(rev, set()).update(keys)
    return files


def _files_of(commit: Commit) -> Iterator[tuple[date, str, set[str]]]:
    """Day, revision and keys of what a commit makes part of the store."""
    if isinstance(commit, Import):
        yield from ((day, revision.rev, {revision.file.key}) for day, revision in commit.days.items())
    elif isinstance(commit, Validation):
        yield from ((day, judged.rev, judged.keys) for day, judged in commit.days.items())


def add_days(plan: Plan, inventory: Inventory) -> None:
    """Puts the files of `plan.days` on the list, in place of those that were there."""
    plan.files = {key: entry for key, entry in plan.files.items() if entry[0] != "clicks"}
    for removed in plan.days.values():
        for key in removed.files & inventory.stats.keys():
            plan.files[key] = ("clicks", inventory.stats[key])
