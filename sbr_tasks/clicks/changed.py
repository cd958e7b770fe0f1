"""Compares the clicks of a day in a source with the stored ones: the same, more, or others."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sbr_tasks.clicks.columns import Columns
from sbr_tasks.clicks.sessions import is_cut_session, users_of
from sbr_tasks.settings import ChangedDays, Settings, SourceSettings


@dataclass(frozen=True)
class Difference:
    """How clicks of a source differ from the stored ones, as multisets of session, item, time and category.

    Attributes:
        missing: Number of stored clicks that aren't in the source.
        added: Number of clicks of the source that aren't stored.
        is_recut: Whether only the sessions differ, into which the clicks of users were cut.
    """

    missing: int
    added: int
    is_recut: bool = False

    def __bool__(self) -> bool:
        return bool(self.missing or self.added)

    def is_taken(self, changed_days: ChangedDays) -> bool:
        """Whether the source's clicks become a new revision under the setting `ingest.changed_days`."""
        return bool(self) and (changed_days == "take" or (changed_days == "take_grown" and not self.missing))


def difference(stored: pa.Table, offered: pa.Table, *, is_cut: bool = False) -> Difference:
    """Compares clicks; ids of different types are compared as text.

    Args:
        stored: The clicks of a revision, sorted by session and time.
        offered: The clicks of the same day in a source, sorted in the same way.
        is_cut: Whether users' clicks were cut into sessions (`source.session_gap`). The id of such a session depends on clicks
            of the day before and on late clicks, so sessions are compared by their user and first click on the day and, if
            these differ, clicks are compared by user.
    """
    if not (is_cut and is_cut_session(stored.column(Columns.SESSION))):
        return _difference(stored, offered)
    by_session = _difference(_by_first_click(stored), _by_first_click(offered))
    if not by_session.missing:
        return by_session
    by_user = _difference(_by_user(stored), _by_user(offered))
    if by_user.missing:
        return by_session
    return by_user or replace(by_session, is_recut=True)


def _difference(stored: pa.Table, offered: pa.Table) -> Difference:
    keys = stored.column_names
    sides = [(stored, -1), (offered, 1)]
    if any(stored.schema.field(name).type != offered.schema.field(name).type for name in Columns.IDS):
        sides = [(_ids_as_text(table), sign) for table, sign in sides]
    tables = [table.append_column("sign", pa.repeat(sign, len(table))) for table, sign in sides]
    counts = pa.concat_tables(tables).group_by(keys).aggregate([("sign", "sum")]).column("sign_sum")
    missing, added = (pc.sum(counts.filter(test(counts, 0))).as_py() or 0 for test in (pc.less, pc.greater))
    return Difference(missing=-missing, added=added)


def _by_user(clicks: pa.Table) -> pa.Table:
    place = clicks.schema.get_field_index(Columns.SESSION)
    return clicks.set_column(place, Columns.SESSION, users_of(clicks.column(Columns.SESSION)))


def _by_first_click(clicks: pa.Table) -> pa.Table:
    ids = clicks.column(Columns.SESSION)
    starts = np.flatnonzero(
        np.append(True, pc.fill_null(pc.not_equal(ids.slice(1), ids.slice(0, len(ids) - 1)), True).to_numpy())
    )
    first = clicks.column(Columns.TIME).take(pa.array(np.repeat(starts, np.diff(np.append(starts, len(ids))))))
    return _by_user(clicks).append_column("first", first)


def _ids_as_text(table: pa.Table) -> pa.Table:
    for name in Columns.IDS:
        place = table.schema.get_field_index(name)
        table = table.set_column(place, name, table.column(name).cast(pa.string()))
    return table


def take_command(settings: Settings, day: date | None = None, *words: str) -> str:
    """The command that imports a day of a source with some settings, in any folder and environment.

    Args:
        settings: The settings of the import.
        day: The day; None writes the placeholder `DAY`.
        words: More options.
    """
    source = settings.source
    place = ["--from", str(source.path), "--format", source.format, "--day", str(day or "DAY")]
    return f"`{shlex.join(['sbr', 'ingest', *place, *words, *_changed_settings(settings)])}`"


def _changed_settings(settings: Settings) -> Iterator[str]:
    """The non-default settings of an import as options, without `source.options`, which may have secrets."""
    yield from ("--set", f"store={settings.store}")
    values = {"timezone": settings.timezone, "ingest.max_rejected": settings.ingest.max_rejected}
    defaults: dict[str, Any] = {"timezone": "UTC", "ingest.max_rejected": 0.0}
    for source, target in ((settings.source, values), (SourceSettings(format=settings.source.format), defaults)):
        fields = source.model_dump(mode="json", exclude=_NOT_AS_OPTIONS)
        columns = fields.pop("columns")
        target |= {f"source.{name}": value for name, value in fields.items()}
        target |= {f"source.columns.{name}": value for name, value in columns.items()}
    for name, value in values.items():
        if value != defaults[name]:
            text = value if isinstance(value, str) and value.isprintable() else json.dumps(value)
            yield from ("--set", f"{name}={text}")


_NOT_AS_OPTIONS = {"path", "format", "options", "wait_minutes", "check_every_minutes", "settle_seconds"}
