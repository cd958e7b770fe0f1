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
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

from pydantic import Field
from tabulate import tabulate

from sbr_tasks.clicks.catalog import ClickCatalog, DayState, day_states
from sbr_tasks.clicks.commits import Commit, Removed
from sbr_tasks.days import describe_days
from sbr_tasks.errors import AlreadyExistsError, DamagedError, DayError
from sbr_tasks.progress import Progress
from sbr_tasks.settings import Settings
from sbr_tasks.store import Store, kinds
from sbr_tasks.summary import Result
from sbr_tasks.upkeep.inventory import take_inventory
from sbr_tasks.upkeep.plan import Plan, accepted_days, add_days, make_plan, plan_days, revision_files
from sbr_tasks.window.record import Window
from sbr_tasks.wish import require_reason

logger = logging.getLogger(__name__)

_MAX_LOST = 0.5
"""The share of the accepted days that a clearing removes without confirmation: more is probably a mistake."""


class Cleared(Result):
    """What a clearing removed, or would remove.

    Attributes:
        dry_run: Nothing was removed.
        newest_day: The newest decided day, from which days are counted; None while there is none.
        first_retained_run: The oldest day whose run is retained; None while there is no day.
        accepted_days: Accepted days before the clearing.
        accepted_days_removed: Those of them whose accepted clicks are removed.
        files: Number of removed files.
        bytes: Their bytes.
        removed: `files` and `bytes`, by what they are.
        young_orphans: Orphans that are too recent to be removed.
        keys: The keys of the removed files, sorted.
    """

    dry_run: bool
    newest_day: date | None
    first_retained_run: date | None
    accepted_days: int
    accepted_days_removed: int
    files: int
    bytes: int
    removed: Mapping[str, Mapping[str, int]]
    young_orphans: int
    keys: tuple[str, ...] = Field(exclude=True, repr=False)


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
        for window in plan.windows:
            _keep_record(store, window)
        _delete(store, plan)
    by_what: dict[str, dict[str, int]] = {}
    for what, stat in sorted(plan.files.values(), key=lambda file: file[0]):
        sums = by_what.setdefault(what, {"files": 0, "bytes": 0})
        sums["files"] += 1
        sums["bytes"] += stat.size
    cleared = Cleared(
        dry_run=dry_run,
        newest_day=plan.kept.newest,
        first_retained_run=plan.kept.first_run if plan.kept.newest else None,
        accepted_days=len(accepted),
        accepted_days_removed=len(lost),
        files=len(plan.files),
        bytes=sum(sums["bytes"] for sums in by_what.values()),
        removed=by_what,
        young_orphans=len(plan.young),
        keys=tuple(sorted(plan.files)),
    )
    return cleared.model_copy(update={"text": _table(cleared, before)})


def _needs_confirmation(n_accepted: int, n_lost: int) -> bool:
    return n_lost > _MAX_LOST * n_accepted


def remove_day(store: Store, day: date, *, reason: str, now: datetime) -> tuple[str, ...]:
    """Removes all revisions of a day, damaged or not, so that the next run that needs the day ingests it again.

    Returns:
        Keys of the files that were removed.

    Raises:
        DayError: The catalog knows no clicks of that day.
        ReasonError: The reason is blank.
    """
    reason = require_reason(reason, "Forgetting a day")

    def build(entries: Sequence[Commit]) -> Mapping[date, Removed]:
        revisions = revision_files(entries).get(day, {})
        files = frozenset[str]().union(*revisions.values())
        state = day_states(entries).get(day, DayState())
        return (
            {day: Removed(revisions=frozenset(revisions), files=files)}
            if files or (state.removed and not state.forgotten)
            else {}
        )

    removal = ClickCatalog(store).commit_removal(build, reason=reason, at=_second(now), forgets=True)
    if removal is None:
        raise DayError(f"Expected a day with clicks in the store, found none of {day}. `sbr runs --day {day}` shows its state.")
    keys = tuple(sorted(removal.days[day].files))
    for key in keys:
        store.delete(key)
    logger.info("%s is forgotten (commit %d): %d files removed.", day, removal.number, len(keys))
    return keys


def _table(cleared: Cleared, before: datetime) -> str:
    """A dry run differs in the last line."""
    rows = [[what, sums["files"], sums["bytes"]] for what, sums in cleared.removed.items()]
    lines = [tabulate([*rows, ["all", cleared.files, cleared.bytes]], headers=["", "files", "bytes"], intfmt=",")]
    if cleared.newest_day:
        lines.append(f"Runs of {cleared.first_retained_run} to {cleared.newest_day} are retained.")
    if cleared.young_orphans:
        lines.append(f"{cleared.young_orphans} orphans are too recent to be removed (upkeep.grace_hours).")
    lines.append(f"Whatever was written after {_second(before)} stays (upkeep.grace_hours).")
    if cleared.dry_run and _needs_confirmation(cleared.accepted_days, cleared.accepted_days_removed):
        share = f"{cleared.accepted_days_removed} of {cleared.accepted_days}"
        lines.append(f"{share} accepted days would be removed, which needs --yes.")
    lines.append("Dry run: nothing was removed." if cleared.dry_run else "Removed.")
    return "\n".join(lines)


def _keep_record(store: Store, window: Window) -> None:
    key = kinds.REMOVED_WINDOW.key(day=window.day, window=window.fingerprint)
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
