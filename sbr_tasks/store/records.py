"""Records: JSON objects with a hash of their key and content, which name files by size and hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from sbr_tasks.errors import DamagedError

Json = dict[str, Any]

CHECKSUM = "checksum"
"""The field with the hash of a record's key and its other fields."""
REMEDY = "Restore it from a backup; docs/store.md#remedies says what can be rebuilt, and how."


class Record(BaseModel):
    """Base of the types of records: immutable, and unknown fields are rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def as_dict(self) -> Json:
        """The fields as JSON values."""
        return self.model_dump(mode="json")


class FileRecord(Record):
    """A published file: its key, its size in bytes, and the SHA-256 of its content."""

    key: str
    size: int
    sha256: str


def to_json(body: Mapping[str, Any]) -> bytes:
    """Readable JSON with sorted keys: equal content gives equal bytes."""
    return json.dumps(body, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def seal(key: str, body: Mapping[str, Any]) -> bytes:
    """A record as it is written under `key`: JSON with its checksum."""
    return to_json({**body, CHECKSUM: _checksum(key, body)})


def unseal(key: str, data: bytes, where: str) -> Json:
    """The verified record that was written under `key`, without its checksum; `where` names it in messages.

    Raises:
        DamagedError: It isn't a JSON object, or its checksum doesn't match its content and key.
    """
    try:
        body = json.loads(data)
        if not isinstance(body, dict):
            raise ValueError(f"found a {type(body).__name__}")
        recorded = body.pop(CHECKSUM, None)
        if recorded is None:
            raise ValueError("without a checksum")
        checksum = _checksum(key, body)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{where} is damaged: expected a JSON object ({error!s:.60}). {REMEDY}") from None
    if recorded != checksum:
        raise DamagedError(f"{where} is damaged: it was changed after it was written (its checksum doesn't match). {REMEDY}")
    return body


def _checksum(key: str, body: Mapping[str, Any]) -> str:
    """Normalized through JSON, so that a record has the same checksum before writing (tuples) and after reading (lists)."""
    return hashlib.sha256(key.encode() + b"\0" + to_json(json.loads(to_json(body)))).hexdigest()


def file_name(name: str) -> PurePosixPath:
    """The relative path of a file that a record names, checked to be inside its folder.

    Raises:
        DamagedError: The name is absolute or empty, leads out of the folder, or has control characters.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or not name.isprintable() or "\\" in name:
        raise DamagedError(f"Expected the name of a file inside a folder, found {name!r}, which leads elsewhere. {REMEDY}")
    return path


def file_records(body: Any) -> Iterator[FileRecord]:
    """All file records in a JSON value, at any depth."""
    if isinstance(body, dict):
        if {"key", "size", "sha256"} <= body.keys():
            yield FileRecord.model_validate(body)
            return
        body = list(body.values())
    if isinstance(body, list):
        for part in body:
            yield from file_records(part)


def first_problem(error: ValidationError) -> str:
    """The first field of a record that doesn't fit its type, and why."""
    problem = error.errors(include_url=False)[0]
    place = ".".join(map(str, problem["loc"]))
    return f"{place}: {problem['msg']}" if place else str(problem["msg"])
