"""The kinds of files in the store: the layout of their keys, their turn in a copy, and what to do about a bad file."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from enum import IntEnum
from string import Formatter
from typing import Any

_PATTERNS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "day": (r"\d{4}-\d{2}-\d{2}", date.fromisoformat),
    "number": (r"\d{8}", int),
    "entry": (r"[1-9]\d*", int),
    "version": (r"\d{4}-\d{2}-\d{2}-[0-9a-f]{8}", str),
    "path": (r".+", str),
}
"""Fields of a layout that aren't plain text without slashes: their pattern in a key, and how to parse them."""


class Turn(IntEnum):
    """When files are copied: whatever names or refers to a file comes after it."""

    FILE = 0
    GRAPH = 1
    """TF Serving loads a folder as soon as it holds a graph, so that comes after the folder's other files."""
    MANIFEST = 2
    """Of windows, profiles and versions, which other records refer to."""
    RECORD = 3
    COMMIT = 4
    ENTRY = 5


class Kind:
    """One kind of file.

    Attributes:
        layout: The key, with fields in braces.
        turn: When it is copied.
        belongs_to: The kind of the record that a file belongs to which no record names: the record's key has the same fields.

    Example:
        >>> WINDOW.key(day=date(2020, 6, 30), window="1a2b")
        'windows/day=2020-06-30/1a2b/manifest.json'
        >>> WINDOW.parse("windows/day=2020-06-30/1a2b/manifest.json")
        {'day': datetime.date(2020, 6, 30), 'window': '1a2b'}
        >>> WINDOW.folder(day=date(2020, 6, 30))
        'windows/day=2020-06-30'
    """

    def __init__(self, layout: str, remedy: str, turn: Turn = Turn.FILE, belongs_to: Kind | None = None) -> None:
        """Defines a kind.

        Args:
            layout: The key, with fields in braces. `day` is a date, `number` the number of a log entry with eight digits,
                `entry` the same without leading zeros, and `path` may have slashes.
            remedy: What to do if a file is missing or damaged; `{day}` in it is replaced by the day of the file.
            turn: See the class.
            belongs_to: See the class.
        """
        self.layout = layout
        self.turn = turn
        self.belongs_to = belongs_to
        self._remedy = remedy
        pattern = "".join(
            re.escape(text) + (f"(?P<{name}>{_PATTERNS.get(name, (r'[^/]+',))[0]})" if name else "")
            for text, name, _, _ in Formatter().parse(layout)
        )
        self._pattern = re.compile(pattern)

    @property
    def area(self) -> str:
        """The top-level folder of the kind."""
        return area_of(self.layout)

    def key(self, **fields: Any) -> str:
        """The key of the file with these fields."""
        return self.layout.format(**fields)

    def folder(self, **fields: Any) -> str:
        """The deepest folder that these fields determine."""
        parts = []
        for part in self.layout.split("/")[:-1]:
            if not {name for _, name, _, _ in Formatter().parse(part) if name} <= fields.keys():
                break
            parts.append(part.format(**fields))
        return "/".join(parts)

    def parse(self, key: str) -> dict[str, Any] | None:
        """The fields of a key; None if it isn't of this kind."""
        match = self._pattern.fullmatch(key)
        if match is None:
            return None
        try:
            return {name: _PATTERNS.get(name, ("", str))[1](text) for name, text in match.groupdict().items()}
        except ValueError:  # the 31st of February
            return None

    def remedy(self, key: str) -> str:
        """What to do if the file `key` is missing or damaged."""
        fields = self.parse(key) or {}
        version_day = str(fields.get("version", "DAY"))[:10]
        return self._remedy.format(day=fields.get("day", version_day))


def area_of(key: str) -> str:
    """The top-level folder of a key."""
    return key.split("/", 1)[0]


