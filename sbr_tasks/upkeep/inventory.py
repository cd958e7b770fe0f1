"""What the store holds, and which record names it.

Only the store's own folders are looked at: `mlflow/` and `scratch/`, which are inside a local store too, are not among them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Any, TypeVar

from sbr_tasks.clicks.commits import Commit, Removal, named_files, read_commit
from sbr_tasks.errors import DamagedError
from sbr_tasks.registry.log import Decision, Entry, fold, read_entry
from sbr_tasks.registry.scoring import Score
from sbr_tasks.registry.serving import ServedCopy
from sbr_tasks.registry.versions import ModelVersion
from sbr_tasks.report.profile.build import Profile
from sbr_tasks.store import INCOMPLETE, Json, LogEntry, Record, Stat, Store, StoreFormat, file_records, fingerprint, kinds
from sbr_tasks.window.record import Window

R = TypeVar("R")

_OTHER_RECORDS: dict[kinds.Kind, type[Record]] = {
    kinds.FORMAT: StoreFormat,
    kinds.SCORE: Score,
    kinds.PROFILE: Profile,
    kinds.SERVED: ServedCopy,
}
"""Records that are read only for the files that they name."""
_NAME_HASH = re.compile(r"\.([0-9a-f]{12})(\.[^./]*)?$")
_COPY_AGAIN = "Run `sbr store copy` again, as before: it continues from there."
_BELONGS_NOWHERE = "No file of the store has such a name: delete it."


@dataclass(frozen=True)
class Named:
    """A file that a record names, or that explains itself.

    Attributes:
        key: Its place in the store.
        record: The key of the record that names it; its own where it explains itself.
        size: Bytes; None where the record doesn't say.
        sha256: Its hash, or the first digits of it; None where nothing says.
    """

    key: str
    record: str
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Fault:
    """A file that isn't what a record says.

    Attributes:
        key: The file.
        kind: `missing` or `damaged`.
        why: What was found.
        record: The record that names it.
        remedy: What to do.
    """

    key: str
    kind: str
    why: str
    record: str
    remedy: str

    def as_dict(self) -> Json:
        return dict(vars(self))


@dataclass
class Inventory:
    """The store's files and records at one moment.

    Attributes:
        stats: All files, by key.
        half_written: What killed writers left in a local folder, by key.
        named: Everything that a record names, and the records, by key.
        faults: Of the records themselves.
        commits: The commits of clicks that can be read, in order.
        entries: The entries of the promotion log that can be read, in order.
        windows: By day and fingerprint.
        versions: By name.
    """

    stats: dict[str, Stat]
    half_written: dict[str, Stat]
    named: dict[str, Named] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    windows: dict[tuple[date, str], Window] = field(default_factory=dict)
    versions: dict[str, ModelVersion] = field(default_factory=dict)

    def orphans(self) -> list[Stat]:
        """What no record names."""
        return [*(stat for key, stat in self.stats.items() if key not in self.named), *self.half_written.values()]


def take_inventory(store: Store) -> Inventory:
    """Lists the store and reads its records; files of clicks, windows and models aren't opened.

    Records are read after the listing: what a run publishes meanwhile is named by a record and not listed. So a file that seems
    to be missing is looked up once more before it is called so.
    """
    inventory = Inventory(
        stats={key: stat for area in kinds.AREAS for key, stat in store.stats(area).items()},
        half_written={key: stat for area in kinds.AREAS for key, stat in store.half_written(area).items()},
    )
    _read_commits(store, inventory)
    _read_entries(store, inventory)
    _read_windows(store, inventory)
    _read_versions(store, inventory)
    for kind, of_type in _OTHER_RECORDS.items():
        for key, _ in _matching(inventory, kind):
            record = _add_record(store, inventory, key, partial(store.get_record, kind=of_type))
            if record:
                _add_files(inventory, key, record)
    _add_what_the_log_needs(inventory)
    _add_self_explaining(inventory)
    return inventory


def fault_of(fault: str, key: str, why: str, record: str) -> Fault:
    """A fault (`missing` or `damaged`), with what to do about it."""
    kind = kinds.kind_of(key)
    return Fault(key, fault, why, record, kind.remedy(key) if kind else _BELONGS_NOWHERE)


def _matching(inventory: Inventory, kind: kinds.Kind) -> list[tuple[str, dict[str, Any]]]:
    """Keys of one kind, with their fields."""
    return [(key, fields) for key in inventory.stats if (fields := kind.parse(key)) is not None]


def _add_record(store: Store, inventory: Inventory, key: str, read: Callable[[str], R]) -> R | None:
    """Reads a record, which then isn't an orphan; one that can't be read is a fault."""
    inventory.named[key] = Named(key, key)
    try:
        return read(key)
    except DamagedError as error:
        if store.exists(key):
            inventory.faults.append(fault_of("damaged", key, str(error), key))
        return None


def _add_files(inventory: Inventory, key: str, record: Record) -> None:
    """Adds the files that a record names."""
    for file in file_records(record.as_dict()):
        inventory.named[file.key] = Named(file.key, key, file.size, file.sha256)


def _log_keys(inventory: Inventory, kind: kinds.Kind) -> Iterator[tuple[int, str]]:
    """Numbers and keys of a log's entries; an entry that is lacking before the last one is a fault."""
    mark = f"{kind.folder()}/{INCOMPLETE}"
    if mark in inventory.stats:
        inventory.named[mark] = Named(mark, mark)
        inventory.faults.append(Fault(mark, "damaged", "The store is a copy that isn't complete.", mark, _COPY_AGAIN))
    keys = {fields["number"]: key for key, fields in _matching(inventory, kind)}
    for number in range(1, max(keys, default=0) + 1):
        if number in keys:
            yield number, keys[number]
        else:
            key = kind.key(number=number)
            inventory.faults.append(fault_of("missing", key, "The log has later entries, and not this one.", kind.folder()))


