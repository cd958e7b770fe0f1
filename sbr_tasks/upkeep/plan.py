"""What nothing needs any more: a pure function of an inventory, a number of days and a moment.

"Now" is the newest decided day: a run is retained if its day is at most `keep_days` before it. No click moves it, because one
wrong clock would make every real day old.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from sbr_tasks.clicks.catalog import DayState
from sbr_tasks.clicks.catalog import fold as fold_days
from sbr_tasks.clicks.commits import Commit, Import, Removal, Removed, Validation
from sbr_tasks.registry.log import Decision
from sbr_tasks.registry.log import fold as fold_promotions
from sbr_tasks.store import Stat, kinds
from sbr_tasks.upkeep.inventory import Inventory

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
        windows: Windows that a log entry names, by day and fingerprint: their records stay as `removed.json`.
        files: Everything that is deleted, by key: what it is (`clicks`, `windows`, ..., `orphans`), and what was listed of it.
        young: Orphans that are too recent to be removed.
    """

    kept: Kept
    days: dict[date, Removed]
    windows: list[tuple[date, str]] = field(default_factory=list)
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
    _add_windows(plan, inventory)
    plan.days = plan_days(inventory.commits, inventory, plan)
    add_days(plan, inventory)
    _add_versions(plan, inventory)
    _add_evaluations(plan, inventory)
    _add_serving(plan, inventory)
    _add_recommendations(plan, inventory)
    _add(plan, inventory, "checkpoints", (key for key in inventory.stats if kinds.CHECKPOINT.parse(key)))
    for stat in inventory.orphans():
        if stat.key.split("/", 1)[0] not in _LOGS and stat.key not in plan.files:
            if stat.modified < before:
                plan.files[stat.key] = ("orphans", stat)
            else:
                plan.young.append(stat)
    return plan


def plan_days(commits: Sequence[Commit], inventory: Inventory, plan: Plan) -> dict[date, Removed]:
    """Revisions and files of clicks that no retained run needs, given some commits.

    A revision stays if the day is in the window of a retained run and it is the day's newest, or if a remaining window was
    built from it.
    """
    states = fold_days(commits)
    used = {
        (used_day, rev)
        for (day, name), window in inventory.windows.items()
        if kinds.WINDOW.key(day=day, window=name) not in plan.files
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
    accepted = {day: state.accepted.rev for day, state in fold_days(commits).items() if state.accepted}
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


def _add(plan: Plan, inventory: Inventory, what: str, keys: Iterator[str]) -> None:
    plan.files |= {key: (what, inventory.stats[key]) for key in keys if inventory.stats[key].modified < plan.kept.before}


def _add_folder(plan: Plan, inventory: Inventory, what: str, folder: str) -> None:
    plan.files |= {key: (what, stat) for key, stat in inventory.stats.items() if key.startswith(f"{folder}/")}


def _add_windows(plan: Plan, inventory: Inventory) -> None:
    decided = {(entry.day, entry.window) for entry in inventory.entries if isinstance(entry, Decision)}
    for day, name in inventory.windows:
        window = {"day": day, "window": name}
        if day >= plan.kept.first_run or inventory.stats[kinds.WINDOW.key(**window)].modified >= plan.kept.before:
            continue
        _add_folder(plan, inventory, "windows", kinds.WINDOW.folder(**window))
        plan.files.pop(kinds.REMOVED_WINDOW.key(**window), None)
        if (day, name) in decided:
            plan.windows.append((day, name))


def _add_versions(plan: Plan, inventory: Inventory) -> None:
    """Every version that the log names stays, and its ancestors: it may be champion again, or is what a decision was about."""
    kept = {name for name in inventory.versions if date.fromisoformat(name[:10]) >= plan.kept.first_run}
    for entry in inventory.entries:
        opponent = entry.opponent if isinstance(entry, Decision) else None
        kept |= {name for name in (entry.version, entry.before, entry.champion, opponent) if name}
    line = list(kept)
    while line:
        version = inventory.versions.get(line.pop())
        parent = version.inputs.parent if version else None
        if parent and parent not in kept:
            kept.add(parent)
            line.append(parent)
    for name in inventory.versions.keys() - kept:
        if inventory.stats[kinds.VERSION.key(version=name)].modified < plan.kept.before:
            _add_folder(plan, inventory, "models", kinds.VERSION.folder(version=name))


def _add_evaluations(plan: Plan, inventory: Inventory) -> None:
    days = {entry.window: entry.day for entry in inventory.entries if isinstance(entry, Decision)}
    days |= {name: day for day, name in inventory.windows}
    days |= {fields["window"]: fields["day"] for key in inventory.stats if (fields := kinds.WINDOW_FILE.parse(key))}
    old = (
        key
        for key in inventory.stats
        if (fields := kinds.RANKS.parse(key))
        and days.get(fields["window"], date.min) < plan.kept.first_run
        and key in inventory.named
    )
    _add(plan, inventory, "evaluations", old)


def _add_serving(plan: Plan, inventory: Inventory) -> None:
    """Copies older than the champion's are removed, once that one is complete."""
    champion = fold_promotions(inventory.entries).champion_entry
    complete = sorted(fields["number"] for key in inventory.stats if (fields := kinds.SERVED.parse(key)))
    if champion not in complete:
        return
    kept = {champion, *complete[-_COPIES_KEPT:]}
    numbers = {key: _serving_number(key) for key in inventory.stats if key in inventory.named}
    old = (key for key, number in numbers.items() if number and number < champion and number not in kept)
    _add(plan, inventory, "serving", old)


def _add_recommendations(plan: Plan, inventory: Inventory) -> None:
    champion = fold_promotions(inventory.entries).champion
    old = (
        key
        for key in inventory.stats
        if (fields := kinds.NEXT_ITEMS.parse(key))
        and key in inventory.named
        and fields["version"] != champion
        and date.fromisoformat(fields["version"][:10]) < plan.kept.first_run
    )
    _add(plan, inventory, "recommendations", old)


def _serving_number(key: str) -> int | None:
    """The log entry that a file of a serving copy, or its record, belongs to."""
    if record := kinds.SERVED.parse(key):
        return int(record["number"])
    file = kinds.SERVED_FILE.parse(key)
    return int(file["entry"]) if file else None
