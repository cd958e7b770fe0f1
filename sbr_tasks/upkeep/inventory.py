"""What the store holds, and which record names it.

Only the store's own folders are looked at: `mlflow/` and `scratch/`, which are inside a local store too, are not among them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from sbr_tasks.clicks.catalog import named_files
from sbr_tasks.errors import DamagedError
from sbr_tasks.registry.log import Decision, Entry, fold, read_entry
from sbr_tasks.registry.versions import VERSION_FIELDS
from sbr_tasks.store import INCOMPLETE, FileRecord, Json, LogEntry, Stat, Store, file_records, fingerprint, kinds
from sbr_tasks.window.build import WINDOW_FIELDS

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
        promotions: The entries of the promotion log that can be read, in order.
        windows: Manifests of windows, by day and fingerprint.
        versions: Manifests of model versions, by name.
    """

    stats: dict[str, Stat]
    half_written: dict[str, Stat]
    named: dict[str, Named] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    commits: list[LogEntry] = field(default_factory=list)
    promotions: list[Entry] = field(default_factory=list)
    windows: dict[tuple[date, str], Json] = field(default_factory=dict)
    versions: dict[str, Json] = field(default_factory=dict)

    def orphans(self) -> list[Stat]:
        """What no record names."""
        return [*(stat for key, stat in self.stats.items() if key not in self.named), *self.half_written.values()]


def take_inventory(store: Store) -> Inventory:
    """Lists the store and reads its records; files of clicks, windows and models aren't opened.

    Records are read after the listing: what a run publishes meanwhile is named by a record and not listed. So a file that seems
    to be missing is looked up once more before it is called so.
    """
    found = Inventory(
        stats={key: stat for area in kinds.AREAS for key, stat in store.stats(area).items()},
        half_written={key: stat for area in kinds.AREAS for key, stat in store.half_written(area).items()},
    )
    _read_commits(store, found)
    _read_promotions(store, found)
    _read_windows(store, found)
    _read_versions(store, found)
    for kind in (kinds.FORMAT, kinds.SCORE, kinds.PROFILE, kinds.SERVED):
        for key, _ in _matching(found, kind):
            _add_record(store, found, key, file_records)
    _add_what_the_log_needs(found)
    _add_self_explaining(found)
    return found


def fault_of(fault: str, key: str, why: str, record: str) -> Fault:
    """A fault (`missing` or `damaged`), with what to do about it."""
    kind = kinds.kind_of(key)
    return Fault(key, fault, why, record, kind.remedy(key) if kind else _BELONGS_NOWHERE)


def _matching(found: Inventory, kind: kinds.Kind) -> list[tuple[str, dict[str, Any]]]:
    """Keys of one kind, with their fields."""
    return [(key, fields) for key in found.stats if (fields := kind.parse(key)) is not None]


def _add_record(
    store: Store,
    found: Inventory,
    key: str,
    files: Callable[[Json], Iterable[FileRecord]],
    fields: Iterable[str] = (),
) -> Json | None:
    """Reads a record and adds what it names; a record that can't be read is a fault."""
    found.named[key] = Named(key, key)
    try:
        body = store.get_json(key, fields)
        records = list(files(body))
    except DamagedError as error:
        if store.exists(key):
            found.faults.append(fault_of("damaged", key, str(error), key))
        return None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        found.faults.append(fault_of("damaged", key, f"It lacks what its kind of record holds: {error!r}", key))
        return None
    for record in records:
        found.named[record.key] = Named(record.key, key, record.size, record.sha256)
    return body


def _log_keys(found: Inventory, kind: kinds.Kind) -> Iterator[tuple[int, str]]:
    """Numbers and keys of a log's entries; an entry that is lacking before the last one is a fault."""
    mark = f"{kind.folder()}/{INCOMPLETE}"
    if mark in found.stats:
        found.named[mark] = Named(mark, mark)
        found.faults.append(Fault(mark, "damaged", "The store is a copy that isn't complete.", mark, _COPY_AGAIN))
    keys = {fields["number"]: key for key, fields in _matching(found, kind)}
    for number in range(1, max(keys, default=0) + 1):
        if number in keys:
            yield number, keys[number]
        else:
            key = kind.key(number=number)
            found.faults.append(fault_of("missing", key, "The log has later entries, and not this one.", kind.folder()))


