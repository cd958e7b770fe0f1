"""Ingest: one streaming pass over a source, in any order of lines, into one Parquet file a day.

Blocks of lines are parsed, told apart by day and spilled to a scratch folder; then each day is sorted and published. Memory
is bounded by a block and by the largest day. All days become current in one commit.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sbr_tasks.clicks.catalog import ClickCatalog, Revision
from sbr_tasks.clicks.formats import click_schema, read_blocks
from sbr_tasks.clicks.rejects import Rejects
from sbr_tasks.clicks.sessions import cut_sessions
from sbr_tasks.clicks.sources import find_files, source_fingerprint
from sbr_tasks.days import day_numbers, days_between, describe_days, number_to_day, window_days
from sbr_tasks.errors import SourceError
from sbr_tasks.progress import Progress
from sbr_tasks.scratch import scratch_folder
from sbr_tasks.settings import Settings, SourceSettings
from sbr_tasks.store import FileRecord, Store, content_hash, fingerprint

logger = logging.getLogger(__name__)

_SORT = [("session_id", "ascending"), ("clicked_at", "ascending"), ("item_id", "ascending"), ("category", "ascending")]


@dataclass(frozen=True)
class Ingested:
    """What an import did.

    Attributes:
        rows: Clicks that were read and kept.
        rejected: Lines that were left out because they don't parse.
        rejects: The file in the store that holds them; None when there are none.
        revisions: One per day with clicks.
        empty: Days that were asked for, or lie between the first and the last one found, and have no click.
    """

    rows: int
    rejected: int
    rejects: FileRecord | None
    revisions: tuple[Revision, ...]
    empty: tuple[date, ...]

    @property
    def days(self) -> tuple[date, ...]:
        return tuple(revision.day for revision in self.revisions)


def ingest_missing(store: Store, settings: Settings, as_of: date) -> Ingested | None:
    """Ingests what the run of `as_of` needs and the store doesn't hold, in one pass over the source.

    That is: days of the window that were never ingested, or with midnights of another zone; and, if the source or the way it is
    read changed since, `as_of` itself and days that were empty or are in quarantine.

    Returns:
        What was ingested; None when everything is there, or when no source is set and `as_of` is there.

    Raises:
        SourceError: The source is absent or its lines don't parse; nothing was stored.
    """
    known = ClickCatalog(store).days()
    window = window_days(as_of, settings.window.days)
    if settings.source.path is None and as_of in known:
        logger.info("No source is set (source.path), so the window is made of what was ingested before.")
        return None
    source = source_fingerprint(find_files(settings.source.path), settings)
    wanted = []
    for day in window:
        state = known.get(day)
        if state is None:
            wanted.append(day)
            continue
        is_outdated = state.source != source and (day == as_of or state.status in ("empty", "quarantined"))
        if is_outdated or state.timezone != settings.timezone:
            wanted.append(day)
    if not wanted:
        logger.info("All %d days up to %s were ingested before; the source is unchanged.", len(window), as_of)
        return None
    return ingest(store, settings, days=wanted)


def ingest(store: Store, settings: Settings, *, days: Collection[date] | None = None) -> Ingested:
    """Reads a source once and makes its days' clicks current, all at once.

    Args:
        store: Where the days go.
        settings: `source` says what to read; `timezone` where days begin.
        days: The days to keep; None keeps all.

    Raises:
        SourceError: The source is absent or empty, or too many of its lines don't parse; nothing was stored.
    """
    files = find_files(settings.source.path)
    source = source_fingerprint(files, settings)
    with scratch_folder(settings, "ingest") as scratch:
        rejects = Rejects(settings.ingest.max_rejected)
        spill = _Spill(scratch, settings, days)
        for clicks in read_files(files, settings.source, rejects):
            spill.add(clicks)
        if not spill.rows_read:
            raise SourceError(f"Expected clicks in {settings.source.path}, found none: the files hold no line.")
        revisions = tuple(_publish_day(store, day, table) for day, table in spill.drain())
    rejects_file = store.publish("rejects/lines.jsonl", rejects.to_jsonl()) if rejects.rejected else None
    found = [revision.day for revision in revisions]
    asked = sorted(days) if days is not None else days_between(found[0], found[-1])
    empty = tuple(day for day in asked if day not in set(found))
    rows = sum(revision.rows for revision in revisions)
    ClickCatalog(store).commit_import(
        revisions,
        empty=empty,
        source={
            "path": settings.source.path,
            "format": settings.source.format,
            "fingerprint": source,
            "settings": fingerprint(settings.source.model_dump(mode="json")),
            "timezone": settings.timezone,
            "rows": rows,
            "rejected": rejects.rejected,
            "rejects": {**rejects_file.as_dict(), "count": rejects.kept} if rejects_file else None,
        },
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    logger.info("Ingested %d clicks of %s from %s.", rows, describe_days(found) or "no day", settings.source.path)
    if empty:
        logger.warning("The source has no clicks on %s.", describe_days(empty))
    if rejects_file:
        logger.warning(
            "%d of %d lines don't parse; they were left out and lie in %s.",
            rejects.rejected,
            rejects.lines,
            store.where(rejects_file.key),
        )
    return Ingested(rows=rows, rejected=rejects.rejected, rejects=rejects_file, revisions=revisions, empty=empty)


def read_source(source: SourceSettings, rejects: Rejects | None = None) -> Iterator[pa.Table]:
    """All clicks of a source, block by block; see `read_files`.

    Raises:
        SourceError: The source is absent or empty, or too many of its lines don't parse.
    """
    return read_files(find_files(source.path), source, rejects)


def read_files(files: list[Path], source: SourceSettings, rejects: Rejects | None = None) -> Iterator[pa.Table]:
    """All clicks of some files, block by block, with sessions; users are cut into sessions where the format knows users only.

    Args:
        files: Which exist.
        source: How they are laid out; its path doesn't count.
        rejects: Collects the lines that don't parse, and says how many there may be; by default none.

    Raises:
        SourceError: A file is empty, or, once all were read, too many lines don't parse.
    """
    blocks = _read_blocks(files, source, rejects or Rejects())
    if source.format == "movielens":
        yield cut_sessions(pa.concat_tables(blocks), source.session_gap_minutes)
    else:
        yield from blocks


def _read_blocks(files: list[Path], source: SourceSettings, rejects: Rejects) -> Iterator[pa.Table]:
    total = sum(file.stat().st_size for file in files)
    what = files[0].name if len(files) == 1 else f"{len(files)} files"
    rows = 0
    with Progress(f"Reading {what}", total, "B", logger) as progress:
        for file in files:
            before = 0
            for block in read_blocks(file, source):
                rows += len(block.table)
                rejects.add(block.lines, block.rejects)
                progress.advance(block.bytes_read - before, f"{rows:,} clicks")
                before = block.bytes_read
                yield block.table
    rejects.require_few()


class _Spill:
    """Clicks told apart by day, on disk: each day's file is a sequence of Arrow streams."""

    def __init__(self, folder: Path, settings: Settings, days: Collection[date] | None) -> None:
        self._folder = folder
        self._zone: tzinfo = settings.zone
        self._schema = click_schema(settings.source.id_type)
        self._wanted = None if days is None else np.array(sorted((day - date(1970, 1, 1)).days for day in days), dtype=np.int32)
        self._numbers: set[int] = set()
        self.rows_read = 0

    def add(self, table: pa.Table) -> None:
        """Appends a block's clicks to their days; clicks of days that nobody asked for are left out."""
        self.rows_read += len(table)
        clicked_at = table.column("clicked_at")
        if clicked_at.null_count:
            raise SourceError(f"Expected a time in each click, found {clicked_at.null_count} clicks without one.")
        numbers = day_numbers(clicked_at.cast(pa.int64()).to_numpy(), self._zone)
        if self._wanted is not None:
            keep = np.isin(numbers, self._wanted)
            table, numbers = table.filter(pa.array(keep)), numbers[keep]
        if not len(table):
            return
        order = np.argsort(numbers, kind="stable")
        numbers = numbers[order]
        table = table.take(pa.array(order))
        cuts = np.flatnonzero(np.diff(numbers)) + 1
        for start, stop in zip([0, *cuts], [*cuts, len(numbers)], strict=True):
            number = int(numbers[start])
            self._numbers.add(number)
            part = table.slice(start, stop - start)
            with pa.OSFile(str(self._file(number)), "ab") as sink, pa.ipc.new_stream(sink, self._schema) as stream:
                stream.write_table(part)

    def drain(self) -> Iterator[tuple[date, pa.Table]]:
        """Yields the sorted clicks of each day, oldest day first."""
        for number in sorted(self._numbers):
            file = self._file(number)
            parts: list[pa.RecordBatch] = []
            with pa.OSFile(str(file), "rb") as stream:
                while stream.tell() < stream.size():
                    parts.extend(pa.ipc.open_stream(stream))
            file.unlink()
            table = pa.Table.from_batches(parts)
            yield number_to_day(number), table.sort_by(_SORT)

    def _file(self, number: int) -> Path:
        return self._folder / f"{number}.arrows"


def _publish_day(store: Store, day: date, clicks: pa.Table) -> Revision:
    rev = content_hash(clicks)
    file = store.publish_table(f"incoming/day={day}/rev={rev}/clicks.parquet", clicks)
    times: dict[str, Any] = pc.min_max(clicks.column("clicked_at")).as_py()
    return Revision(
        day=day,
        rev=rev,
        file=file,
        rows=len(clicks),
        sessions=pc.count_distinct(clicks.column("session_id")).as_py(),
        items=pc.count_distinct(clicks.column("item_id")).as_py(),
        first=times["min"].isoformat(),
        last=times["max"].isoformat(),
    )
