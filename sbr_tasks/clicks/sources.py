"""Finding the files of a source, and telling whether they changed."""

from __future__ import annotations

import glob
from pathlib import Path

from sbr_tasks.errors import NotArrivedError, SourceError
from sbr_tasks.settings import Settings
from sbr_tasks.store import fingerprint


def find_files(path: str | None, named_by: str = "source.path or --from") -> list[Path]:
    """The files of a source, sorted by name.

    Args:
        path: A file, a folder (all its files but hidden ones), or a glob.
        named_by: What a person sets it with, for the error.

    Raises:
        SourceError: No path is set.
        NotArrivedError: There is no file.
    """
    if not path:
        raise SourceError(
            "No source of clicks is set. Set source.path (SBR_SOURCE__PATH) to a file, a folder or a glob, "
            "and source.format to its format."
        )
    place = Path(path)
    if place.is_file():
        return [place]
    if place.is_dir():
        found = [file for file in sorted(place.iterdir()) if file.is_file() and not file.name.startswith((".", "_"))]
        if not found:
            raise NotArrivedError(f"Expected files of clicks in the folder {place}, found none.")
        return found
    found = sorted(Path(name) for name in glob.glob(path, recursive=True) if Path(name).is_file())  # noqa: PTH207 (absolute globs)
    if not found:
        raise NotArrivedError(f"Expected clicks in {path}, but there is no such file. Check the path ({named_by}).")
    return found


def source_fingerprint(files: list[Path], settings: Settings) -> str:
    """Stands for the files as they are now (names, sizes, modification times), and for how they are read."""
    seen = {str(file): [file.stat().st_size, file.stat().st_mtime_ns] for file in files}
    how = settings.source.model_dump(mode="json", exclude={"path"})
    return fingerprint({"files": seen, "how": how, "timezone": settings.timezone})
