"""Measures how long the stages of building a window take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stages:
    """Stopwatches by stage.

    Example:
        stages = Stages()
        with stages("read"):
            ...
        print(stages)  # read 1.2 s

    Attributes:
        took_s: Seconds by stage, in the order of first use.
    """

    def __init__(self) -> None:
        self.took_s: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Adds the time spent in the `with` block to `stage`."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.took_s[stage] = self.took_s.get(stage, 0.0) + time.perf_counter() - started

    def __str__(self) -> str:
        return ", ".join(f"{stage} {took_s:.1f} s" for stage, took_s in self.took_s.items())
