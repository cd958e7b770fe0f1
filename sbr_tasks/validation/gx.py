"""Great Expectations, imported where days are judged and not before: it takes seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def great_expectations() -> Any:
    """The package, with its `expectations`.

    Where PySpark is installed, Great Expectations would import it with its client for remote servers, which takes a second,
    warns about pandas 3, and in a process without a main file (`python -c`, `python -`) ends the process with code 0.
    """
    with _absent("pyspark"):
        import great_expectations as gx
        import great_expectations.expectations
    return gx


@contextmanager
def _absent(package: str) -> Iterator[None]:
    """Lets imports of a package fail, unless it was imported before."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]
