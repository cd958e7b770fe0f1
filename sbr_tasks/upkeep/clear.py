"""Removing what nothing needs: first the record, then the files.

Runs may continue meanwhile. What they read or write is safe for these reasons:

- A revision of clicks is committed as removed before its files go. The commit is made of the log as it is (if another commit
  comes first, it is rebuilt), so a revision that a run has just made current is never removed. A run that reads the log
  afterwards ingests the day again; one that had read it before finds the file missing and says so.
- The record of a window or version goes before its files, so a run finds it whole, or builds it again.
- Files written within the grace period stay; it is longer than a run takes from writing a file to naming it. Each file is
  checked once more just before it is deleted, and stays if it was rewritten since it was listed.
- If a clearing is killed, no record names the files that are left: the next clearing removes them.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from tabulate import tabulate

from sbr_tasks.clicks.catalog import ClickCatalog, DayState, fold
from sbr_tasks.clicks.commits import Commit, Removed
from sbr_tasks.days import describe_days
from sbr_tasks.errors import AlreadyExistsError, DamagedError, DayError
from sbr_tasks.progress import Progress
from sbr_tasks.settings import Settings
from sbr_tasks.store import Json, Stat, Store, kinds
from sbr_tasks.upkeep.inventory import take_inventory
from sbr_tasks.upkeep.plan import Plan, accepted_days, add_days, make_plan, plan_days, revision_files
from sbr_tasks.window.record import Window

logger = logging.getLogger(__name__)

_MAX_LOST = 0.5
"""The share of the accepted days that a clearing removes without confirmation: more is probably a mistake."""


@dataclass(frozen=True)
class Cleared:
    """What a clearing removed, or would remove.

    Attributes:
        newest: The newest decided day, from which days are counted; None while there is none.
        first_run: The oldest day whose run is retained; None while there is no day.
        files: Removed files, by key: what each is, and its bytes.
        days: Days whose clicks are removed.
        n_accepted: Accepted days before the clearing.
        lost: Those of them whose accepted clicks are removed.
        young: Orphans that are too recent to be removed.
        before: Files written later stay, whatever they are.
        is_dry: Nothing was removed.
    """

    newest: date | None
    first_run: date | None
    files: dict[str, tuple[str, int]]
    days: tuple[date, ...]
    n_accepted: int
    lost: tuple[date, ...]
    young: tuple[Stat, ...]
    before: datetime
    is_dry: bool

    def as_dict(self) -> Json:
        """As one JSON object: totals, files and bytes by what they are, and all keys."""
        return {
            "dry_run": self.is_dry,
            "newest_day": str(self.newest) if self.newest else None,
            "first_retained_run": str(self.first_run) if self.first_run else None,
            "accepted_days": self.n_accepted,
            "accepted_days_removed": len(self.lost),
            "files": len(self.files),
            "bytes": sum(size for _, size in self.files.values()),
            "removed": self.by_what(),
            "young_orphans": len(self.young),
            "keys": sorted(self.files),
        }

    def by_what(self) -> dict[str, dict[str, int]]:
        """Number of files and their bytes, by what they are."""
        files, sizes = Counter[str](), Counter[str]()
        for what, size in self.files.values():
            files[what] += 1
            sizes[what] += size
        return {what: {"files": files[what], "bytes": sizes[what]} for what in sorted(files)}


def remove_unneeded(
    store: Store,
    settings: Settings,
    *,
    keep_days: int,
    now: datetime,
    dry_run: bool = False,
    is_confirmed: bool = False,
) -> Cleared:
    """Removes what no retained run and no log entry needs; see docs/store.md#clear for what that is.

    Args:
        store: What to clear.
        settings: `window.days` and `upkeep.grace_hours` count.
        keep_days: Runs of the newest decided day and of this many days before it are retained.
        now: The end of the grace period.
        dry_run: Only say what would go.
        is_confirmed: A person agrees to the removal of more than half of the accepted days.

    Raises:
        DayError: More than half of the accepted days would go, and nobody confirmed that; nothing was removed.
        DamagedError: A record can't be read, so that nobody knows what it needs; nothing was removed.
        StoreError: The store is out of reach; what was removed until then stays removed, and the next clearing continues.
    """
    inventory = take_inventory(store)
    if inventory.faults:
        raise DamagedError(
            f"{len(inventory.faults)} records of the store can't be read, such as {inventory.faults[0].key}, so what they need "
            "isn't known. Nothing was removed. `sbr store check` names them all and says what to do."
        )
    before = now - timedelta(hours=settings.upkeep.grace_hours)
    plan = make_plan(inventory, keep_days=keep_days, window_days=settings.window.days, before=before)
    accepted, lost = accepted_days(inventory.commits, plan.days)
    if not dry_run:

        def build(entries: Sequence[Commit]) -> Mapping[date, Removed]:
            nonlocal accepted, lost
            plan.days = plan_days(entries, inventory, plan)
            accepted, lost = accepted_days(entries, plan.days)
            if _needs_confirmation(len(accepted), len(lost)) and not is_confirmed:
                raise DayError(
                    f"{len(lost)} of {len(accepted)} accepted days would be removed ({describe_days(lost)}), which is more "
                    f"than half. Nothing was removed. Check that {plan.kept.newest}, the newest day in the promotion log, is "
                    f"right, and that you need only the runs of {keep_days} days before it. Then run "
                    f"`sbr store gc --keep-days {keep_days} --yes`."
                )
            return plan.days

        ClickCatalog(store).commit_removal(build, reason=f"sbr store gc --keep-days {keep_days}", at=_second(now))
        add_days(plan, inventory)
        for day, name in plan.windows:
            _keep_record(store, kinds.REMOVED_WINDOW.key(day=day, window=name), inventory.windows[day, name])
        _delete(store, plan)
    return Cleared(
        newest=plan.kept.newest,
        first_run=plan.kept.first_run if plan.kept.newest else None,
        files={key: (what, stat.size) for key, (what, stat) in plan.files.items()},
        days=tuple(sorted(plan.days)),
        n_accepted=len(accepted),
        lost=tuple(lost),
        young=tuple(plan.young),
        before=before,
        is_dry=dry_run,
    )


def _needs_confirmation(n_accepted: int, n_lost: int) -> bool:
    return n_lost > _MAX_LOST * n_accepted


def remove_day(store: Store, day: date, *, reason: str, now: datetime) -> tuple[str, ...]:
    """Removes all revisions of a day, damaged or not, so that the next run that needs the day ingests it again.

    Returns:
        Keys of the files that were removed.

    Raises:
        DayError: The reason is blank, or the catalog knows no clicks of that day.
    """
    if not reason.strip():
        raise DayError("Forgetting a day needs a reason, which is kept in the record; found a blank one.")

    def build(entries: Sequence[Commit]) -> Mapping[date, Removed]:
        revisions = revision_files(entries).get(day, {})
        files = frozenset[str]().union(*revisions.values())
        state = fold(entries).get(day, DayState())
        return (
            {day: Removed(revisions=frozenset(revisions), files=files)}
            if files or (state.removed and not state.forgotten)
            else {}
        )

    removal = ClickCatalog(store).commit_removal(build, reason=reason.strip(), at=_second(now), forgets=True)
    if removal is None:
        raise DayError(f"Expected a day with clicks in the store, found none of {day}. `sbr runs --day {day}` shows its state.")
    keys = tuple(sorted(removal.days[day].files))
    for key in keys:
        store.delete(key)
    logger.info("%s is forgotten (commit %d): %d files removed.", day, removal.number, len(keys))
    return keys


def cleared_table(cleared: Cleared) -> str:
    """What a clearing did, for people; a dry run differs in the last line."""
    rows = [[what, sums["files"], sums["bytes"]] for what, sums in cleared.by_what().items()]
    total = ["all", len(cleared.files), sum(size for _, size in cleared.files.values())]
    lines = [tabulate([*rows, total], headers=["", "files", "bytes"], intfmt=",")]
    if cleared.newest:
        lines.append(f"Runs of {cleared.first_run} to {cleared.newest} are retained.")
    if cleared.young:
        lines.append(f"{len(cleared.young)} orphans are too recent to be removed (upkeep.grace_hours).")
    lines.append(f"Whatever was written after {_second(cleared.before)} stays (upkeep.grace_hours).")
    if cleared.is_dry and _needs_confirmation(cleared.n_accepted, len(cleared.lost)):
        lines.append(f"{len(cleared.lost)} of {cleared.n_accepted} accepted days would be removed, which needs --yes.")
    lines.append("Dry run: nothing was removed." if cleared.is_dry else "Removed.")
    return "\n".join(lines)


def _keep_record(store: Store, key: str, window: Window) -> None:
    try:
        store.create_record(key, window.as_dict())
    except AlreadyExistsError:
        logger.info("%s exists already.", store.where(key))


def _delete(store: Store, plan: Plan) -> None:
    """Deletes records first, then what they name."""
    order = sorted(plan.files, key=lambda key: (not key.endswith(".json"), key))
    with Progress("Clearing the store", len(order), "files", logger) as progress:
        for key in order:
            what, listed = plan.files[key]
            is_half = store.is_half_written(key)
            stat = None if is_half else store.stat(key)
            if is_half:
                store.delete_half_written(key)
            elif stat is None:
                logger.info("%s is gone already.", store.where(key))
            elif stat.modified > listed.modified:
                logger.warning("%s was written again meanwhile, so it stays.", store.where(key))
                del plan.files[key]
            else:
                store.delete(key)
                logger.debug("Removed %s (%s).", key, what)
            progress.advance(1)
    logger.info("Removed %d files, %d bytes.", len(plan.files), sum(stat.size for _, stat in plan.files.values()))


def _second(now: datetime) -> str:
    return now.astimezone(UTC).isoformat(timespec="seconds")
