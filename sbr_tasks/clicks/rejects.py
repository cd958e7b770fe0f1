"""Rejected lines of a source: all are counted, the first ones are kept, and too many raise an error."""

from __future__ import annotations

import re
from itertools import groupby
from json.encoder import encode_basestring
from typing import Any, NamedTuple

from sbr_tasks.errors import SourceError

KEPT_BYTES = 64 << 20
_SHOWN = 10


class Reject(NamedTuple):
    """A rejected line.

    Attributes:
        file: Its file.
        line: Its number in the file, from 1; for Parquet, the row.
        reason: The column, what was expected, and what was found.
        text: The line without its line end; bytes that aren't UTF-8 are replaced. Empty for Parquet.
        row_group: The row group of a Parquet file, from 0; None for lines.
    """

    file: str
    line: int
    reason: str
    text: str
    row_group: int | None = None

    @property
    def place(self) -> str:
        """Its place in the file, for messages."""
        return f"line {self.line}" if self.row_group is None else f"row {self.line} (row group {self.row_group})"

    def to_json(self) -> str:
        """The line as a JSON object. Written by hand, because `json.dumps` takes longer than all the rest."""
        group = "" if self.row_group is None else f', "row_group": {self.row_group}'
        file, reason, text = map(encode_basestring, (self.file, self.reason, self.text))
        return f'{{"file": {file}, "line": {self.line}, "reason": {reason}, "text": {text}{group}}}'


class Rejects:
    """Collects the rejected lines of one pass over a source."""

    def __init__(self, max_share: float = 0.0) -> None:
        """
        Args:
            max_share: The share of all lines that may be rejected (setting ingest.max_rejected).
        """
        self._max_share = max_share
        self._first: list[Reject] = []
        self._kept = bytearray()
        self.lines = 0
        self.rejected = 0
        self.filtered = 0
        self.kept = 0

    def add(self, lines: int, rejects: tuple[Reject, ...], max_lines_left: int) -> None:
        """Counts the lines of a block, and keeps the rejected ones.

        Args:
            lines: Number of lines of the block, without headers and blank lines.
            rejects: The rejected lines.
            max_lines_left: Upper bound of the lines that follow in the source; used only if there are rejects.

        Raises:
            SourceError: More lines are rejected than `ingest.max_rejected` allows, even if all lines that follow are valid.
        """
        self.lines += lines
        self.rejected += len(rejects)
        self._first += rejects[: _SHOWN - len(self._first)]
        if rejects and self._is_above_share(self.lines + max_lines_left):
            raise SourceError(self._too_many("read so far " if max_lines_left else ""))
        for reject in rejects:
            if len(self._kept) >= KEPT_BYTES:
                return
            self._kept += reject.to_json().encode("utf-8", "replace") + b"\n"
            self.kept += 1

    def require_few(self) -> None:
        """Checks the share of rejected lines at the end of the source.

        Raises:
            SourceError: More lines are rejected than `ingest.max_rejected` allows; the message shows the first ten.
        """
        if self._is_above_share(self.lines):
            raise SourceError(self._too_many(""))

    def _is_above_share(self, lines: int) -> bool:
        return self.rejected > self._max_share * lines

    def _too_many(self, which: str) -> str:
        shown = ". ".join(
            f"{file}, {_in_short(list(rejects))}" for file, rejects in groupby(self._first, key=lambda reject: reject.file)
        )
        more = f" (and {self.rejected - len(self._first):,} more)" if self.rejected > len(self._first) else ""
        allowed = f"at most {self._max_share * 100:.4g}% of all lines" if self._max_share else "none"
        return (
            f"{self.rejected:,} of {self.lines:,} lines {which}can't be read, and {allowed} may be rejected. {shown}{more}. "
            "Nothing was stored; correct the lines and ingest again, or allow more (ingest.max_rejected)."
        )

    def to_jsonl(self) -> bytes:
        """The kept lines, one JSON object per line with `file`, `line`, `reason` and `text`, in the order of the source."""
        return bytes(self._kept)


_PARTS = re.compile(r"(.*?, found )(.*?)( \([^()]*\))?", re.DOTALL)


def _in_short(rejects: list[Reject]) -> str:
    """Places and reasons of rejected lines, without repeating what a reason has in common with the previous one."""
    texts: list[str] = []
    before: tuple[str | Any, ...] = ("", "", "")
    for reject in rejects:
        match = _PARTS.fullmatch(reject.reason)
        expected, actual, hint = parts = match.groups("") if match else (reject.reason, "", "")
        if actual and expected == before[0]:
            texts.append(f"{reject.place}: {actual}{hint if hint != before[2] else ''}")
        else:
            texts.append(f"{reject.place}: {reject.reason}")
        before = parts
    return "; ".join(texts)
