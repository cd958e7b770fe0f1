"""Training checkpoints: all that is needed to go on after an epoch as if nothing had happened.

Hidden states start an epoch at zero and random numbers are drawn from (seed, epoch, step), so that neither is kept. A
checkpoint is bound to a digest of everything that the result depends on, and is used for nothing else.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sbr_tasks.gru4rec.curve import Epoch
from sbr_tasks.gru4rec.weights import Floats

logger = logging.getLogger(__name__)

_FORMAT = 2
_DIGEST_SIZE = hashlib.sha256().digest_size
_NUMERICS = ("tensorflow", "numpy")
_RECORD, _SLOT, _BEST = "record", "slot/", "best/"


class Checkpoints(Protocol):
    """The one place where a training keeps its latest checkpoint."""

    def load(self) -> bytes | None:
        """What was saved last; None before the first `save`."""

    def save(self, data: bytes) -> None:
        """Replaces what was saved before, wholly or not at all."""


@dataclass(frozen=True)
class Checkpoint:
    """A training after some epochs.

    Attributes:
        curve: All epochs so far.
        slots: The network's parameters and optimiser memory, as `Network.slots` gives them.
        best: The slots after the best epoch; None where they are the current ones.
        n_columns: Score columns of a step: they are padded to the widest step so far, and sums over them depend on it.
    """

    curve: tuple[Epoch, ...]
    slots: Mapping[str, Floats]
    best: Mapping[str, Floats] | None
    n_columns: int


def bind(settings: Mapping[str, Any], arrays: Sequence[npt.NDArray[Any]]) -> str:
    """64 hexadecimal digits that stand for what a training depends on.

    Args:
        settings: As JSON can hold them. The versions of the numerical packages are added.
        arrays: The data, numbers only.
    """
    versions = {package: importlib.metadata.version(package) for package in _NUMERICS}
    digest = hashlib.sha256(json.dumps([_FORMAT, settings, versions], sort_keys=True).encode())
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def save_checkpoint(checkpoints: Checkpoints, checkpoint: Checkpoint, binding: str) -> None:
    """Saves a checkpoint that only a training of the same `binding` goes on from."""
    record = {
        "binding": binding,
        "curve": [asdict(epoch) for epoch in checkpoint.curve],
        "n_columns": checkpoint.n_columns,
    }
    arrays: dict[str, npt.NDArray[Any]] = {_RECORD: np.frombuffer(json.dumps(record).encode(), np.uint8)}
    arrays |= {_SLOT + name: array for name, array in checkpoint.slots.items()}
    arrays |= {_BEST + name: array for name, array in (checkpoint.best or {}).items()}
    archive = io.BytesIO()
    archive.write(bytes(_DIGEST_SIZE))
    np.savez(archive, **arrays)  # type: ignore[arg-type]  # uncompressed: floats hardly shrink
    content = archive.getbuffer()
    content[:_DIGEST_SIZE] = hashlib.sha256(content[_DIGEST_SIZE:]).digest()
    checkpoints.save(bytes(content))


def is_whole(data: bytes) -> bool:
    """Whether saved content is what was saved: it begins with the hash of the rest."""
    return hashlib.sha256(data[_DIGEST_SIZE:]).digest() == data[:_DIGEST_SIZE]


def load_checkpoint(checkpoints: Checkpoints, binding: str) -> Checkpoint | None:
    """The saved checkpoint; None, with a warning, where it is damaged or belongs to another training."""
    data = checkpoints.load()
    if data is None:
        return None
    archive = data[_DIGEST_SIZE:]
    if not is_whole(data):
        logger.warning("The training checkpoint (%d bytes) is damaged: training starts afresh.", len(data))
        return None
    with np.load(io.BytesIO(archive), allow_pickle=False) as file:
        record = json.loads(file[_RECORD].tobytes())
        if record["binding"] != binding:
            logger.warning("The training checkpoint is of other settings, data or package versions: training starts afresh.")
            return None
        slots = {name.removeprefix(_SLOT): file[name] for name in file.files if name.startswith(_SLOT)}
        best = {name.removeprefix(_BEST): file[name] for name in file.files if name.startswith(_BEST)}
    return Checkpoint(tuple(Epoch(**epoch) for epoch in record["curve"]), slots, best or None, record["n_columns"])
