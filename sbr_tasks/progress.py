"""Progress of long work: a bar in a terminal, log lines elsewhere, and numbers for a watcher."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType

from tqdm import tqdm

LOG_EVERY_S = 5.0

Watcher = Callable[[Mapping[str, float]], None]
"""Receives the progress of a piece of work by name: `events_done`, `events_total`, `events_per_second`, `seconds_left`, and the
numbers that the work adds (`epoch`, `step`, `loss`). Unknown numbers are missing."""

_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Reports all work that starts in the `with` block to `watcher`: every few seconds, and once more at the end."""
    before = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(before)


class Progress:
    """Counts finished units of work and shows them.

    Example:
        with Progress("Reading clicks.dat", size, "B", logger) as progress:
            for block in blocks:
                progress.advance(len(block))
    """

    def __init__(self, what: str, total: float | None, unit: str, logger: logging.Logger) -> None:
        """
        Args:
            what: What is being done ("Reading clicks.dat").
            total: Units of the whole work; None if unknown.
            unit: Name of the unit ("B", "events").
            logger: Receives the log lines if standard error isn't a terminal.
        """
        self._what = what
        self._unit = unit
        self._logger = logger
        self._total = total
        self._done = 0.0
        self._watcher = _watcher.get()
        self._numbers: Mapping[str, float] = {}
        self._started = self._logged = time.monotonic()
        self._bar = (
            tqdm(total=total, desc=what, unit=unit, unit_scale=True, leave=False, dynamic_ncols=True)
            if sys.stderr.isatty()
            else None
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()
        self._report(time.monotonic())

    def advance(self, units: float, note: str = "", numbers: Mapping[str, float] | None = None) -> None:
        """Adds finished units; `note` adds text for people and `numbers` values for the watcher, such as the loss."""
        self._done += units
        self._numbers = numbers or {}
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(units)
        now = time.monotonic()
        if now - self._logged < LOG_EVERY_S:
            return
        self._logged = now
        self._report(now)
        if self._bar is None:
            self._log(now, note)

    def _log(self, now: float, note: str) -> None:
        rate = self._done / (now - self._started)
        if self._total:
            share = 100 * self._done / self._total
            self._logger.info(
                "%s: %.0f%% (%s/s, about %.0f s left) %s",
                self._what, share, _amount(rate, self._unit), self._left_s(rate), note,
            )  # fmt: skip
        else:
            done = _amount(self._done, self._unit)
            self._logger.info("%s: %s (%s/s) %s", self._what, done, _amount(rate, self._unit), note)

    def _report(self, now: float) -> None:
        if self._watcher is None:
            return
        unit, took_s = "bytes" if self._unit == "B" else self._unit, now - self._started
        numbers = {f"{unit}_done": self._done}
        if took_s and self._done:
            numbers[f"{unit}_per_second"] = self._done / took_s
        if self._total:
            numbers[f"{unit}_total"] = self._total
            if took_s and self._done:
                numbers["seconds_left"] = self._left_s(self._done / took_s)
        self._watcher({**numbers, **self._numbers})

    def _left_s(self, rate: float) -> float:
        return max((self._total or 0) - self._done, 0) / rate if rate else float("inf")


def _amount(number: float, unit: str) -> str:
    """Such as `1.2k events`, or `112.4 MB`."""
    short = _short(number)
    if unit != "B" or short[-1].isdigit():
        return f"{short} {unit}"
    return f"{short[:-1]} {short[-1]}B"


def _short(number: float) -> str:
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f}{suffix}"
    return f"{number:.0f}"
