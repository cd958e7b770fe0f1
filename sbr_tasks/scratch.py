"""Temporary folders inside the setting `scratch`, named after machine and process.

So the folders of killed processes can be removed, without touching those of other machines and containers.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sbr_tasks.errors import StoreError, system_error
from sbr_tasks.settings import Settings

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


def machine() -> str:
    """An id of this machine or container, because process ids are unique only within it."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


@contextmanager
def scratch_folder(settings: Settings, purpose: str) -> Iterator[Path]:
    """Yields a new folder `<purpose>-<machine>-<process>-...` and removes it afterwards.

    First, it removes folders for the same purpose that killed processes of this machine left behind.

    Args:
        settings: `scratch` is used.
        purpose: A word without a dash.

    Raises:
        StoreError: The folder can't be created, or the disk is full.
    """
    parent = Path(settings.scratch or tempfile.gettempdir())
    try:
        parent.mkdir(parents=True, exist_ok=True)
        prefix = f"{purpose}-{machine()}-"
        for folder in parent.glob(f"{prefix}*"):
            if not Path(f"/proc/{folder.name.removeprefix(prefix).split('-')[0]}").exists():
                shutil.rmtree(folder, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=parent))
    except OSError as error:
        raise StoreError(
            f"The scratch folder {parent} can't be used ({system_error(error)}). Name another one (setting scratch)."
        ) from error
    try:
        yield folder
    except OSError as error:
        if error.errno not in _FULL or not _is_inside(folder, error):
            raise
        raise StoreError(
            f"The scratch folder {folder} can't be written ({system_error(error)}). Nothing was stored; "
            "free some space, or name another folder (setting scratch)."
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_inside(folder: Path, error: OSError) -> bool:
    """Whether an error is about files in a folder, and not, for example, about a copy to a full disk elsewhere."""
    names = (name for name in (error.filename, error.filename2) if isinstance(name, str | os.PathLike))
    return all(Path(name).is_relative_to(folder) for name in names)
