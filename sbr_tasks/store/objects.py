"""The store: objects by key in a local folder or an object store, with the same guarantees."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

import obstore
import pyarrow as pa
from obstore.exceptions import AlreadyExistsError as KeyExistsError
from obstore.exceptions import BaseError
from obstore.store import LocalStore, MemoryStore, from_url
from pydantic import ValidationError

from sbr_tasks.errors import AlreadyExistsError, DamagedError, FormatError, StoreError, first_line
from sbr_tasks.settings import Settings, is_url
from sbr_tasks.store import kinds
from sbr_tasks.store.records import REMEDY, FileRecord, Json, Record, first_problem, seal, unseal
from sbr_tasks.store.tables import batches_of, from_parquet, to_parquet

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)

_CLIENT_OPTIONS = ("allow_http", "allow_invalid_certificates", "connect_timeout", "proxy_url", "timeout")
"""Options of the HTTP client; obstore takes them separately from those of the object store."""

_SERVICE_OPTIONS = ("endpoint", "account_name")
"""Options, by obstore's names, that identify the service of a bucket. Its region and credentials don't."""

FORMAT = 4
"""Version of the store's format. It increases when a release can't read the records of the previous one."""
_READ_AT_ONCE = 16
_CHUNK = 8 << 20
_HALF_WRITTEN = re.compile(r"#\d+$")
"""The end of the name that obstore gives a local file until it is complete."""
_HASH_DIGITS = 12
"""Hexadecimal digits of a published file's hash in its name."""


class StoreFormat(Record):
    """The version of a store's format."""

    format: int


@dataclass(frozen=True)
class Stat:
    """Size in bytes and modification time (UTC, by the store's clock) of the object under a key."""

    key: str
    size: int
    modified: datetime