def _read_commits(store: Store, inventory: Inventory) -> None:
    for number, key in _log_keys(inventory, kinds.COMMIT):
        commit = _add_record(store, inventory, key, partial(_commit, store, number))
        if commit is None:
            continue
        inventory.commits.append(commit)
        if isinstance(commit, Removal):
            for removed in commit.days.values():
                for file in removed.files:
                    inventory.named.pop(file, None)
        for file, record in named_files(commit).items():
            inventory.named[file] = (
                Named(file, key, record.size, record.sha256) if record else Named(file, key, None, _hash_in_name(file))
            )


def _commit(store: Store, number: int, key: str) -> Commit:
    return read_commit(LogEntry(number, store.get_json(key)), store.where(key))


def _read_entries(store: Store, inventory: Inventory) -> None:
    for number, key in _log_keys(inventory, kinds.ENTRY):
        entry = _add_record(store, inventory, key, partial(_entry, store, number))
        if entry:
            inventory.entries.append(entry)


def _entry(store: Store, number: int, key: str) -> Entry:
    return read_entry(LogEntry(number, store.get_json(key)), store.where(key))


def _read_windows(store: Store, inventory: Inventory) -> None:
    for key, _ in _matching(inventory, kinds.REMOVED_WINDOW):
        _add_record(store, inventory, key, partial(store.get_record, kind=Window))
    for key, fields in _matching(inventory, kinds.WINDOW):
        window = _add_record(store, inventory, key, partial(store.get_record, kind=Window))
        if window:
            _add_files(inventory, key, window)
            _require_fingerprint(inventory, key, window.inputs, fields["window"])
            inventory.windows[fields["day"], fields["window"]] = window


def _read_versions(store: Store, inventory: Inventory) -> None:
    for key, fields in _matching(inventory, kinds.VERSION):
        version = _add_record(store, inventory, key, partial(store.get_record, kind=ModelVersion))
        if version:
            _add_files(inventory, key, version)
            _require_fingerprint(inventory, key, version.inputs, fields["version"][-8:])
            inventory.versions[fields["version"]] = version
    for key, fields in _matching(inventory, kinds.VERDICT):
        if fields["version"] in inventory.versions:
            _add_record(store, inventory, key, partial(store.get_record, kind=Decision))


def _require_fingerprint(inventory: Inventory, key: str, inputs: Record, name: str) -> None:
    own = fingerprint(inputs.as_dict())
    if not own.startswith(name):
        inventory.faults.append(fault_of("damaged", key, f"Its inputs have the fingerprint {own}, its name says {name}.", key))


def _add_what_the_log_needs(inventory: Inventory) -> None:
    """Versions and windows that decisions name, and the champion's serving copy; they are missing if they aren't there."""
    for entry in inventory.entries:
        record = kinds.ENTRY.key(number=entry.number)
        needed = [kinds.VERSION.key(version=entry.version)]
        if isinstance(entry, Decision):
            window = {"day": entry.day, "window": entry.window}
            needed += [] if kinds.REMOVED_WINDOW.key(**window) in inventory.stats else [kinds.WINDOW.key(**window)]
        for key in needed:
            inventory.named.setdefault(key, Named(key, record))
    champion = fold(inventory.entries).champion_entry
    if champion:
        key = kinds.SERVED.key(number=champion)
        inventory.named.setdefault(key, Named(key, kinds.ENTRY.key(number=champion)))


def _add_self_explaining(inventory: Inventory) -> None:
    """Pages, recommendations and checkpoints: no record names them, but their names say what they belong to."""
    entries = {entry.number for entry in inventory.entries}
    trained = {version.fingerprint for version in inventory.versions.values()}
    belongs: dict[kinds.Kind, Callable[[dict[str, Any]], bool]] = {
        kinds.PAGE: lambda fields: fields["number"] in entries,
        kinds.UNDECIDED_PAGE: lambda fields: fields["version"] in inventory.versions,
        kinds.NEXT_ITEMS: lambda fields: fields["version"] in inventory.versions,
        kinds.CHECKPOINT: lambda fields: fields["fingerprint"] not in trained,
    }
    for kind, test in belongs.items():
        inventory.named |= {key: Named(key, key) for key, fields in _matching(inventory, kind) if test(fields)}


def _hash_in_name(key: str) -> str | None:
    match = _NAME_HASH.search(key)
    return match[1] if match else None
