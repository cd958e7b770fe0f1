"""Every record of the store against the files: what is damaged, missing or orphaned."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pyarrow as pa
from tabulate import tabulate

from sbr_tasks.errors import DamagedError, StoreError
from sbr_tasks.gru4rec.checkpoint import is_whole
from sbr_tasks.progress import Progress
from sbr_tasks.store import Json, Stat, Store, from_parquet, kinds
from sbr_tasks.upkeep.inventory import Fault, Inventory, Named, fault_of, take_inventory

logger = logging.getLogger(__name__)

_ORPHANS_SHOWN = 10


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Attributes:
        files: Files that are what their records say, by folder of the store: how many.
        bytes: Their bytes, by folder.
        faults: What is missing or damaged.
        orphans: What no record names, by key.
    """

    files: dict[str, int]
    bytes: dict[str, int]
    faults: tuple[Fault, ...]
    orphans: tuple[Stat, ...]

    def as_dict(self) -> Json:
        """As one JSON object: totals, `missing` and `damaged` faults, and `orphaned` files."""
        return {
            "files": sum(self.files.values()),
            "bytes": sum(self.bytes.values()),
            "missing": [fault.as_dict() for fault in self.faults if fault.kind == "missing"],
            "damaged": [fault.as_dict() for fault in self.faults if fault.kind == "damaged"],
            "orphaned": {
                "files": len(self.orphans),
                "bytes": sum(stat.size for stat in self.orphans),
                "keys": [stat.key for stat in self.orphans],
            },
        }


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
    files, sizes = dict.fromkeys(kinds.AREAS, 0), dict.fromkeys(kinds.AREAS, 0)
    for stat in good:
        area = stat.key.split("/", 1)[0]
        files[area] += 1
        sizes[area] += stat.size
    return Checked(files, sizes, tuple(faults), tuple(inventory.orphans()))


def check_table(checked: Checked) -> str:
    """What a check found, for people."""
    rows = []
    for area in kinds.AREAS:
        bad = [fault.kind for fault in checked.faults if fault.key.split("/", 1)[0] == area]
        loose = [stat.size for stat in checked.orphans if stat.key.split("/", 1)[0] == area]
        if checked.files[area] or bad or loose:
            counts = [bad.count("missing"), bad.count("damaged"), len(loose), sum(loose)]
            rows.append([area, checked.files[area], checked.bytes[area], *counts])
    headers = ["", "whole files", "bytes", "missing", "damaged", "orphaned", "orphaned bytes"]
    lines = [tabulate(rows, headers=headers, intfmt=",") if rows else "The store is empty."]
    for fault in checked.faults:
        lines += [f"{fault.kind}: {fault.key}, named by {fault.record}", f"  {fault.why}", f"  {fault.remedy}"]
    lines += [f"orphaned: {stat.key} ({stat.size:,} bytes)" for stat in checked.orphans[:_ORPHANS_SHOWN]]
    if len(checked.orphans) > _ORPHANS_SHOWN:
        lines.append(f"... and {len(checked.orphans) - _ORPHANS_SHOWN} more orphans (--json lists all).")
    return "\n".join(lines)


def _verify(store: Store, inventory: Inventory, named: Iterable[Named]) -> list[Fault]:
    files = list(named)
    known_bad = {fault.key for fault in inventory.faults}
    total = sum(inventory.stats[one.key].size for one in files if one.key in inventory.stats)
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
        return fault_of("missing", named.key, "It isn't there.", named.record)
    if named.size is not None and stat.size != named.size:
        why = f"Its record says {named.size:,} bytes, found {stat.size:,}."
        return fault_of("damaged", named.key, why, named.record)
    try:
        fault = _content_fault(store, named)
    except DamagedError:
        return fault_of("missing", named.key, "It isn't there.", named.record)
    except StoreError as error:
        fault = str(error)
    return fault_of("damaged", named.key, fault, named.record) if fault else None


def _content_fault(store: Store, named: Named) -> str | None:
    """What is wrong with a file that is there and has the right size; None if nothing is."""
    if named.sha256 is not None:
        return _hash_fault(named.sha256, store.digest(named.key)[1])
    look = _look_of(named)
    return look(store.get(named.key)) if look else None


def content_fault(named: Named, data: bytes) -> str | None:
    """What is wrong with a file's content, as `verify_store` reports it; None if nothing is."""
    if named.sha256 is not None:
        return _hash_fault(named.sha256, hashlib.sha256(data).hexdigest())
    look = _look_of(named)
    return look(data) if look else None


def _hash_fault(expected: str, actual: str) -> str | None:
    return None if actual.startswith(expected) else f"Its record says SHA-256 {expected[:12]}..., found {actual[:12]}..."


def _look_of(named: Named) -> Callable[[bytes], str | None] | None:
    is_record = named.key.endswith(".json")  # which was read before
    return _LOOKS.get(named.key.split("/", 1)[0]) if named.key == named.record and not is_record else None


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


_LOOKS: dict[str, Callable[[bytes], str | None]] = {
    "reports": _page_fault,
    "recommendations": _table_fault,
    "checkpoints": _checkpoint_fault,
}
"""How files without a hash in a record are checked."""
