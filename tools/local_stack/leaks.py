"""Looks for secrets in all that a stack wrote: logs, artifacts, the store, the files and the rows of its databases."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path


def leaks(secrets: Mapping[str, str], contents: Iterable[tuple[str, bytes]]) -> list[tuple[str, str]]:
    """(name of the secret, where it is) for each secret that one of the contents holds, as it is or in base64."""
    forms = {name: [value.encode(), *_in_base64(value.encode())] for name, value in secrets.items()}
    return [
        (name, where) for where, content in contents for name, texts in forms.items() if any(text in content for text in texts)
    ]


def files_below(folders: Iterable[Path], without: frozenset[Path] = frozenset()) -> Iterator[tuple[str, bytes]]:
    """The files of a running stack, by path; one that is gone before it is read holds nothing any more."""
    for file in chain.from_iterable(map(paths_below, folders)):
        with suppress(FileNotFoundError):
            if file.is_file() and file not in without:
                yield str(file), file.read_bytes()


def paths_below(folder: Path) -> Iterator[Path]:
    """All but folders, while some are added and removed: `Path.rglob` fails when a folder goes that it is about to enter."""
    for parent, _, names in os.walk(folder):
        for name in names:
            yield Path(parent, name)


def rows_of(host: str, port: int, password: str) -> Iterator[tuple[str, bytes]]:
    """All tables of all databases of a PostgreSQL server, as text: its files hold long values compressed."""
    command = ["pg_dumpall", "--host", host, "--port", str(port), "--username", "postgres"]
    done = subprocess.run(command, env={**os.environ, "PGPASSWORD": password}, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"pg_dumpall exited with {done.returncode}: {done.stderr.decode()}")
    yield "pg_dumpall", done.stdout


def _in_base64(value: bytes) -> Iterator[bytes]:
    """What of a value's base64 doesn't depend on its neighbours, for each place at which it may begin. Celery sends base64."""
    for before in range(3):
        text = base64.b64encode(b"\0" * before + value)
        yield text[-(-before * 4 // 3) : (before + len(value)) // 3 * 4]
