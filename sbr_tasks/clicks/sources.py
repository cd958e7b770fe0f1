"""Finds the files of a source, local or in object storage, and detects whether they changed."""

from __future__ import annotations

import glob
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO, Any

import obstore
from obstore.exceptions import BaseError

from sbr_tasks.errors import NotArrivedError, SourceError, StoreError, first_line
from sbr_tasks.settings import Settings, SourceSettings, is_url
from sbr_tasks.store import fingerprint, open_backend

_WILDCARD = re.compile(r"[*?[]")
_UNFINISHED = (".part", ".partial", ".filepart", ".crdownload", ".tmp", ".temp", ".swp", ".crc", "~")
"""Suffixes of files that a program is still writing, and of its auxiliary files."""


@dataclass(frozen=True)
class RemoteFile:
    """An object in a bucket.

    Attributes:
        url: Its full name, for messages.
        key: Its name in the bucket.
        size: Size in bytes.
        version: Changes with the content: the ETag, or the modification time.
        backend: The bucket.
    """

    url: str
    key: str
    size: int
    version: str
    backend: Any = field(repr=False, compare=False)

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        return PurePosixPath(self.key).name

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.key).suffix


SourceFile = Path | RemoteFile
"""A file to read clicks from; see `open_file` and `size_of`."""


def find_files(
    path: str | None, options: Mapping[str, str] | None = None, named_by: str = "source.path or --from"
) -> list[SourceFile]:
    """The files of a source, sorted by name.

    Args:
        path: A file, a folder or a glob; or one of these as an s3://, gs:// or az:// URL. A folder's files include those in its
            partitions (subfolders such as `day=2020-01-01`). Hidden files, and files whose names show that they are still being
            written, are skipped, unless the last part of a glob has the same prefix or suffix.
        options: Options of the object store of a URL.
        named_by: The setting or option of the path, for errors.

    Raises:
        SourceError: No path is set, or a file's name isn't UTF-8.
        NotArrivedError: There is no file.
        StoreError: The object store can't be listed.
    """
    if not path:
        raise SourceError(
            "No source of clicks is set. Set source.path (SBR_SOURCE__PATH) to a file, a folder or a glob, "
            "and source.format to its format."
        )
    if is_url(path):
        return _find_remote(path, options or {}, named_by)
    place = Path(path)
    if place.is_file():
        return [place]
    if place.is_dir():
        files = sorted(_files_in(place), key=str)
        if not files:
            raise NotArrivedError(
                f"Expected files of clicks in the folder {place}, found none. Hidden and unfinished files are skipped, and "
                f"so are folders that aren't partitions (name=value); a glob such as '{place}/*/*' reads those."
            )
        return _require_utf8(files)
    names = glob.glob(path, recursive=True)  # noqa: PTH207 (absolute globs)
    files = sorted(file for file in map(Path, names) if file.is_file() and not _is_passed_over(file.as_posix(), path))
    if not files:
        raise NotArrivedError(f"Expected clicks in {path}, but there is no such file. Check the path ({named_by}).")
    return _require_utf8(files)


def _files_in(folder: Path) -> Iterator[Path]:
    """The files of a folder and of its partitions."""
    for place in folder.iterdir():
        if _is_skipped(place.name):
            continue
        if place.is_file():
            yield place
        elif place.is_dir() and "=" in place.name:
            yield from _files_in(place)


def _require_utf8(files: list[Path]) -> list[SourceFile]:
    """The same files, checked: names that aren't UTF-8 can't be written to logs and records."""
    for file in files:
        try:
            str(file).encode()
        except UnicodeEncodeError:
            raise SourceError(
                f"Expected file names in UTF-8 in {str(file.parent)!a}, found {file.name!a}. Rename the file."
            ) from None
    return list(files)


def files_of(source: SourceSettings) -> list[SourceFile]:
    """The files of the settings' source; see `find_files`."""
    return find_files(source.path, source.options)


def open_file(file: SourceFile) -> IO[bytes]:
    """Opens a file as a seekable stream.

    Raises:
        OSError: A local file can't be read.
        StoreError: The object store can't be read; reading from the stream may raise it as well.
    """
    if isinstance(file, Path):
        return file.open("rb")
    try:
        return io.BufferedReader(_RemoteStream(file.url, obstore.open_reader(file.backend, file.key)), 1 << 20)
    except BaseError as error:
        raise StoreError(f"{file} can't be read: {first_line(error)}") from error