_BACKUP = "Restore it from a backup: nothing else holds it."
_AGAIN = "Run `sbr store forget {day} --reason REASON`, then the day again, which takes its clicks from the source."
_WINDOW = "Delete its folder, then run `sbr window --day {day}` to rebuild it."
_PROFILE = "Delete its folder, then run `sbr profile --day {day}` to rebuild it."
_VERSION = (
    "Restore its folder from a backup; or delete it and run {day} again: the same inputs give the same version. Then run "
    "`sbr repair`."
)
_SCORE = "Run the day again: what can't be read is scored again."
_SERVING = "Run `sbr repair` to rebuild it."
_PAGE = "Run `sbr report --day {day}` to rebuild it."

FORMAT = Kind("commits/format.json", _BACKUP, Turn.RECORD)
COMMIT = Kind("commits/clicks/{number:08d}.json", _BACKUP, Turn.COMMIT)
CLICKS = Kind("clicks/day={day}/rev={rev}/{path}", _AGAIN)
REJECTS = Kind("rejects/{path}", "Restore it from a backup, or ingest the source again.")
VALIDATION = Kind("validation/day={day}/rev={rev}/{path}", _AGAIN)
WINDOW = Kind("windows/day={day}/{window}/manifest.json", _WINDOW, Turn.MANIFEST)
REMOVED_WINDOW = Kind("windows/day={day}/{window}/removed.json", _WINDOW, Turn.MANIFEST)
WINDOW_FILE = Kind("windows/day={day}/{window}/{path}", _WINDOW)
PROFILE = Kind("profiles/day={day}/{profile}/manifest.json", _PROFILE, Turn.MANIFEST)
VERSION = Kind("models/{version}/manifest.json", _VERSION, Turn.MANIFEST)
VERSION_FILE = Kind("models/{version}/{fingerprint}/{path}", _VERSION)
SCORE = Kind("evaluations/on={window}/by={by}/{model}.json", _SCORE, Turn.RECORD)
RANKS = Kind("evaluations/on={window}/by={by}/{path}", _SCORE)
ENTRY = Kind("promotions/{number:08d}.json", _BACKUP, Turn.ENTRY)
CHECKPOINT = Kind("checkpoints/{fingerprint}.npz", "Delete it. The training then starts from scratch.", Turn.RECORD)
SERVED_GRAPH = Kind("serving/gru4rec/{entry}/saved_model.pb", _SERVING, Turn.GRAPH)
SERVED_FILE = Kind("serving/gru4rec/{entry}/{path}", _SERVING)
SERVED = Kind("serving/published/{number:08d}.json", _SERVING, Turn.RECORD)
NEXT_ITEMS = Kind(
    "recommendations/{version}/next_items.parquet",
    "Run the DAG publish_recommendations again, or delete it if its version isn't the champion.",
    Turn.RECORD,
    VERSION,
)
PAGE = Kind("reports/day={day}/{number:08d}.html", _PAGE, Turn.RECORD, ENTRY)
UNDECIDED_PAGE = Kind("reports/day={day}/{version}.html", _PAGE, Turn.RECORD, VERSION)
VERDICT = Kind(
    "reports/day={day}/{version}.json",
    "Delete it; a run of {day} with promote: never writes it again.",
    Turn.RECORD,
    VERSION,
)

KINDS = (
    FORMAT, COMMIT, CLICKS, REJECTS, VALIDATION, WINDOW, REMOVED_WINDOW, WINDOW_FILE, PROFILE,
    VERSION, VERSION_FILE, SCORE, RANKS, ENTRY, CHECKPOINT, SERVED, SERVED_GRAPH, SERVED_FILE, NEXT_ITEMS, PAGE,
    UNDECIDED_PAGE, VERDICT,
)  # fmt: skip
"""All kinds; if two match a key, the first one counts."""
AREAS = tuple(dict.fromkeys(kind.area for kind in KINDS))
"""The store's top-level folders. Files elsewhere don't belong to it."""


def kind_of(key: str) -> Kind | None:
    """The kind of a key; None if it matches none."""
    return next((kind for kind in KINDS if kind.parse(key) is not None), None)
