"""Lines of a source that don't parse: counted all, kept up to a bound, and refused above a share."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import groupby

from sbr_tasks.errors import SourceError

KEPT_BYTES = 64 << 20
_SHOWN = 10


@dataclass(frozen=True)
class Reject:
    """A line that doesn't parse.

    Attributes:
        file: The file that holds it.
        line: Its number there, from 1.
        reason: What was expected, and what was found.
        text: The line without its end; what isn't UTF-8 is replaced.
    """

    file: str
    line: int
    reason: str
    text: str


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
        self.kept = 0

    def add(self, lines: int, rejects: tuple[Reject, ...]) -> None:
        """Counts the lines of a block, and keeps those of them that were rejected.

        Args:
            lines: All lines of the block but headers and blank ones.
            rejects: Those that don't parse.
        """
        self.lines += lines
        self.rejected += len(rejects)
        self._first += rejects[: _SHOWN - len(self._first)]
        for reject in rejects if self._max_share else ():
            if len(self._kept) >= KEPT_BYTES:
                return
            self._kept += json.dumps(asdict(reject), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
            self.kept += 1

    def require_few(self) -> None:
        """Checks the share once the source was read to its end.

        Raises:
            SourceError: More lines than `ingest.max_rejected` allows don't parse; the first ten are shown.
        """
        if self.rejected <= self._max_share * self.lines:
            return
        shown = ". ".join(
            f"{file}, " + "; ".join(f"line {reject.line}: {reject.reason}" for reject in rejects)
            for file, rejects in groupby(self._first, key=lambda reject: reject.file)
        )
        more = f" (and {self.rejected - len(self._first):,} more)" if self.rejected > len(self._first) else ""
        raise SourceError(
            f"{self.rejected:,} of {self.lines:,} lines can't be read, and {self._max_share:.4g} of all lines may be rejected. "
            f"{shown}{more}. Nothing was stored; mend the lines and ingest again, or allow more (ingest.max_rejected)."
        )

    def to_jsonl(self) -> bytes:
        """The kept lines, one JSON object a line with `file`, `line`, `reason` and `text`, in the order of the source."""
        return bytes(self._kept)
