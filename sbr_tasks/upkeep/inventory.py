"""What lies in the store, and which record names it.

Only the store's own folders are looked at: `mlflow/` and `scratch/`, which lie inside a local store too, are not among them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from sbr_tasks.clicks.catalog import COMMITS, named_files
from sbr_tasks.errors import DamagedError
from sbr_tasks.registry.log import PROMOTIONS, Entry, Promotion, fold, read_entry
from sbr_tasks.registry.serving import RECORDS, SERVING
from sbr_tasks.registry.versions import VERSION_FIELDS
from sbr_tasks.store import INCOMPLETE, FileRecord, Json, LogEntry, Stat, Store, entry_key, file_records, fingerprint
from sbr_tasks.window.build import WINDOW_FIELDS, removed_key

AREAS = (
    "commits",
    "incoming",
    "clicks",
    "quarantine",
    "rejects",
    "validation",
    "windows",
    "profiles",
    "models",
    "evaluations",
    "promotions",
    "checkpoints",
    "serving",
    "recommendations",
    "reports",
)
"""The store's folders. What lies elsewhere isn't the store's."""

_DAY = re.compile(r"=(\d{4}-\d{2}-\d{2})/|^models/(\d{4}-\d{2}-\d{2})-")
_NAME_HASH = re.compile(r"\.([0-9a-f]{12})(\.[^./]*)?$")
_ENTRY = re.compile(r"/(\d{8})\.json$")
_WINDOW = re.compile(r"windows/as_of=([^/]+)/([^/]+)/(manifest|removed)\.json")
_VERSION = re.compile(r"models/([^/]+)/manifest\.json")
_SCORE = re.compile(r"evaluations/on=([^/]+)/by=[^/]+/[^/]+\.json")
_PROFILE = re.compile(r"profiles/as_of=[^/]+/[^/]+/manifest\.json")
_COPY = re.compile(r"serving/published/(\d{8})\.json")
_REPORT = re.compile(r"reports/as_of=[^/]+/(?:(\d{8})|([-0-9a-f]{19}))\.html")
_NEXT_ITEMS = re.compile(r"recommendations/([^/]+)/next_items\.parquet")

_COPY_AGAIN = "Run `sbr store copy` again, as it was run before, to resume it."
_BACKUP = "Restore it from a backup: nothing else holds it."
_AGAIN = "`sbr store forget {day} --reason WHY`, then the run of the day again: its clicks come from the source again."
_REMEDIES = {
    "commits": _BACKUP,
    "promotions": _BACKUP,
    "incoming": _AGAIN,
    "clicks": _AGAIN,
    "quarantine": _AGAIN,
    "validation": _AGAIN,
    "rejects": "Restore it from a backup, or ingest the source again.",
    "windows": "Delete its folder, then `sbr window --as-of {day}` builds it again.",
    "profiles": "Delete its folder, then `sbr profile --as-of {day}` makes it again.",
    "models": "Restore its folder from a backup; or delete it and run {day} again: the same inputs give the same version. "
    "Then `sbr repair`.",
    "evaluations": "Run the day again: what can't be read is scored again.",
    "checkpoints": "Delete it: its training starts afresh.",
    "serving": "`sbr repair` makes it again.",
    "recommendations": "Run the DAG publish_recommendations again, or delete it if its version is no champion.",
    "reports": "`sbr report --as-of {day}` writes it again.",
}


@dataclass(frozen=True)
class Named:
    """A file that a record names, or that explains itself.

    Attributes:
        key: Where it lies.
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
        stats: Everything that lies there, by key.
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
        stats={key: stat for area in AREAS for key, stat in store.stats(area).items()},
        half_written={key: stat for area in AREAS for key, stat in store.half_written(area).items()},
    )
    _read_commits(store, found)
    _read_promotions(store, found)
    _read_windows(store, found)
    _read_versions(store, found)
    for pattern in (_SCORE, _PROFILE, _COPY):
        for key in _matching(found, pattern):
            _add_record(store, found, key, file_records)
    _add_what_the_log_needs(found)
    _add_self_explaining(found)
    return found


def fault_of(kind: str, key: str, why: str, record: str) -> Fault:
    """A fault, with what to do about it."""
    area = key.split("/", 1)[0]
    day = _DAY.search(key)
    remedy = _REMEDIES[area].format(day=next(filter(None, day.groups())) if day else "DAY")
    return Fault(key, kind, why, record, remedy)


def _matching(found: Inventory, pattern: re.Pattern[str]) -> list[str]:
    return [key for key in found.stats if pattern.fullmatch(key)]


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


def _log_keys(found: Inventory, prefix: str) -> Iterator[tuple[int, str]]:
    """Numbers and keys of a log's entries; an entry that is lacking before the last one is a fault."""
    mark = f"{prefix}/{INCOMPLETE}"
    if mark in found.stats:
        found.named[mark] = Named(mark, mark)
        found.faults.append(Fault(mark, "damaged", "The store is a copy that isn't complete.", mark, _COPY_AGAIN))
    keys = {int(match[1]): key for key in found.stats if key.startswith(f"{prefix}/") and (match := _ENTRY.search(key))}
    for number in range(1, max(keys, default=0) + 1):
        if number in keys:
            yield number, keys[number]
        else:
            key = entry_key(prefix, number)
            found.faults.append(fault_of("missing", key, "The log has later entries, and not this one.", prefix))


