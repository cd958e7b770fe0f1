"""Copying a store to another place, with its history: every file that a record names, and nothing else.

Why a copy may be stopped, repeated, and run beside other work:

- Each file is compared with its record on the way. Files go before the records that name them, and the logs go last, in order.
- Until everything is there and verified once more, a mark beside the logs of a new copy keeps anybody from reading them: a
  copy that was stopped never passes for a whole store, nor for an older state of it.
- A complete copy is updated without a mark: wherever it stops, its logs name only what is there. Only if an entry that it
  lacks names files that were removed since, the mark is there during the update.
- If the source changes during the copy, its records are read again: a file that `sbr store gc` removed is missing only if a
  record still names it.
- The logs of the target must be a beginning of those of the source. So another store's content, or a copy that was
  used on its own, is never overwritten.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from sbr_tasks.clicks.commits import named_files
from sbr_tasks.errors import AlreadyExistsError, DamagedError, StoreError
from sbr_tasks.progress import Progress
from sbr_tasks.registry.log import fold
from sbr_tasks.store import INCOMPLETE, Stat, Store, kinds, to_json
from sbr_tasks.summary import Result
from sbr_tasks.upkeep.check import content_fault, missing, verify_store
from sbr_tasks.upkeep.inventory import Fault, Inventory, Named, take_inventory

logger = logging.getLogger(__name__)

_AT_ONCE = 4
"""Files copied at once; each is held in memory."""
_LOGS = (kinds.COMMIT.folder(), kinds.ENTRY.folder())
_MARKS = tuple(f"{log}/{INCOMPLETE}" for log in _LOGS)
_LOOKS = 10
"""How often a changing source is listed before the copy fails."""


class _GoneError(Exception):
    """A file of the source isn't there any more; it was when the source was listed."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class Copied(Result):
    """What a copy did.

    Attributes:
        source: Where it was copied from.
        target: Where it was copied to.
        files: Files that were written.
        bytes: Their bytes.
        present: Files that were there already.
        log_entries: Entries of the promotion log, in both.
        champion: The champion, in both; None while there is none.
    """

    source: str
    target: str
    files: int
    bytes: int
    present: int
    log_entries: int
    champion: str | None

    def __str__(self) -> str:
        unchanged = f" {self.present:,} were there already." if self.present else ""
        return (
            f"{self.files:,} files ({self.bytes:,} bytes) copied from {self.source} to {self.target}.{unchanged}\n"
            f"The copy is whole: {self.log_entries} log entries, champion {self.champion or 'none'}.\n"
            "To work there, set `store` to it, then run `sbr repair`, which rebuilds MLflow from it."
        )


def copy_objects(source: Store, target: Store) -> Copied:
    """Copies a store, or continues a copy, or brings one up to date.

    What is committed meanwhile is copied too, and what is removed meanwhile isn't.

    Raises:
        DamagedError: A file of the source, or what was written, isn't what its record says.
        StoreError: The target holds something else, the source is empty or keeps changing, or one of them is out of
            reach.
    """
    _require_apart(source, target)
    inventory = _whole(source)
    if not inventory.commits:
        raise StoreError(
            f"Expected a store with clicks, found no commit in {source.where(kinds.COMMIT.folder())}: there is nothing to copy."
        )
    if not _is_whole_copy(source, target):
        _mark(source, target)
    done: dict[str, int | None] = {}
    n_gone = 0
    while todo := [named for key, named in inventory.named.items() if key not in done and not kinds.CHECKPOINT.parse(key)]:
        try:
            _copy(source, target, todo, inventory, done)
        except _GoneError as error:
            n_gone += 1
            if n_gone == _LOOKS:
                raise _restless(source, error.key) from error
            logger.info("%s was removed during the copy; listing the source again.", source.where(error.key))
        inventory = _whole(source)
    _verify(source, target, inventory)
    for mark in _MARKS:
        target.delete(mark)
    sizes = [size for size in done.values() if size is not None]
    return Copied(
        source=source.url,
        target=target.url,
        files=len(sizes),
        bytes=sum(sizes),
        present=len(done) - len(sizes),
        log_entries=len(inventory.entries),
        champion=fold(inventory.entries).champion,
    )


