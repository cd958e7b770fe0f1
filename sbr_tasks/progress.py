"""Progress of long work: a bar in a terminal, a log line every few seconds elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType

from tqdm import tqdm

LOG_EVERY_S = 5.0


class Progress:
    """Counts units of work towards a total and shows them."""

    def __init__(self, what: str, total: float | None, unit: str, logger: logging.Logger) -> None:
        """
        Args:
            what: What is being done, as a noun phrase ("reading clicks.dat").
            total: Units of the whole work; None when unknown.
            unit: Name of the unit ("B", "events").
            logger: Receives the lines when standard error isn't a terminal.
        """
        self._what = what
        self._unit = unit
        self._logger = logger
        self._total = total
        self._done = 0.0
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

    def advance(self, units: float, note: str = "") -> None:
        """Adds finished units; `note` is shown beside them (for example the loss so far)."""
        self._done += units
        if self._bar is not None:
            if note:
                self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(units)
            return
        now = time.monotonic()
        if now - self._logged < LOG_EVERY_S:
            return
        self._logged = now
        rate = self._done / (now - self._started)
        if self._total:
            left_s = max(self._total - self._done, 0) / rate if rate else float("inf")
            share = 100 * self._done / self._total
            self._logger.info(
                "%s: %.0f %% (%s/s, about %.0f s left) %s", self._what, share, _amount(rate, self._unit), left_s, note
            )
        else:
            done = _amount(self._done, self._unit)
            self._logger.info("%s: %s (%s/s) %s", self._what, done, _amount(rate, self._unit), note)


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
