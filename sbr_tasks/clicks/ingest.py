"""Ingest: one streaming pass over a source, in any order of lines, into one Parquet file a day.

Blocks of lines are told apart by day and spilled to a scratch folder, while the next block is parsed; then each day is sorted
and published, a few at a time. Memory is bounded by the blocks and days in hand. All days become current in one commit.
"""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sbr_tasks.ahead import one_ahead
from sbr_tasks.clicks.catalog import ClickCatalog, DayState, Revision
from sbr_tasks.clicks.formats import Block, click_schema, max_lines_after, read_blocks
from sbr_tasks.clicks.rejects import Rejects
from sbr_tasks.clicks.sessions import cut_sessions
from sbr_tasks.clicks.sources import SourceFile, files_of, size_of, source_fingerprint
from sbr_tasks.days import day_numbers, days_between, describe_days, number_to_day, window_days
from sbr_tasks.errors import SourceError
from sbr_tasks.progress import Progress
from sbr_tasks.scratch import scratch_folder
from sbr_tasks.settings import Settings, SourceSettings
from sbr_tasks.store import FileRecord, Store, content_hash, fingerprint, to_parquet

logger = logging.getLogger(__name__)

_SORT = [("session_id", "ascending"), ("clicked_at", "ascending"), ("item_id", "ascending"), ("category", "ascending")]


_AT_ONCE = 2
"""Days that are sorted and written at the same time."""
_SHRUNK = 0.5
"""A day that is replaced by less than this share of its clicks was probably delivered in part."""


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
    source = source_fingerprint(files_of(settings.source), settings)
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