def _require_apart(source: Store, target: Store) -> None:
    places = [f"{store.url.rstrip('/')}/" for store in (source, target)]
    if source.service == target.service and (places[0].startswith(places[1]) or places[1].startswith(places[0])):
        raise StoreError(f"A store can't be copied to itself or into itself: from {source.url} to {target.url}.")


def _whole(source: Store) -> Inventory:
    """The inventory of a store in which every record can be read and everything that is named was listed.

    Concurrent work may name or remove something between two listings, so only faults in two consecutive ones count.

    Raises:
        DamagedError: A record can't be read, or a file is missing.
        StoreError: Each listing has another fault.
    """
    suspects = set[str]()
    for _ in range(_LOOKS):
        inventory = take_inventory(source)
        lost = (one for key, one in inventory.named.items() if key not in inventory.stats)
        faults = [*inventory.faults, *map(missing, lost)]
        if not faults:
            return inventory
        for fault in faults:
            if fault.key in suspects:
                raise _damaged(source, fault)
        suspects = {fault.key for fault in faults}
    raise _restless(source, min(suspects))


def _restless(source: Store, key: str) -> StoreError:
    return StoreError(
        f"{source.url} was listed {_LOOKS} times, and it changed each time, the last time {key}. "
        "Run the same command again once `sbr store gc` has ended there."
    )


def _damaged(source: Store, fault: Fault) -> DamagedError:
    return DamagedError(
        f"The copy stopped: {source.where(fault.key)} is {fault.kind}. {fault.why} {fault.remedy} "
        "`sbr store check` names all faults; the same command then continues."
    )


def _is_whole_copy(source: Store, target: Store) -> bool:
    """Whether the target is a whole copy of an earlier state of the source; False if it is empty, or a copy that was stopped.

    Raises:
        StoreError: It is something else.
    """
    marks = [target.get(mark) for mark in _MARKS if target.exists(mark)]
    if any(json.loads(mark)["store"] != _identity(source) for mark in marks):
        raise StoreError(f"{target.url} holds the copy of another store, which was stopped. Copy to an empty place.")
    length = sum(_require_beginning(source, target, log) for log in _LOGS)
    if not marks and not length and any(target.keys(area) for area in kinds.AREAS):
        raise StoreError(f"{target.url} holds files of a store and none of its logs. Copy to an empty place.")
    return not marks and length > 0


def _require_beginning(source: Store, target: Store, log: str) -> int:
    """Checks that a log of the target is a beginning of that of the source; returns how long it is."""
    theirs = _entries(target, log)
    ours = _entries(source, log, theirs.keys())
    for key, entry in theirs.items():
        if ours.get(key) != entry:
            raise StoreError(
                f"{target.where(key)} is not what {source.where(key)} is, so {target.url} holds another store, or a copy that "
                "was used on its own. Copy to an empty place."
            )
    return len(theirs)


def _entries(store: Store, log: str, wanted: Iterable[str] | None = None) -> dict[str, bytes]:
    """The entries of a log as stored, by key, in order: all, or those `wanted` that are there."""
    keys = [key for key in store.keys(log) if key not in _MARKS]
    keys = keys if wanted is None else sorted({*keys} & {*wanted})
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(keys, pool.map(store.get, keys), strict=True))


def _identity(store: Store) -> str:
    """What distinguishes a store from any other: the hash of its first commit."""
    return hashlib.sha256(store.get(kinds.COMMIT.key(number=1))).hexdigest()


def _mark(source: Store, target: Store) -> None:
    for mark in _MARKS:
        target.replace(mark, to_json({"store": _identity(source), "from": source.url}))


