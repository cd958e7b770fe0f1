"""Training checkpoints: everything needed to resume after an epoch with bitwise the same result.

Hidden states are zero at the start of an epoch and random numbers are drawn from (seed, epoch, step), so neither is saved. A
checkpoint carries a digest of everything that the result depends on, and only the same training can resume from it.
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
    """Storage for the latest checkpoint of one training."""

    def load(self) -> bytes | None:
        """The data saved last; None before the first `save`."""

    def save(self, data: bytes) -> None:
        """Replaces the saved data atomically."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after an epoch.

    Attributes:
        curve: All epochs so far.
        slots: The network's parameters and optimiser state, as `Network.slots` returns them.
        best: The slots after the best epoch; None if that is the latest epoch.
        n_columns: Score columns of a step. Steps are padded to the widest one so far, which affects floating-point sums.
    """

    curve: tuple[Epoch, ...]
    slots: Mapping[str, Floats]
    best: Mapping[str, Floats] | None
    n_columns: int


def bind(settings: Mapping[str, Any], arrays: Sequence[npt.NDArray[Any]]) -> str:
    """A digest (64 hexadecimal digits) of everything that a training depends on.

    Args:
        settings: JSON values. The versions of the numerical packages are added.
        arrays: Numeric arrays of the data.
    """
    versions = {package: importlib.metadata.version(package) for package in _NUMERICS}
    digest = hashlib.sha256(json.dumps([_FORMAT, settings, versions], sort_keys=True).encode())
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def save_checkpoint(checkpoints: Checkpoints, checkpoint: Checkpoint, binding: str) -> None:
    """Saves a checkpoint from which only a training with the same `binding` resumes."""
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
    """Whether the data of a checkpoint is undamaged: it begins with the SHA-256 of the rest."""
    return hashlib.sha256(data[_DIGEST_SIZE:]).digest() == data[:_DIGEST_SIZE]


def load_checkpoint(checkpoints: Checkpoints, binding: str) -> Checkpoint | None:
    """The saved checkpoint; None if there is none, and, with a warning, if it is damaged or belongs to another training."""
    data = checkpoints.load()
    if data is None:
        return None
    archive = data[_DIGEST_SIZE:]
    if not is_whole(data):
        logger.warning("The training checkpoint (%d bytes) is damaged, so training starts from scratch.", len(data))
        return None
    with np.load(io.BytesIO(archive), allow_pickle=False) as file:
        record = json.loads(file[_RECORD].tobytes())
        if record["binding"] != binding:
            logger.warning("The checkpoint has other settings, data or package versions, so training starts from scratch.")
            return None
        slots = {name.removeprefix(_SLOT): file[name] for name in file.files if name.startswith(_SLOT)}
        best = {name.removeprefix(_BEST): file[name] for name in file.files if name.startswith(_BEST)}
    return Checkpoint(tuple(Epoch(**epoch) for epoch in record["curve"]), slots, best or None, record["n_columns"])
