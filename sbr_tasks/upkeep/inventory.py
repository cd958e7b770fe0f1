"""What the store holds, and which record names it.

Only the store's own folders are looked at: `mlflow/` and `scratch/`, which are inside a local store too, are not among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from sbr_tasks.clicks.commits import Commit, Removal, named_files, read_commit
from sbr_tasks.errors import DamagedError
from sbr_tasks.registry.log import Decision, Entry, fold, read_entry
from sbr_tasks.registry.scoring import Score
from sbr_tasks.registry.serving import ServedCopy
from sbr_tasks.registry.versions import ModelVersion, checkpoint_keys
from sbr_tasks.report.profile.build import Profile
from sbr_tasks.store import INCOMPLETE, LogEntry, Record, Stat, Store, StoreFormat, file_records, fingerprint, kinds, name_hash
from sbr_tasks.window.record import Window

_TYPES: Mapping[kinds.Kind, type[Record]] = {
    kinds.FORMAT: StoreFormat,
    kinds.WINDOW: Window,
    kinds.REMOVED_WINDOW: Window,
    kinds.PROFILE: Profile,
    kinds.VERSION: ModelVersion,
    kinds.SCORE: Score,
    kinds.SERVED: ServedCopy,
    kinds.VERDICT: Decision,
}
_LOGS: Mapping[kinds.Kind, Callable[[LogEntry, str], Commit | Entry]] = {kinds.COMMIT: read_commit, kinds.ENTRY: read_entry}
_NAME_NOTHING = (kinds.REMOVED_WINDOW, kinds.VERDICT)
"""Records that are kept when nothing else is left of what they are about."""
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


class Fault(Record):
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


@dataclass
class Inventory:
    """The store's files and records at one moment.

    Attributes:
        stats: All files, by key.
        half_written: What killed writers left in a local folder, by key.
        records: The records that can be read, by key: those of a log in order.
        named: Everything that a record names, and the records, by key.
        faults: Of the records themselves.
    """

    stats: dict[str, Stat]
    half_written: dict[str, Stat]
    records: dict[str, Record] = field(default_factory=dict)
    named: dict[str, Named] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    @property
    def commits(self) -> list[Commit]:
        """The commits of clicks, in order."""
        return [record for record in self.records.values() if isinstance(record, Commit)]

    @property
    def entries(self) -> list[Entry]:
        """The entries of the promotion log, in order."""
        return [record for record in self.records.values() if isinstance(record, Entry)]

    @property
    def windows(self) -> dict[str, Window]:
        """The windows whose files weren't removed, by the key of their record."""
        return {key: record for key, record in self.records.items() if isinstance(record, Window)}

    @property
    def versions(self) -> dict[str, ModelVersion]:
        """The versions, by name."""
        return {record.name: record for record in self.records.values() if isinstance(record, ModelVersion)}

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
    for key in inventory.stats:
        _add(store, inventory, key)
    for log in _LOGS:
        _add_gaps(inventory, log)
    for key, record in inventory.records.items():
        _add_files(inventory, key, record)
    for key, number in _needed_by_the_log(inventory):
        inventory.named.setdefault(key, Named(key, kinds.ENTRY.key(number=number)))
    for version in inventory.versions.values():  # whose training ended
        for key in checkpoint_keys(version.fingerprint):
            inventory.named.pop(key, None)
    return inventory


def fault_of(fault: str, key: str, why: str, record: str) -> Fault:
    """A fault (`missing` or `damaged`), with what to do about it."""
    kind = kinds.kind_of(key)
    return Fault(key=key, kind=fault, why=why, record=record, remedy=kind.remedy(key) if kind else _BELONGS_NOWHERE)


def _add(store: Store, inventory: Inventory, key: str) -> None:
    """Adds a record, or a file that explains itself, which then isn't an orphan; a record that can't be read is a fault."""
    kind = kinds.kind_of(key)
    fields = kind.parse(key) if kind else None
    if kind is None or fields is None or kind.turn < kinds.Turn.MANIFEST:
        return
    if kind.belongs_to and kind.belongs_to.key(**fields) not in inventory.stats:
        return
    inventory.named[key] = Named(key, key)
    try:
        if kind in _LOGS:
            record: Record = _LOGS[kind](LogEntry(fields["number"], store.get_json(key)), store.where(key))
        elif kind in _TYPES:
            record = store.get_record(key, _TYPES[kind])
        else:
            return
    except DamagedError as error:
        if store.exists(key):
            inventory.faults.append(fault_of("damaged", key, str(error), key))
        return
    if kind in _NAME_NOTHING:
        return
    inventory.records[key] = record
    if isinstance(record, Window | ModelVersion):
        own, name = fingerprint(record.inputs.as_dict()), fields.get("window") or fields["version"][-8:]
        if not own.startswith(name):
            why = f"Its inputs have the fingerprint {own}, its name says {name}."
            inventory.faults.append(fault_of("damaged", key, why, key))


def _add_gaps(inventory: Inventory, log: kinds.Kind) -> None:
    """Adds a fault for each entry that is lacking before the last one, and for a log that `sbr store copy` didn't complete."""
    mark = f"{log.folder()}/{INCOMPLETE}"
    if mark in inventory.stats:
        inventory.named[mark] = Named(mark, mark)
        why = "The store is a copy that isn't complete."
        inventory.faults.append(Fault(key=mark, kind="damaged", why=why, record=mark, remedy=_COPY_AGAIN))
    numbers = {fields["number"] for key in inventory.stats if (fields := log.parse(key))}
    for number in {*range(1, max(numbers, default=0))} - numbers:
        why = "The log has later entries, and not this one."
        inventory.faults.append(fault_of("missing", log.key(number=number), why, log.folder()))


def _add_files(inventory: Inventory, key: str, record: Record) -> None:
    """Adds the files that a record names, and takes away those that it removed."""
    if isinstance(record, Removal):
        for file in {file for removed in record.days.values() for file in removed.files}:
            inventory.named.pop(file, None)
    elif isinstance(record, Commit):
        for file, known in named_files(record).items():
            hashed = known.sha256 if known else name_hash(file)
            inventory.named[file] = Named(file, key, known.size if known else None, hashed)
    else:
        for known in file_records(record.as_dict()):
            inventory.named[known.key] = Named(known.key, key, known.size, known.sha256)


def _needed_by_the_log(inventory: Inventory) -> Iterator[tuple[str, int]]:
    """Records of versions and windows that decisions name, and of the champion's serving copy, each with its log entry."""
    entries = inventory.entries
    for entry in entries:
        yield kinds.VERSION.key(version=entry.version), entry.number
        if isinstance(entry, Decision):
            window = {"day": entry.day, "window": entry.window}
            if kinds.REMOVED_WINDOW.key(**window) not in inventory.stats:
                yield kinds.WINDOW.key(**window), entry.number
    if champion := fold(entries).champion_entry:
        yield kinds.SERVED.key(number=champion), champion