def _read_commits(store: Store, found: Inventory) -> None:
    for number, key in _log_keys(found, COMMITS):
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
        found.promotions.append(read_entry(LogEntry(number, body), entry_key(PROMOTIONS, number)))
        return []

    for number, key in _log_keys(found, PROMOTIONS):
        _add_record(store, found, key, lambda body, number=number: parse(number, body))  # type: ignore[misc]
    last = max((entry.number for entry in found.promotions), default=0)
    for key in found.stats:
        match = _COPY.fullmatch(key) or _REPORT.fullmatch(key)
        if match and match[1] and int(match[1]) > last:
            lost = entry_key(PROMOTIONS, int(match[1]))
            if lost not in found.stats:
                why = "The log ends before it, but what follows from it is there."
                found.faults.append(fault_of("missing", lost, why, key))


def _read_windows(store: Store, found: Inventory) -> None:
    for key in _matching(found, _WINDOW):
        match = _WINDOW.fullmatch(key)
        assert match is not None  # noqa: S101 (narrows the type)
        if match[3] == "removed":
            _add_record(store, found, key, lambda _: [], WINDOW_FIELDS)
            continue
        body = _add_record(store, found, key, file_records, WINDOW_FIELDS)
        if body is not None:
            _require_fingerprint(found, key, body, match[2])
            found.windows[date.fromisoformat(match[1]), match[2]] = body


def _read_versions(store: Store, found: Inventory) -> None:
    for key in _matching(found, _VERSION):
        body = _add_record(store, found, key, file_records, VERSION_FIELDS)
        if body is not None:
            name = key.split("/")[1]
            _require_fingerprint(found, key, body, name[-8:])
            found.versions[name] = body


def _require_fingerprint(found: Inventory, key: str, body: Json, name: str) -> None:
    if not fingerprint(body["inputs"]).startswith(name):
        why = f"Its inputs have the fingerprint {fingerprint(body['inputs'])}, its name says {name}."
        found.faults.append(fault_of("damaged", key, why, key))


def _add_what_the_log_needs(found: Inventory) -> None:
    """Versions and windows that decisions name, and the champion's serving copy; they are missing if they aren't there."""
    for entry in found.promotions:
        record = entry_key(PROMOTIONS, entry.number)
        needed = [f"models/{entry.version}/manifest.json"]
        if isinstance(entry, Promotion):
            window = f"windows/as_of={entry.as_of}/{entry.window}/manifest.json"
            needed += [] if removed_key(entry.as_of, entry.window) in found.stats else [window]
        for key in needed:
            found.named.setdefault(key, Named(key, record))
    champion = fold(found.promotions).champion_entry
    if champion:
        key = entry_key(RECORDS, champion)
        found.named.setdefault(key, Named(key, entry_key(PROMOTIONS, champion)))


def _add_self_explaining(found: Inventory) -> None:
    """Pages, recommendations and checkpoints: no record names them, but their names say what they belong to."""
    entries = {entry.number for entry in found.promotions}
    trained = {body.get("fingerprint") for body in found.versions.values()}
    belongs: dict[str, Callable[[str], bool]] = {
        "reports": lambda key: (
            (match := _REPORT.fullmatch(key)) is not None
            and (int(match[1]) in entries if match[1] else match[2] in found.versions)
        ),
        "recommendations": lambda key: (match := _NEXT_ITEMS.fullmatch(key)) is not None and match[1] in found.versions,
        "checkpoints": lambda key: key.removeprefix("checkpoints/").removesuffix(".npz") not in trained,
    }
    for key in found.stats:
        test = belongs.get(key.split("/", 1)[0])
        if test and test(key):
            found.named[key] = Named(key, key)


def _hash_in_name(key: str) -> str | None:
    match = _NAME_HASH.search(key)
    return match[1] if match else None


def serving_number(key: str) -> int | None:
    """The log entry that a file of a serving copy, or its record, belongs to."""
    match: Any = re.match(rf"{SERVING}/(\d+)/|{RECORDS}/(\d+)\.json", key)
    return int(match[1] or match[2]) if match else None
