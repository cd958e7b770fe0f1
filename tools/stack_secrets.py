"""Generates the secrets of the production stack: `python3 tools/stack_secrets.py [FILE]`.

They go into `.env` beside `docker-compose.yaml`, which compose reads, unless another file is named (then: `docker compose
--env-file FILE up`). Only its owner can read the file. What it holds already stays; what is missing is added. No value is
printed. Any Python 3 can run this; nothing has to be installed.
"""

from __future__ import annotations

import argparse
import base64
import os
import secrets
import sys
from pathlib import Path

FILE = Path(__file__).resolve().parents[1] / ".env"


def new_secrets() -> dict[str, str]:
    """A fresh value for each secret that `docker-compose.yaml` asks for; a URL can contain each as it is."""
    return {
        "AIRFLOW_ADMIN_PASSWORD": secrets.token_urlsafe(24),
        "AIRFLOW_DB_PASSWORD": secrets.token_urlsafe(32),
        "API_SECRET_KEY": secrets.token_urlsafe(48),
        "FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "JWT_SECRET": secrets.token_urlsafe(64),
        "MLFLOW_DB_PASSWORD": secrets.token_urlsafe(32),
        "POSTGRES_PASSWORD": secrets.token_urlsafe(32),
        "REDIS_PASSWORD": secrets.token_urlsafe(32),
    }


def add_missing(file: Path) -> list[str]:
    """Adds the secrets that a file of `NAME=value` lines lacks, or has empty; returns their names.

    The file is replaced atomically, so others can never read it, or see half of it.
    """
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    made = new_secrets()
    kept = [line for line in lines if _name(line) not in made or line.partition("=")[2].strip(" \t'\"")]
    present = {_name(line) for line in kept}
    added = {name: value for name, value in made.items() if name not in present}
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        out.write("\n".join([*kept, *(f"{name}={value}" for name, value in added.items())]) + "\n")
    new.replace(file)
    return list(added)


def _name(line: str) -> str:
    """What a line of the file sets; compose takes `export NAME=value` too."""
    return line.partition("=")[0].strip().removeprefix("export ").strip()


def main() -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=FILE, help="default: .env beside docker-compose.yaml")
    file: Path = parser.parse_args().file
    try:
        added = add_missing(file)
    except OSError as error:
        sys.stderr.write(f"The secrets could not be written to {file}: {error.strerror}.\n")
        return 1
    done = f"Made {', '.join(added)}" if added else "All secrets were there already"
    sys.stdout.write(f"{done}; {file} can be read by its owner only. The admin's password is AIRFLOW_ADMIN_PASSWORD in it.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