def _read_commits(store: Store, found: Inventory) -> None:
    for number, key in _log_keys(found, kinds.COMMIT):
        body = _add_record(store, found, key, _commit_files, ("kind", "days"))
        if body is None:
            continue
        found.commits.append(LogEntry(number, body))
        if body["kind"] == "removal":
            for removed in body["days"].values():
                for file in removed["files"]:
                    found.named.pop(file, None)
        else:
            unhashed = [file for file, record in named_files(body).items() if record is None]
            found.named |= {file: Named(file, key, None, _hash_in_name(file)) for file in unhashed}


def _commit_files(body: Json) -> list[FileRecord]:
    if body["kind"] == "removal":
        return []
    return [record for record in named_files(body).values() if record]


def _read_promotions(store: Store, found: Inventory) -> None:
    def parse(number: int, body: Json) -> list[FileRecord]:
        found.promotions.append(read_entry(LogEntry(number, body), kinds.ENTRY.key(number=number)))
        return []

    for number, key in _log_keys(found, kinds.ENTRY):
        _add_record(store, found, key, lambda body, number=number: parse(number, body))  # type: ignore[misc]


def _read_windows(store: Store, found: Inventory) -> None:
    for key, _ in _matching(found, kinds.REMOVED_WINDOW):
        _add_record(store, found, key, lambda _: [], WINDOW_FIELDS)
    for key, fields in _matching(found, kinds.WINDOW):
        body = _add_record(store, found, key, file_records, WINDOW_FIELDS)
        if body is not None:
            _require_fingerprint(found, key, body, fields["window"])
            found.windows[fields["day"], fields["window"]] = body


def _read_versions(store: Store, found: Inventory) -> None:
    for key, fields in _matching(found, kinds.VERSION):
        body = _add_record(store, found, key, file_records, VERSION_FIELDS)
        if body is not None:
            _require_fingerprint(found, key, body, fields["version"][-8:])
            found.versions[fields["version"]] = body
    for key, fields in _matching(found, kinds.VERDICT):
        if fields["version"] in found.versions:
            _add_record(store, found, key, lambda _: [])


def _require_fingerprint(found: Inventory, key: str, body: Json, name: str) -> None:
    if not fingerprint(body["inputs"]).startswith(name):
        why = f"Its inputs have the fingerprint {fingerprint(body['inputs'])}, its name says {name}."
        found.faults.append(fault_of("damaged", key, why, key))


def _add_what_the_log_needs(found: Inventory) -> None:
    """Versions and windows that decisions name, and the champion's serving copy; they are missing if they aren't there."""
    for entry in found.promotions:
        record = kinds.ENTRY.key(number=entry.number)
        needed = [kinds.VERSION.key(version=entry.version)]
        if isinstance(entry, Decision):
            window = {"day": entry.as_of, "window": entry.window}
            needed += [] if kinds.REMOVED_WINDOW.key(**window) in found.stats else [kinds.WINDOW.key(**window)]
        for key in needed:
            found.named.setdefault(key, Named(key, record))
    champion = fold(found.promotions).champion_entry
    if champion:
        key = kinds.SERVED.key(number=champion)
        found.named.setdefault(key, Named(key, kinds.ENTRY.key(number=champion)))


def _add_self_explaining(found: Inventory) -> None:
    """Pages, recommendations and checkpoints: no record names them, but their names say what they belong to."""
    entries = {entry.number for entry in found.promotions}
    trained = {body.get("fingerprint") for body in found.versions.values()}
    belongs: dict[kinds.Kind, Callable[[dict[str, Any]], bool]] = {
        kinds.PAGE: lambda fields: fields["number"] in entries,
        kinds.UNDECIDED_PAGE: lambda fields: fields["version"] in found.versions,
        kinds.NEXT_ITEMS: lambda fields: fields["version"] in found.versions,
        kinds.CHECKPOINT: lambda fields: fields["fingerprint"] not in trained,
    }
    for kind, test in belongs.items():
        found.named |= {key: Named(key, key) for key, fields in _matching(found, kind) if test(fields)}


def _hash_in_name(key: str) -> str | None:
    match = _NAME_HASH.search(key)
    return match[1] if match else None
