"""Temporary folders below the setting `scratch`, each named after its machine and process.

So what a killed process left is found and removed, and what a process of another machine or container uses is left alone.
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
    """What tells this machine or container, and so the numbers of its processes, from others that share the folder."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


@contextmanager
def scratch_folder(settings: Settings, purpose: str) -> Iterator[Path]:
    """A folder `<purpose>-<machine>-<process>-...`, gone afterwards; what killed processes of this machine left goes first.

    Args:
        settings: `scratch` counts.
        purpose: A word without a dash.

    Raises:
        StoreError: The folder can't be created, or what is written inside finds no space.
    """
    parent = Path(settings.scratch or tempfile.gettempdir())
    try:
        parent.mkdir(parents=True, exist_ok=True)
        own = f"{purpose}-{machine()}-"
        for left in parent.glob(f"{own}*"):
            if not Path(f"/proc/{left.name.removeprefix(own).split('-')[0]}").exists():
                shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{own}{os.getpid()}-", dir=parent))
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
    """Whether a system's error is about a folder, as far as it says: a copy to a full disk elsewhere isn't."""
    names = (name for name in (error.filename, error.filename2) if isinstance(name, str | os.PathLike))
    return all(Path(name).is_relative_to(folder) for name in names)
