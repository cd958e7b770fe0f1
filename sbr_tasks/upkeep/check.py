"""Every record of the store against the files: what is damaged, missing or orphaned."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

import pyarrow as pa
from pydantic import Field
from tabulate import tabulate

from sbr_tasks.errors import DamagedError, StoreError
from sbr_tasks.gru4rec.checkpoint import is_whole
from sbr_tasks.progress import Progress
from sbr_tasks.store import Stat, Store, from_parquet, kinds
from sbr_tasks.summary import Result
from sbr_tasks.upkeep.inventory import Fault, Inventory, Named, fault_of, take_inventory

logger = logging.getLogger(__name__)

_ORPHANS_SHOWN = 10


class Orphans(Result):
    """Files that no record names: how many, their bytes, and their keys."""

    files: int
    bytes: int
    keys: tuple[str, ...] = Field(exclude=True, repr=False)


class Checked(Result):
    """What a check found.

    Attributes:
        files: Files that are what their records say.
        bytes: Their bytes.
        missing: Files that aren't there.
        damaged: Files that aren't what their records say, and records that can't be read.
        orphaned: What no record names.
    """

    files: int
    bytes: int
    missing: tuple[Fault, ...]
    damaged: tuple[Fault, ...]
    orphaned: Orphans

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What is missing or damaged, by key."""
        return tuple(sorted(self.missing + self.damaged, key=lambda fault: fault.key))


def verify_store(store: Store) -> Checked:
    """Verifies each file that a record names: that it is there, its size and its hash. One file is in memory at a time.

    Faults are checked once more with the records read again, so that concurrent work isn't reported as one.

    Raises:
        StoreError: The store can't be listed.
    """
    inventory = take_inventory(store)
    faults = [*inventory.faults, *_verify(store, inventory, inventory.named.values())]
    if faults:
        suspects = {fault.key for fault in faults}
        inventory = take_inventory(store)
        again = [named for key, named in inventory.named.items() if key in suspects]
        faults = [*inventory.faults, *_verify(store, inventory, again)]
    faults = sorted({fault.key: fault for fault in faults}.values(), key=lambda fault: fault.key)
    bad = {fault.key for fault in faults}
    good = [stat for key, stat in inventory.stats.items() if key in inventory.named and key not in bad]
    orphans = inventory.orphans()
    return Checked(
        files=len(good),
        bytes=_bytes(good),
        missing=tuple(fault for fault in faults if fault.kind == "missing"),
        damaged=tuple(fault for fault in faults if fault.kind == "damaged"),
        orphaned=Orphans(files=len(orphans), bytes=_bytes(orphans), keys=tuple(stat.key for stat in orphans)),
        text=_table(good, faults, orphans),
    )


def _bytes(stats: Iterable[Stat]) -> int:
    return sum(stat.size for stat in stats)


def _table(good: Sequence[Stat], faults: Sequence[Fault], orphans: Sequence[Stat]) -> str:
    rows = []
    for area in kinds.AREAS:
        whole, loose = ([stat for stat in stats if kinds.area_of(stat.key) == area] for stats in (good, orphans))
        bad = [fault.kind for fault in faults if kinds.area_of(fault.key) == area]
        if whole or bad or loose:
            counts = [bad.count("missing"), bad.count("damaged"), len(loose), _bytes(loose)]
            rows.append([area, len(whole), _bytes(whole), *counts])
    headers = ["", "whole files", "bytes", "missing", "damaged", "orphaned", "orphaned bytes"]
    lines = [tabulate(rows, headers=headers, intfmt=",") if rows else "The store is empty."]
    for fault in faults:
        lines += [f"{fault.kind}: {fault.key}, named by {fault.record}", f"  {fault.why}", f"  {fault.remedy}"]
    lines += [f"orphaned: {stat.key} ({stat.size:,} bytes)" for stat in orphans[:_ORPHANS_SHOWN]]
    if len(orphans) > _ORPHANS_SHOWN:
        lines.append(f"... and {len(orphans) - _ORPHANS_SHOWN} more orphans (--json lists all).")
    return "\n".join(lines)


def _verify(store: Store, inventory: Inventory, named: Iterable[Named]) -> list[Fault]:
    files = list(named)
    known_bad = {fault.key for fault in inventory.faults}
    total = _bytes(inventory.stats[one.key] for one in files if one.key in inventory.stats)
    faults = []
    with Progress("Checking the store", total, "B", logger) as progress:
        for one in files:
            stat = inventory.stats.get(one.key) or store.stat(one.key)
            if one.key not in known_bad and (fault := _fault(store, one, stat)):
                logger.warning("%s: %s. %s", fault.kind, store.where(fault.key), fault.why)
                faults.append(fault)
            progress.advance(stat.size if stat else 0)
    return faults


def _fault(store: Store, named: Named, stat: Stat | None) -> Fault | None:
    if stat is None:
        return missing(named)
    if named.size is not None and stat.size != named.size:
        why = f"Its record says {named.size:,} bytes, found {stat.size:,}."
        return fault_of("damaged", named.key, why, named.record)
    try:
        return content_fault(named, lambda: store.digest(named.key)[1], lambda: store.get(named.key))
    except DamagedError:
        return missing(named)
    except StoreError as error:
        return fault_of("damaged", named.key, str(error), named.record)


def missing(named: Named) -> Fault:
    """The fault of a file that isn't there."""
    return fault_of("missing", named.key, "It isn't there.", named.record)


def content_fault(named: Named, digest: Callable[[], str], read: Callable[[], bytes]) -> Fault | None:
    """What is wrong with the content of a file that is there; None if nothing is.

    Args:
        named: The file.
        digest: Returns its SHA-256; called if a record says it.
        read: Returns its content; called if its end or its start tells whether it is complete.
    """
    why = None
    if named.sha256 is not None:
        if not (actual := digest()).startswith(named.sha256):
            why = f"Its record says SHA-256 {named.sha256[:12]}..., found {actual[:12]}..."
    elif look := _LOOKS.get(kinds.kind_of(named.key)):
        why = look(read())
    return fault_of("damaged", named.key, why, named.record) if why else None


def _page_fault(data: bytes) -> str | None:
    return None if data.rstrip().endswith(b"</html>") else "The page has no end."


def _table_fault(data: bytes) -> str | None:
    try:
        from_parquet(data)
    except (pa.ArrowException, OSError) as error:
        return f"It can't be read as Parquet: {error}"
    return None


def _checkpoint_fault(data: bytes) -> str | None:
    return None if is_whole(data) else "Its content doesn't match the hash at its start."


_LOOKS: Mapping[kinds.Kind | None, Callable[[bytes], str | None]] = {
    kinds.PAGE: _page_fault,
    kinds.UNDECIDED_PAGE: _page_fault,
    kinds.NEXT_ITEMS: _table_fault,
    kinds.CHECKPOINT: _checkpoint_fault,
}
"""How files are checked whose hash is in no record."""
