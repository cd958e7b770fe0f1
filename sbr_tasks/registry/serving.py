"""The serving copy: the champion's SavedModel under the number of the log entry that made it champion.

`serving/gru4rec/<entry>/` is the layout that TF Serving loads: it takes the highest number. The copy follows from the log; a
record beside it says that it is complete.
"""

from __future__ import annotations

import logging

from sbr_tasks.errors import DamagedError
from sbr_tasks.gru4rec.export import check_saved_model
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
        files: Its files.
    """

    version: str
    entry: int
    files: tuple[FileRecord, ...]


def check_serving(store: Store, settings: Settings, version: ModelVersion, window: Window) -> None:
    """Loads a version's SavedModel in a fresh process and asks it for the first test sessions, without their last click.

    Raises:
        RegistryError: It doesn't answer with the items that the model recommends; the version must not be promoted.
        DamagedError: Its files are missing or damaged.
    """
    sample = [items[:-1] for items in first_sessions(store, window, "test", _SAMPLE_SESSIONS)]
    with scratch_folder(settings, "serving") as folder:
        for name, record in version.saved_model.items():
            file = folder / file_name(name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(store.read(record))
        k = version.inputs.serving.k
        check_saved_model(folder, load_model(store, version), sample, k=k)
    logger.info("The SavedModel of %s recommends the same items for %d test sessions.", version.name, len(sample))


def is_published(store: Store, entry: int, name: str) -> bool:
    """Whether a log entry's record says that the copy of this version is complete."""
    key = kinds.SERVED.key(number=entry)
    try:
        return store.exists(key) and store.get_record(key, ServedCopy).version == name
    except DamagedError as error:
        logger.warning("Publishing again: %s", error)
        return False


def publish_serving(store: Store, entry: int, version: ModelVersion) -> None:
    """Publishes a version as `serving/gru4rec/<entry>/`, in place of what is there.

    The graph is written last: until then TF Serving finds nothing to load in the folder.

    Args:
        store: Where models and the serving copy are.
        entry: Number of the log entry that made the version champion.
        version: The champion.

    Raises:
        DamagedError: Files of the version are missing or damaged; what was there is untouched.
    """
    folder = kinds.SERVED_FILE.folder(entry=entry)
    files = {f"{folder}/{file_name(name)}": store.read(record) for name, record in version.saved_model.items()}
    for key in set(store.keys(folder)) - files.keys():
        store.delete(key)
    last = sorted(files, key=lambda key: (key == f"{folder}/{_GRAPH}", key))
    copy = ServedCopy(version=version.name, entry=entry, files=tuple(store.replace(key, files[key]) for key in last))
    store.replace_record(kinds.SERVED.key(number=entry), copy.as_dict())
    logger.info("%s is served as %s.", version.name, folder)


def served(store: Store) -> tuple[int, str] | None:
    """Number and version of the newest complete serving copy; None while there is none."""
    keys = store.keys(kinds.SERVED.folder())
    if not keys:
        return None
    copy = store.get_record(keys[-1], ServedCopy)
    return copy.entry, copy.version