class Store:
    """All durable state in one place. Keys are `/`-separated paths relative to it.

    Example:
        store = Store.open(load_settings())
        file = store.publish("windows/items.parquet", data)
        data = store.read(file)  # raises DamagedError if the content has changed
    """

    def __init__(self, url: str, options: Mapping[str, str] | None = None) -> None:
        """Opens the store. A local folder is created by the first write; reading creates nothing.

        Args:
            url: A local folder, or `s3://bucket/prefix`, `gs://...`, `az://...`, `memory:///`.
            options: Options of the object store, such as `endpoint` and `region`.

        Raises:
            StoreError: `url` is a file, or it or an option isn't valid.
        """
        self.url = url
        self._log_entries: dict[Stat, Json] = {}
        self._folder: Path | None = None
        self._opened: Any = None
        try:
            if url.startswith("memory:"):
                self._opened = MemoryStore()
            elif is_url(url):
                self._opened = open_backend(url, options or {})
            else:
                self._folder = Path(url)
                nearest = next(place for place in (self._folder, *self._folder.parents) if place.exists())
                if not nearest.is_dir():
                    raise NotADirectoryError(f"expected a folder, but {nearest} is a file; name another place (setting store)")
        except (BaseError, OSError, ValueError) as error:
            raise StoreError(f"The store {url!r} can't be opened: {first_line(error)}") from error

    @property
    def service(self) -> tuple[str, ...]:
        """Endpoint and account of the object store, which tell apart buckets of the same name; empty where not set."""
        config = getattr(self._opened, "config", {})
        return tuple(config.get(name, "").rstrip("/") for name in _SERVICE_OPTIONS)

    @property
    def _backend(self) -> Any:
        """The obstore backend; an empty one in memory while a local folder doesn't exist."""
        if self._opened is None and self._folder is not None:
            if not self._folder.is_dir():
                return MemoryStore()
            self._opened = LocalStore(prefix=self._folder)
        return self._opened

    def _write(self, key: str, data: bytes | memoryview, mode: Literal["create"] | None = None) -> None:
        try:
            if self._folder is not None:
                self._folder.mkdir(parents=True, exist_ok=True)
            obstore.put(self._backend, key, data, mode=mode)
        except KeyExistsError:
            raise AlreadyExistsError(f"{self.where(key)} exists already.") from None
        except (BaseError, OSError) as error:
            raise StoreError(
                f"{self.where(key)} could not be written ({len(data)} bytes): {first_line(error)}. "
                "Check that the store (setting store) may be written and has space left, then try again."
            ) from error

    @classmethod
    def open(cls, settings: Settings) -> Store:
        """The store that the settings name.

        Raises:
            StoreError: It can't be opened.
            FormatError: A release with another store format wrote it.
        """
        store = cls(settings.store, settings.store_options)
        store.require_format()
        return store

    def require_format(self) -> None:
        """Checks that this release can read what the store holds.

        Raises:
            FormatError: Another release wrote it.
        """
        key = kinds.FORMAT.key()
        if self.exists(key):
            stored_format = self.get_record(key, StoreFormat).format
        else:
            stored_format = 1 if self.exists(kinds.COMMIT.key(number=1)) else FORMAT
        if stored_format != FORMAT:
            raise FormatError(
                f"Expected a store of format {FORMAT} in {self.url}, found format {stored_format}, which another release of "
                "sbr-tasks wrote. Use that release, or name an empty place (setting store) and ingest the clicks again."
            )

    def write_format(self) -> None:
        """Records the format; called before the first entry of a log is written.

        Raises:
            FormatError: A release with another store format wrote this store.
        """
        try:
            self.create_record(kinds.FORMAT.key(), StoreFormat(format=FORMAT).as_dict())
        except AlreadyExistsError:
            self.require_format()

    def put_new(self, key: str, data: bytes) -> None:
        """Creates `key` atomically.

        Raises:
            AlreadyExistsError: The key exists; nothing was changed.
            StoreError: The data could not be written.
        """
        self._write(key, data, "create")

    def publish(self, key: str, data: bytes | memoryview) -> FileRecord:
        """Writes a file under `key` with the hash of its content added to the name, so that it is never overwritten.

        Returns:
            The record of the file, to read it with `read`.
        """
        path = PurePosixPath(key)
        digest = hashlib.sha256(data).hexdigest()
        return self._put(str(path.with_name(f"{path.stem}.{digest[:_HASH_DIGITS]}{path.suffix}")), data, digest)

    def create_record(self, key: str, body: Mapping[str, Any]) -> None:
        """Creates a record atomically, with its checksum; see `put_new` for the errors."""
        self.put_new(key, seal(key, body))

    def replace_record(self, key: str, body: Mapping[str, Any]) -> None:
        """Writes a record with its checksum, atomically, and replaces an existing one."""
        self.replace(key, seal(key, body))

    def replace(self, key: str, data: bytes | memoryview) -> FileRecord:
        """Writes `key` atomically and replaces what it held. Only for files that can be rebuilt; others use `publish`."""
        return self._put(key, data, hashlib.sha256(data).hexdigest())

    def _put(self, key: str, data: bytes | memoryview, digest: str) -> FileRecord:
        self._write(key, data)
        return FileRecord(key=key, size=len(data), sha256=digest)

    def publish_table(self, key: str, table: pa.Table) -> FileRecord:
        """Publishes a table as Parquet."""
        return self.publish(key, to_parquet(table))

    def get(self, key: str) -> bytes:
        """The content of `key`, unverified.

        Raises:
            DamagedError: There is no such key.
            StoreError: It can't be read.
        """
        return bytes(self._fetch(key))

    def _fetch(self, key: str) -> obstore.Bytes:
        try:
            return obstore.get(self._backend, key).bytes()
        except FileNotFoundError:
            raise DamagedError(f"{self.where(key)} is missing. {REMEDY}") from None
        except (BaseError, OSError) as error:
            raise StoreError(f"{self.where(key)} can't be read: {first_line(error)}") from error

    def get_json(self, key: str) -> Json:
        """The record under `key`, verified.

        Raises:
            DamagedError: There is no such key, it isn't a JSON object, or its checksum doesn't match its content and key.
            StoreError: It can't be read.
        """
        return unseal(key, self.get(key), self.where(key))

    def get_record(self, key: str, kind: type[R]) -> R:
        """The record under `key`, verified, as its type.

        Raises:
            DamagedError: See `get_json`; or its fields don't fit the type.
            StoreError: It can't be read.
        """
        try:
            return kind.model_validate(self.get_json(key))
        except ValidationError as error:
            raise DamagedError(f"{self.where(key)} is damaged: {first_problem(error)}. {REMEDY}") from None

    def once(self, key: str, kind: type[R], make: Callable[[], R], check: Callable[[R], object] | None = None) -> R:
        """Returns the record under `key`; if there is none, calls `make` and stores its result.

        The key identifies all inputs of `make`, so its work is done only once. If two processes do it at the same time, both
        get the record that was stored first.

        Args:
            key: The record's key.
            kind: The record's type.
            make: Does the work and publishes the files that the record names.
            check: Raises `DamagedError` if an existing record can't be used; it is then rebuilt and replaced.

        Raises:
            DamagedError: There is a record, it is damaged, and `check` is None.
        """
        if (stored := self._usable(key, kind, check)) is not None:
            logger.info("Reusing %s, which has the same inputs.", self.where(key))
            return stored
        record = make()
        try:
            self.create_record(key, record.as_dict())
        except AlreadyExistsError:
            if (stored := self._usable(key, kind, check)) is not None:
                logger.info("Using %s, which another run has just stored.", self.where(key))
                return stored
            self.replace_record(key, record.as_dict())
        return record

    def _usable(self, key: str, kind: type[R], check: Callable[[R], object] | None) -> R | None:
        if not self.exists(key):
            return None
        if check is None:
            return self.get_record(key, kind)
        try:
            record = self.get_record(key, kind)
            check(record)
        except DamagedError as error:
            logger.warning("Rebuilding %s, because the stored one can't be used: %s", self.where(key), error)
            return None
        return record

    def get_published(self, key: str) -> bytes:
        """The content of a published file, verified by the hash in its name, for when its record isn't at hand.

        Raises:
            DamagedError: There is no such key, or its content doesn't match its name.
            StoreError: It can't be read.
        """
        data = self.get(key)
        if hashlib.sha256(data).hexdigest()[:_HASH_DIGITS] != PurePosixPath(key).stem.rpartition(".")[2]:
            raise DamagedError(f"{self.where(key)} is damaged: its content doesn't match the hash in its name. {REMEDY}")
        return data

    def read(self, record: FileRecord) -> bytes:
        """The content of a published file, verified.

        Raises:
            DamagedError: The file is missing, or its content doesn't match the recorded hash.
            StoreError: It can't be read.
        """
        return bytes(self._verified(record))

    def local_file(self, record: FileRecord, folder: Path) -> Path:
        """A local path with the verified content of a published file: the store's own file, or a copy in `folder`.

        See `read` for the errors.
        """
        if self._folder:
            self._require(record, *self.digest(record.key))
            return self._folder / record.key
        copy = folder / f"{record.sha256}{PurePosixPath(record.key).suffix}"
        copy.write_bytes(self._verified(record))
        return copy

    def _verified(self, record: FileRecord) -> obstore.Bytes:
        data = self._fetch(record.key)
        self._require(record, len(data), hashlib.sha256(data).hexdigest())
        return data

    def _require(self, record: FileRecord, size: int, sha256: str) -> None:
        if sha256 != record.sha256:
            raise DamagedError(
                f"{self.where(record.key)} is damaged: its record says {record.size} bytes with SHA-256 "
                f"{record.sha256[:12]}..., found {size} bytes with {sha256[:12]}... {REMEDY}"
            )

    def read_table(
        self, record: FileRecord, columns: Sequence[str] | None = None, dictionaries: Sequence[str] = ()
    ) -> pa.Table:
        """A published Parquet file, verified. See `from_parquet` for the arguments, and `read` for the errors."""
        return from_parquet(self._verified(record), columns, dictionaries)

    def read_batches(self, record: FileRecord, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Some columns of a published Parquet file, verified, in batches of `rows` rows. See `read` for the errors."""
        return batches_of(self._verified(record), columns, rows)

    def delete(self, key: str) -> None:
        """Deletes a key that no record names any more; a missing key is ignored."""
        try:
            obstore.delete(self._backend, key)
        except FileNotFoundError:
            return
        except (BaseError, OSError) as error:
            raise StoreError(f"{self.where(key)} could not be deleted: {first_line(error)}") from error

    def exists(self, key: str) -> bool:
        """Whether there is such a key."""
        return self.stat(key) is not None

    def keys(self, prefix: str) -> list[str]:
        """All keys under the folder `prefix`, sorted; empty when there are none."""
        return list(self.stats(prefix))

    def stats(self, prefix: str) -> dict[str, Stat]:
        """Size and time of all keys under the folder `prefix`, sorted by key; empty when there are none."""
        try:
            entries = [entry for batch in obstore.list(self._backend, prefix) for entry in batch]
        except FileNotFoundError:
            return {}
        except (BaseError, OSError) as error:
            raise StoreError(f"{self.where(prefix)} can't be listed: {first_line(error)}") from error
        stats = (Stat(entry["path"], entry["size"], entry["last_modified"]) for entry in entries)
        return {stat.key: stat for stat in sorted(stats, key=lambda stat: stat.key)}

    def half_written(self, prefix: str) -> dict[str, Stat]:
        """Incomplete files that killed writers left in a local folder, which `stats` doesn't list; none in an object store."""
        candidates = sorted((self._folder / prefix).rglob("*#*")) if self._folder else []
        return {
            stat.key: stat
            for stat in (
                Stat(
                    file.relative_to(str(self._folder)).as_posix(),
                    file.stat().st_size,
                    datetime.fromtimestamp(file.stat().st_mtime, UTC),
                )
                for file in candidates
                if _HALF_WRITTEN.search(file.name) and file.is_file()
            )
        }

    def is_half_written(self, key: str) -> bool:
        """Whether `key` is the name of an incomplete file; always False in an object store."""
        return self._folder is not None and _HALF_WRITTEN.search(key) is not None

    def delete_half_written(self, key: str) -> None:
        """Deletes an incomplete file; a missing one is ignored."""
        if self._folder and self.is_half_written(key):
            (self._folder / key).unlink(missing_ok=True)

    def stat(self, key: str) -> Stat | None:
        """Size and time of a key; None when there is no such key."""
        try:
            entry = obstore.head(self._backend, key)
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise StoreError(f"{self.where(key)} can't be looked up: {first_line(error)}") from error
        return Stat(key, entry["size"], entry["last_modified"])

    def digest(self, key: str) -> tuple[int, str]:
        """Size and SHA-256 of what is stored under `key`, read in chunks. See `get` for the errors."""
        digest, size = hashlib.sha256(), 0
        try:
            for chunk in obstore.get(self._backend, key).stream(min_chunk_size=_CHUNK):
                digest.update(chunk)
                size += len(chunk)
        except FileNotFoundError:
            raise DamagedError(f"{self.where(key)} is missing. {REMEDY}") from None
        except (BaseError, OSError) as error:
            raise StoreError(f"{self.where(key)} can't be read: {first_line(error)}") from error
        return size, digest.hexdigest()

    def get_entries(self, stats: Sequence[Stat]) -> list[Json]:
        """Log entries by their stats. They never change, so they are cached. See `get_json` for the errors.

        An entry whose stat differs from the cached one, as in a store that was restored or recreated, is read again.
        """
        missing = [stat for stat in stats if stat not in self._log_entries]
        if missing:
            with ThreadPoolExecutor(min(_READ_AT_ONCE, len(missing))) as pool:
                entries = pool.map(lambda stat: self.get_json(stat.key), missing)
                self._log_entries.update(zip(missing, entries, strict=True))
        return [dict(self._log_entries[stat]) for stat in stats]

    def where(self, key: str) -> str:
        """The full name of a key, for messages."""
        return f"{self.url.rstrip('/')}/{key}"


def open_backend(url: str, options: Mapping[str, str]) -> Any:
    """The obstore backend of a URL.

    Raises:
        StoreError: The URL or an option isn't valid.
    """
    config = dict(options)
    client = {name: config.pop(name) for name in _CLIENT_OPTIONS if name in config}
    try:
        return from_url(url, config=config, client_options=client)  # type: ignore[call-overload]
    except (BaseError, OSError, ValueError) as error:
        raise StoreError(f"{url!r} can't be opened: {first_line(error)}") from error
