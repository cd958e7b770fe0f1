"""The serving copy: the champion's SavedModel under the number of the log entry that made it champion.

`serving/gru4rec/<entry>/` is the layout that TF Serving loads: it takes the highest number. The copy follows from the log and
from what a placement may show; a record beside it says that it is complete.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sbr_tasks.errors import DamagedError
from sbr_tasks.gru4rec.export import check_saved_model, export_apart
from sbr_tasks.readout import PlacementRule
from sbr_tasks.registry.exclusions import served_rule
from sbr_tasks.registry.versions import ModelVersion, load_model
from sbr_tasks.scratch import scratch_folder
from sbr_tasks.settings import Settings
from sbr_tasks.store import FileRecord, Record, Store, file_name, kinds
from sbr_tasks.window.data import first_sessions
from sbr_tasks.window.record import Window

logger = logging.getLogger(__name__)

_GRAPH = "saved_model.pb"
_SAMPLE_SESSIONS = 50


class ServedCopy(Record):
    """That a serving copy is complete.

    Attributes:
        version: The version that is served.
        entry: The log entry that made it the champion.
        rule: Fingerprint of the rule that it hides items by.
        files: Its files.
    """

    version: str
    entry: int
    rule: str
    files: tuple[FileRecord, ...]


def check_serving(store: Store, settings: Settings, version: ModelVersion, window: Window) -> None:
    """Checks the SavedModel to serve.

    That of a version was checked when it was exported, and its hashes say that it is the same. One under a rule that hides
    items is exported, loaded in a fresh process and asked for the first test sessions, without their last click.

    Raises:
        RegistryError: It doesn't answer with the items that the model recommends; the version must not be promoted.
        DamagedError: Its files are missing or damaged.
        SettingsError: The list of excluded items can't be read.
    """
    rule = served_rule(settings)
    with _saved_model(store, settings, version, rule) as folder:
        if rule.hides_nothing:
            return
        sample = [items[:-1] for items in first_sessions(store, window, "test", _SAMPLE_SESSIONS)]
        check_saved_model(folder, load_model(store, version), sample, k=version.inputs.serving.k, rule=rule)
    logger.info("The SavedModel of %s recommends the same items for %d test sessions.", version.name, len(sample))


def is_published(store: Store, entry: int, name: str, rule: PlacementRule) -> bool:
    """Whether a log entry's record says that the copy of this version under this rule is complete."""
    key = kinds.SERVED.key(number=entry)
    try:
        copy = store.get_record(key, ServedCopy) if store.exists(key) else None
    except DamagedError as error:
        logger.warning("Publishing again: %s", error)
        return False
    return copy is not None and (copy.version, copy.rule) == (name, rule.fingerprint)


def publish_serving(store: Store, settings: Settings, entry: int, version: ModelVersion, rule: PlacementRule) -> None:
    """Publishes a version as `serving/gru4rec/<entry>/`, in place of what is there.

    Where the rule hides nothing, these are the bytes that the version was published with. Else its SavedModel is exported
    under the rule and checked. The graph is written last: until then TF Serving finds nothing to load in the folder.

    Args:
        store: Where models and the serving copy are.
        settings: `scratch` is used.
        entry: Number of the log entry that made the version champion.
        version: The champion.
        rule: Which items the copy hides.

    Raises:
        DamagedError: Files of the version are missing or damaged; what was there is untouched.
        RegistryError: The export under the rule failed, or doesn't answer as the model does; as above.
    """
    target = kinds.SERVED_FILE.folder(entry=entry)
    with _saved_model(store, settings, version, rule) as folder:
        if not rule.hides_nothing:
            model = load_model(store, version)
            ids = model.index.ids.tolist()[: 4 * _SAMPLE_SESSIONS]
            sample = [ids[start : start + 4] for start in range(0, len(ids), 4)]
            check_saved_model(folder, model, sample, k=version.inputs.serving.k, rule=rule)
        exported = [file for file in folder.rglob("*") if file.is_file()]
        files = {f"{target}/{file.relative_to(folder).as_posix()}": file.read_bytes() for file in exported}
    record, graph = kinds.SERVED.key(number=entry), f"{target}/{_GRAPH}"
    present = set(store.keys(target))
    # Files of two copies must not be mixed, nor a record name what is gone, wherever this stops.
    outdated = present - files.keys() if is_published(store, entry, version.name, rule) else {record, *present}
    for key in sorted(outdated, key=lambda key: (key != record, key != graph)):
        store.delete(key)
    last = sorted(files, key=lambda key: (key == graph, key))
    records = tuple(store.replace(key, files[key]) for key in last)
    copy = ServedCopy(version=version.name, entry=entry, rule=rule.fingerprint, files=records)
    store.replace_record(record, copy.as_dict())
    logger.info("%s is served as %s (%s).", version.name, target, rule)


@contextmanager
def _saved_model(store: Store, settings: Settings, version: ModelVersion, rule: PlacementRule) -> Iterator[Path]:
    """A folder with a version's SavedModel under a rule: the published files, or a new export in a process of its own."""
    with scratch_folder(settings, "serving") as scratch:
        folder = scratch / "saved_model"
        if rule.hides_nothing:
            for name, record in version.saved_model.items():
                file = folder / file_name(name)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(store.read(record))
        else:
            export_apart(load_model(store, version), folder, k=version.inputs.serving.k, rule=rule)
        yield folder


def served(store: Store) -> tuple[int, str] | None:
    """Number and version of the newest complete serving copy; None while there is none."""
    keys = store.keys(kinds.SERVED.folder())
    if not keys:
        return None
    copy = store.get_record(keys[-1], ServedCopy)
    return copy.entry, copy.version