def size_of(file: SourceFile) -> int:
    """Size of a file in bytes."""
    return file.stat().st_size if isinstance(file, Path) else file.size


_NOT_HOW_IT_IS_READ = {"path", "options", "wait_minutes", "check_every_minutes", "settle_seconds"}


def source_fingerprint(files: list[SourceFile], settings: Settings) -> str:
    """Identifies the files in their current state (names, sizes, versions or modification times), and how they are read."""
    state = {str(file): [size_of(file), file.stat().st_mtime_ns if isinstance(file, Path) else file.version] for file in files}
    how = settings.source.model_dump(mode="json", exclude=_NOT_HOW_IT_IS_READ)
    return fingerprint({"files": state, "how": how, "timezone": settings.timezone})


class _RemoteStream(io.RawIOBase):
    """obstore's reader as a Python stream."""

    def __init__(self, url: str, reader: Any) -> None:
        self._url = url
        self._reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = memoryview(self._reader.read(len(buffer)))
        except BaseError as error:
            raise StoreError(f"{self._url} can't be read: {first_line(error)}") from error
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._reader.seek(offset, whence))

    def tell(self) -> int:
        return int(self._reader.tell())


def _find_remote(path: str, options: Mapping[str, str], named_by: str) -> list[SourceFile]:
    scheme, _, rest = path.partition("://")
    bucket, _, pattern = rest.partition("/")
    root = f"{scheme}://{bucket}"
    wildcard = _WILDCARD.search(pattern)
    prefix = pattern[: wildcard.start()].rpartition("/")[0] if wildcard else pattern.rstrip("/")
    try:
        backend = open_backend(root, options)
        listed = [entry for batch in obstore.list(backend, prefix or None) for entry in batch]
        if not listed and not wildcard:
            listed = [obstore.head(backend, pattern)]
    except FileNotFoundError:
        listed = []
    except (BaseError, OSError, ValueError) as error:
        raise StoreError(
            f"{root} can't be listed: {first_line(error)}. Check source.path, source.options and the credentials."
        ) from error
    files = [
        RemoteFile(
            f"{root}/{entry['path']}",
            entry["path"],
            entry["size"],
            entry["e_tag"] or entry["last_modified"].isoformat(),
            backend,
        )
        for entry in listed
        if (_is_asked_for(entry["path"], pattern) if wildcard else _is_in(entry["path"], pattern))
    ]
    if not files:
        raise NotArrivedError(f"Expected clicks in {path}, but there is no such object. Check the path ({named_by}).")
    return sorted(files, key=str)


def _is_in(key: str, folder: str) -> bool:
    """Whether a key is `folder` itself, or a file in it or in its partitions."""
    inside = key.removeprefix(f"{folder.rstrip('/')}/" if folder else "")
    is_inside = inside != key or not folder
    *folders, name = inside.split("/")
    in_partition = all("=" in part and not _is_skipped(part) for part in folders)
    return key == folder or (is_inside and in_partition and not _is_skipped(name))


def _is_asked_for(key: str, pattern: str) -> bool:
    """Whether a glob selects a key."""
    return _matches(key, pattern) and not _is_passed_over(key, pattern)


def _is_passed_over(name: str, pattern: str) -> bool:
    """Whether a glob must skip a file, because it is hidden, still being written, or in a hidden folder."""
    named = pattern.split("/")
    *folders, last = name.split("/")
    hidden = any(folder.startswith((".", "_")) and folder not in named for folder in folders)
    return (hidden and not any(part.startswith((".", "_")) for part in named)) or _is_skipped(last, named[-1])


def _matches(key: str, pattern: str) -> bool:
    """Whether a key matches a glob as in a shell: only ** crosses folders."""
    parts, patterns = key.split("/"), pattern.split("/")
    if "**" in patterns:
        at = patterns.index("**")
        rest = "/".join(patterns[at + 1 :])
        head_fits = len(parts) > at and all(map(fnmatchcase, parts[:at], patterns[:at]))
        return head_fits and any(_matches("/".join(parts[start:]), rest) for start in range(at, len(parts)))
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


def _is_skipped(name: str, pattern: str = "") -> bool:
    """Whether a file is hidden or still being written, and the pattern doesn't ask for such files."""
    is_hidden = name.startswith((".", "_")) and not pattern.startswith((".", "_"))
    return is_hidden or (name.lower().endswith(_UNFINISHED) and not pattern.lower().endswith(_UNFINISHED))
