"""Great Expectations, imported on first use, because the import takes seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def great_expectations() -> Any:
    """The package, with its `expectations`.

    If PySpark is installed, Great Expectations would import it with its client for remote servers. That takes a second, warns
    about pandas 3, and makes a process without a main file (`python -c`, `python -`) exit with code 0.
    """
    with _absent("pyspark"):
        import great_expectations as gx
        import great_expectations.expectations
    return gx


@contextmanager
def _absent(package: str) -> Iterator[None]:
    """Makes imports of a package fail, even if it is already imported."""
    imported = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == package}
    for name in imported:
        del sys.modules[name]
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]
        sys.modules.update(imported)