def _copy(source: Store, target: Store, todo: Sequence[Named], inventory: Inventory, done: dict[str, int | None]) -> None:
    """Copies some files; files go before those that name them.

    Args:
        source: Where they are.
        target: Where they go.
        todo: The files.
        inventory: The inventory of the source.
        done: Takes the bytes written of each file, None where it was there already, up to one that is gone too.

    Raises:
        _GoneError: A file isn't there any more; nothing that comes after it was written.
    """
    present = {key: stat for area in kinds.AREAS for key, stat in target.stats(area).items()}
    listed = inventory.stats
    if not present.keys() & {*_MARKS} and not _can_stop_at_any_entry(inventory, present):
        _mark(source, target)

    def transfer(named: Named) -> int | None:
        stat, own = present.get(named.key), listed.get(named.key)
        if stat and own and named.sha256 and stat.size == own.size:
            return None  # the hash is in its name or in a record that is current; the whole copy is verified in the end
        data = _read(source, named)
        if stat and target.get(named.key) == data:
            return None
        if named.key.startswith(_LOGS):
            _extend(target, named.key, data)
        else:
            target.replace(named.key, data)
        return len(data)

    def work(named: Named) -> None:
        done[named.key] = transfer(named)

    total = sum(listed[named.key].size for named in todo if named.key in listed)
    with Progress("Copying the store", total, "B", logger) as progress:
        for some, at_once in _in_order(todo):
            pool = ThreadPoolExecutor(at_once)
            run = pool.map if at_once > 1 else map  # one after the other, none is started after a failure
            try:
                for named, _ in zip(some, run(work, some), strict=True):
                    own = listed.get(named.key)
                    progress.advance(own.size if own else 0)
            finally:
                pool.shutdown(cancel_futures=True)


def _can_stop_at_any_entry(inventory: Inventory, present: dict[str, Stat]) -> bool:
    """Whether all that the entries which aren't there yet name is here or there, whichever of them is the last one.

    A later entry of the same log may have removed clicks again, or made another version champion, so that a serving copy went.
    """
    new = (commit for commit in inventory.commits if kinds.COMMIT.key(number=commit.number) not in present)
    needed = {key for commit in new for key in named_files(commit)}
    for entry in inventory.entries:
        if kinds.ENTRY.key(number=entry.number) in present:
            continue
        if champion := fold(inventory.entries[: entry.number]).champion_entry:
            needed.add(kinds.SERVED.key(number=champion))
    return needed <= inventory.named.keys() | present.keys()


def _in_order(todo: Sequence[Named]) -> list[tuple[list[Named], int]]:
    """Files by their turn, and then by key; each turn with how many may be copied at once: of a log one.

    What is copied at once lands in any order, so nothing is copied together with what names it or refers to it.
    """
    turns: dict[kinds.Turn, list[Named]] = {}
    for named in sorted(todo, key=lambda one: one.key):
        kind = kinds.kind_of(named.key)
        turns.setdefault(kind.turn if kind else kinds.Turn.FILE, []).append(named)
    return [(turns[turn], _AT_ONCE if turn < kinds.Turn.COMMIT else 1) for turn in sorted(turns)]


def _read(source: Store, named: Named) -> bytes:
    try:
        data = source.get(named.key)
    except DamagedError as error:
        raise _GoneError(named.key) from error
    if fault := content_fault(named, lambda: hashlib.sha256(data).hexdigest(), lambda: data):
        raise _damaged(source, fault)
    return data


def _extend(target: Store, key: str, entry: bytes) -> None:
    try:
        target.put_new(key, entry)
    except AlreadyExistsError:
        if target.get(key) != entry:
            raise StoreError(f"{target.where(key)} was written by somebody else; nobody may work there yet.") from None


def _verify(source: Store, target: Store, inventory: Inventory) -> None:
    """Checks what was written as `sbr store check` does, and that both logs say the same."""
    faults = [fault for fault in verify_store(target).faults if fault.key not in _MARKS]
    if faults:
        raise DamagedError(
            f"The copy isn't whole: {target.where(faults[0].key)} is {faults[0].kind}. {faults[0].why} "
            f"({len(faults)} such files.) Delete it there and run the same command again."
        )
    for log in _LOGS:
        copied = _entries(target, log)
        expected = [key for key in inventory.named if key.startswith(f"{log}/")]
        if copied.keys() != set(expected) or copied != _entries(source, log, expected):
            raise StoreError(f"{target.where(log)} isn't what {source.where(log)} is. Run the same command again.")