def ingest(store: Store, settings: Settings, *, days: Collection[date] | None = None, now: datetime | None = None) -> Ingested:
    """Reads a source once and makes its days' clicks current, all at once.

    Args:
        store: Where the days go.
        settings: `source` says what to read; `timezone` where days begin.
        days: The days to keep; None keeps all.
        now: The clock: clicks more than a day later, or before `source.earliest`, are rejected. None: any time is possible.

    Raises:
        SourceError: The source is absent or empty, or too many of its lines don't parse; nothing was stored.
    """
    files = files_of(settings.source)
    source = source_fingerprint(files, settings)
    rejects = Rejects(settings.ingest.max_rejected)
    with scratch_folder(settings, "ingest") as scratch, _Spill(scratch, settings, days) as spill:
        for clicks in one_ahead(read_files(files, settings.source, rejects, now or datetime.now(UTC))):
            spill.add(clicks)
        if not spill.rows_read:
            raise SourceError(f"Expected clicks in {settings.source.path}, found none: the files hold no line.")
        revisions = _publish_days(store, spill)
    rejects_file = store.publish("rejects/lines.jsonl", rejects.to_jsonl()) if rejects.rejected else None
    found = [revision.day for revision in revisions]
    asked = sorted(days) if days is not None else days_between(found[0], found[-1])
    empty = tuple(day for day in asked if day not in set(found))
    rows = sum(revision.rows for revision in revisions)
    catalog = ClickCatalog(store)
    known = catalog.days()
    catalog.commit_import(
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
    for revision in revisions:
        _warn_of_shrinking(known.get(revision.day, DayState()), revision)
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
    return read_files(files_of(source), source, rejects, datetime.now(UTC))


def read_files(
    files: list[SourceFile], source: SourceSettings, rejects: Rejects | None = None, now: datetime | None = None
) -> Iterator[pa.Table]:
    """All clicks of some files, block by block, with sessions; users are cut into sessions where the format knows users only.

    Args:
        files: Which exist.
        source: How they are laid out; its path doesn't count.
        rejects: Collects the lines that don't parse, and says how many there may be; by default none.
        now: The clock: clicks more than a day later, or before `source.earliest`, are rejected. None: any time is possible.

    Raises:
        SourceError: A file is empty, or, once all were read, too many lines don't parse.
    """
    blocks = _read_blocks(files, source, rejects or Rejects(), now)
    if source.session_gap is not None:
        yield from (cut_sessions(pa.concat_tables([first, *blocks]), source.session_gap) for first in blocks)
    else:
        yield from blocks


def _read_blocks(files: list[SourceFile], source: SourceSettings, rejects: Rejects, now: datetime | None) -> Iterator[pa.Table]:
    total = sum(size_of(file) for file in files)
    what = files[0].name if len(files) == 1 else f"{len(files)} files"
    rows = 0
    with Progress(f"Reading {what}", total, "B", logger) as progress:
        for file, left in zip(files, max_lines_after(files, source), strict=True):
            before = 0
            for block in _read_one_of(files, file, source, now):
                rows += len(block.table)
                with _leaving_out(files):
                    rejects.add(block.lines, block.rejects, None if left is None else left + block.max_lines_left)
                progress.advance(block.bytes_read - before, f"{rows:,} clicks")
                before = block.bytes_read
                yield block.table
    with _leaving_out(files):
        rejects.require_few()


def _read_one_of(files: list[SourceFile], file: SourceFile, source: SourceSettings, now: datetime | None) -> Iterator[Block]:
    with _leaving_out(files):
        yield from read_blocks(file, source, now)


@contextmanager
def _leaving_out(files: list[SourceFile]) -> Iterator[None]:
    try:
        yield
    except SourceError as error:
        raise SourceError(f"{error}{_leave_out(files)}") from error


def _leave_out(files: list[SourceFile]) -> str:
    """How a file that holds no clicks is left out, where there are several."""
    if len(files) == 1:
        return ""
    return (
        f" It is one of {len(files)} files of the source: to leave it out, move it away, let its name begin with '_' (in a "
        "folder), or name the others by a glob such as '*.dat'."
    )


class _Spill:
    """Clicks told apart by day in one Arrow file on disk, in batches of one day each."""

    def __init__(self, folder: Path, settings: Settings, days: Collection[date] | None) -> None:
        self._file = str(folder / "clicks.arrow")
        self._zone: tzinfo = settings.zone
        self._wanted = None if days is None else np.array(sorted((day - date(1970, 1, 1)).days for day in days), dtype=np.int32)
        self._batches: dict[int, list[int]] = defaultdict(list)
        self._n_batches = 0
        self._sink = pa.output_stream(self._file, buffer_size=1 << 20)
        self._writer = pa.ipc.new_file(self._sink, click_schema(settings.source.id_type))
        self.rows_read = self.rows = 0

    def __enter__(self) -> _Spill:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with suppress(OSError) if error else nullcontext():
            self._sink.close()

    @property
    def n_days(self) -> int:
        """Days with clicks so far."""
        return len(self._batches)

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
        self.rows += len(table)
        if (np.diff(numbers) < 0).any():
            order = _order_of_days(numbers)
            table, numbers = table.take(pa.array(order)), numbers[order]
        table = table.combine_chunks()
        cuts = np.flatnonzero(np.diff(numbers)) + 1
        for start, stop in zip([0, *cuts], [*cuts, len(numbers)], strict=True):
            for batch in table.slice(start, stop - start).to_batches():
                self._writer.write_batch(batch)
                self._batches[int(numbers[start])].append(self._n_batches)
                self._n_batches += 1

    def drain(self) -> Iterator[tuple[date, pa.Table]]:
        """Yields the clicks of each day, oldest day first, in the order in which they were added. Nothing can follow."""
        self._writer.close()
        self._sink.close()
        with pa.OSFile(self._file, "rb") as stream:
            reader = pa.ipc.open_file(stream)
            for number in sorted(self._batches):
                yield number_to_day(number), pa.Table.from_batches(map(reader.get_batch, self._batches[number]))


def _order_of_days(numbers: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """The stable order by day; NumPy sorts numbers of 16 bits by radix."""
    first, last = int(numbers.min()), int(numbers.max())
    keys = (numbers - first).astype(np.uint16) if last - first < 1 << 16 else numbers
    return np.argsort(keys, kind="stable")


def sort_clicks(clicks: pa.Table) -> pa.Table:
    """The same clicks in the order of session, time, item and category, in one chunk.

    Sessions and times that are numbers without gaps and fit together into 64 bits are sorted as one number, which is ten times
    faster than column after column; only clicks of one session at the same instant are then left to put into order.
    """
    key = _session_and_time(clicks)
    if key is None:
        return clicks.sort_by(_SORT).combine_chunks()
    order = np.argsort(key)
    key = key[order]
    clicks = clicks.take(pa.array(order))
    same = key[1:] == key[:-1]
    if same.any():
        tied = np.append(same, False) | np.append(False, same)
        inside = np.flatnonzero(tied)
        put_right = clicks.take(pa.array(inside))
        ranks = pc.sort_indices(put_right.append_column("key", pa.array(key[inside])), [("key", "ascending"), *_SORT[2:]])
        places = np.arange(len(clicks))
        places[inside] = inside[ranks.to_numpy()]
        clicks = clicks.take(pa.array(places))
    return clicks.combine_chunks()


def _session_and_time(clicks: pa.Table) -> npt.NDArray[np.int64] | None:
    """One number a click that orders by session and time; None when there is none."""
    sessions = clicks.column("session_id")
    if not pa.types.is_integer(sessions.type) or sessions.null_count:
        return None
    session_id = sessions.to_numpy()
    at_us = clicks.column("clicked_at").cast(pa.int64()).to_numpy()
    n_sessions = int(session_id.max()) - int(session_id.min()) + 1
    n_us = int(at_us.max()) - int(at_us.min()) + 1
    if n_sessions * n_us >= 1 << 63:
        return None
    key: npt.NDArray[np.int64] = (session_id - session_id.min()) * n_us + (at_us - at_us.min())
    return key


def _warn_of_shrinking(state: DayState, new: Revision) -> None:
    """A delivery replaces whole days; one that ends or begins within a day leaves that day with a few clicks."""
    old = state.incoming or state.accepted
    if old and new.rows < _SHRUNK * old.rows:
        logger.warning(
            "%s has %d clicks now, in place of %d: an import replaces whole days. If this source holds a part of the day only, "
            "ingest the whole day again.",
            new.day,
            new.rows,
            old.rows,
        )


def _publish_days(store: Store, spill: _Spill) -> tuple[Revision, ...]:
    """Publishes each day, a few at a time: one is read from disk while others are sorted, packed and written."""
    revisions: list[Revision] = []
    going: deque[Future[Revision]] = deque()

    def finish_one() -> None:
        revisions.append(going.popleft().result())
        progress.advance(revisions[-1].rows, f"{len(revisions)} of {spill.n_days} days")

    with (
        Progress(f"Storing {spill.n_days} days", spill.rows, "clicks", logger) as progress,
        ThreadPoolExecutor(_AT_ONCE) as pool,
    ):
        for day, clicks in spill.drain():
            going.append(pool.submit(_publish_day, store, day, clicks))
            if len(going) > _AT_ONCE:
                finish_one()
        while going:
            finish_one()
    return tuple(revisions)


def _publish_day(store: Store, day: date, unsorted: pa.Table) -> Revision:
    clicks = sort_clicks(unsorted)
    rev = content_hash(clicks)
    # Sorted sessions and times are nearly all different, so a dictionary of them costs time and space.
    texts = [field.name for field in clicks.schema if pa.types.is_string(field.type)]
    encodings = {field.name: "DELTA_BINARY_PACKED" for field in clicks.schema if field.name not in texts}
    parquet = to_parquet(clicks, use_dictionary=texts, column_encoding=encodings)
    file = store.publish(f"incoming/day={day}/rev={rev}/clicks.parquet", parquet)
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
