"""Ingests a source: reads it in one streaming pass, with lines in any order, and writes one Parquet file per day.

Blocks of lines are split by day and spilled to a scratch folder while the next block is parsed. Then days are sorted and
published, a few at a time, unless the store already has their clicks. Memory is bounded by the blocks and days in progress. All
days become current in one commit, with a ledger that accounts for every line.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from functools import cache, partial
from pathlib import Path
from types import TracebackType
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sbr_tasks.ahead import prefetch
from sbr_tasks.clicks.catalog import ClickCatalog, DayState, OvertakenError
from sbr_tasks.clicks.changed import Difference, difference, take_command
from sbr_tasks.clicks.columns import Columns
from sbr_tasks.clicks.commits import ImportSource, RejectsFile, Revision
from sbr_tasks.clicks.formats import Block, click_schema, max_lines_after, read_blocks
from sbr_tasks.clicks.ledger import Ledger, Reason
from sbr_tasks.clicks.rejects import Rejects
from sbr_tasks.clicks.sessions import cut_sessions
from sbr_tasks.clicks.sources import SourceFile, files_of, size_of, source_fingerprint
from sbr_tasks.days import day_numbers, days_between, describe_days, number_to_day, window_days
from sbr_tasks.errors import DayError, NotArrivedError, SourceError
from sbr_tasks.progress import Progress
from sbr_tasks.scratch import scratch_folder
from sbr_tasks.settings import Settings, SourceSettings
from sbr_tasks.store import FileRecord, Store, content_hash, fingerprint, kinds, to_parquet

logger = logging.getLogger(__name__)

_TAKE = ("--set", "ingest.changed_days=take")
_AT_ONCE = 2
"""Days that are sorted and written in parallel."""


@dataclass(frozen=True)
class DayRead:
    """The clicks of one day in a source, and what was done with them.

    Attributes:
        day: The day.
        clicks: Number of clicks in the source.
        revision: The new revision; None if the stored one is kept.
        stored: The revision that they were compared with, or replace; None if there was none.
        difference: How they differ from `stored`; None if they weren't compared.
        removed_clicks: Clicks that `sbr store gc` removed, if the source has fewer; else 0.
    """

    day: date
    clicks: int
    revision: Revision | None = None
    stored: Revision | None = None
    difference: Difference | None = None
    removed_clicks: int = 0

    @property
    def reason(self) -> Reason | None:
        """Why the clicks were left out; None if they were stored."""
        if self.revision:
            return None
        return "different" if self.difference or self.removed_clicks else "same"


@dataclass(frozen=True)
class Ingested:
    """The result of an import.

    Attributes:
        ledger: Accounts for each line that was read.
        rejects: The file in the store with the rejected lines; None if there are none.
        revisions: One per day whose clicks were stored.
        empty: Days without clicks in the source and in the store: of the requested days, or else of those from the first to the
            last day in the source.
        warnings: Sentences on days whose clicks in the source differ from the stored ones, and on closed days with clicks.
    """

    ledger: Ledger
    rejects: FileRecord | None
    revisions: tuple[Revision, ...]
    empty: tuple[date, ...]
    warnings: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """Clicks that were stored."""
        return self.ledger.stored

    @property
    def rejected(self) -> int:
        """Lines that were rejected because they don't parse."""
        return self.ledger.rejected

    @property
    def days(self) -> tuple[date, ...]:
        return tuple(revision.day for revision in self.revisions)

    def in_words(self, path: str | None) -> str:
        """Such as `Ingested 1,234 clicks of 2020-06-30 from clicks.csv.`"""
        if not self.revisions:
            return f"No new clicks in {path}."
        return f"Ingested {self.rows:,} clicks of {describe_days(self.days)} from {path}."


def ingest_missing(store: Store, settings: Settings, day: date, *, holds_back: bool = False) -> Ingested | None:
    """Ingests the days that the run of `day` needs and the store doesn't have, in one pass over the source.

    These are the days of the window that were never ingested or, if the source or how it is read has changed, all days of the
    window. `ingest.changed_days` decides what happens to clicks that differ from the stored ones.

    Args:
        store: The store for the days.
        settings: `source`, `ingest`, `timezone`, `window.days` and `scratch` are used.
        day: The day of the run.
        holds_back: Whether to reject files that may be half written (`source.settle_seconds`); if not, the log names them.

    Returns:
        The import; None if nothing is missing, or if no source is set and the store has `day`.

    Raises:
        NotArrivedError: There is no file, or one may be half written.
        SourceError: The source's lines don't parse; nothing was stored.
        DayError: The store's days were cut in another zone.
    """
    while True:
        wanted = _wanted_days(store, settings, day)
        if not wanted:
            return None
        try:
            ingested = _import(store, settings, wanted, day, holds_back)
            logger.info("%s", ingested.in_words(settings.source.path))
            return ingested
        except OvertakenError as error:
            logger.warning("Reading %s again: %s", settings.source.path, error)


def _wanted_days(store: Store, settings: Settings, day: date) -> list[date]:
    """The days of the window that the run of `day` must read from the source."""
    stored_days = ClickCatalog(store).days()
    window = window_days(day, settings.window.days)
    _require_same_zone(stored_days, settings)
    if settings.source.path is None and day in stored_days:
        logger.info("No source is set (source.path); using the days in the store.")
        return []
    source = source_fingerprint(files_of(settings.source), settings)
    states = {day: state for day in window if (state := stored_days.get(day, DayState())).status != "closed"}
    wanted = [
        day
        for day, state in states.items()
        if state.source != source
        or state.timezone != settings.timezone
        or state.differs not in ("", settings.ingest.changed_days)
    ]
    differing = [day for day, state in states.items() if state.differs and day not in wanted]
    if wanted:
        return sorted([*wanted, *differing])
    logger.info("All %d days up to %s are ingested already, and the source is unchanged.", len(window), day)
    if differing:
        logger.warning(
            "The source still has other clicks of %s than the store. The log of the import that compared them has the "
            "counts; %s takes the clicks of the source.",
            describe_days(differing),
            take_command(settings, differing[0] if len(differing) == 1 else None, *_TAKE),
        )
    return []


def ingest(
    store: Store,
    settings: Settings,
    *,
    days: Collection[date] | None = None,
    holds_back: bool = False,
    now: datetime | None = None,
) -> Ingested:
    """Reads a source once and makes its days' clicks current, all at once.

    A day with stored clicks gets a new revision only if they differ and `ingest.changed_days` takes those of the source.

    Args:
        store: The store for the days.
        settings: `source`, `ingest`, `timezone` and `scratch` are used.
        days: The days to ingest; None ingests all.
        holds_back: Whether to reject files that may be half written (`source.settle_seconds`); if not, the log names them.
        now: The current time; None reads the clock. Clicks more than a day later, or before `source.earliest`, are rejected.

    Raises:
        NotArrivedError: There is no file, or one may be half written.
        SourceError: The source is empty, or too many of its lines don't parse; nothing was stored.
        DayError: The store's days were cut in another zone.
    """
    while True:
        try:
            return _import(store, settings, days, None, holds_back, now)
        except OvertakenError as error:
            logger.warning("Reading %s again: %s", settings.source.path, error)


def _import(
    store: Store,
    settings: Settings,
    days: Collection[date] | None,
    for_day: date | None,
    holds_back: bool,
    now: datetime | None = None,
) -> Ingested:
    now = now or datetime.now(UTC)
    catalog = ClickCatalog(store)
    since, states = catalog.look()
    _require_same_zone(states, settings)
    files = files_of(settings.source)
    _require_settled(files, settings, holds_back, now)
    source = source_fingerprint(files, settings)
    rejects = Rejects(settings.ingest.max_rejected)
    with scratch_folder(settings, "ingest") as scratch, _Spill(scratch, settings, days) as spill:
        for clicks in prefetch(read_files(files, settings.source, rejects, now)):
            spill.add(clicks)
        if not spill.rows_read:
            raise SourceError(no_clicks_at_all(settings.source, rejects))
        read = _publish_days(store, settings, spill, states)
        outside = spill.outside()
    window = window_days(for_day, settings.window.days) if for_day else []
    closed = {day: state for day in window if day in outside and (state := states.get(day, DayState())).status == "closed"}
    ledger = _ledger(read, outside, closed, states, source, rejects)
    rejects_file = store.publish(kinds.REJECTS.key(path="lines.jsonl"), rejects.to_jsonl()) if rejects.rejected else None
    read_days = {day_read.day for day_read in read}
    requested = sorted(days) if days is not None else days_between(min(read_days), max(read_days))
    absent = [day for day in requested if day not in read_days]
    is_stored = {day: states.get(day, DayState()).last is not None for day in absent}
    ingested = Ingested(
        ledger=ledger,
        rejects=rejects_file,
        revisions=tuple(day_read.revision for day_read in read if day_read.revision),
        empty=tuple(day for day in absent if not is_stored[day] and states.get(day, DayState()).status != "closed"),
        warnings=(
            *(_describe_difference(day_read, settings) for day_read in read if day_read.reason == "different"),
            *_describe_reopened(read, states),
            *(_describe_closed(day, outside[day], state, settings) for day, state in closed.items()),
        ),
    )
    in_scope = states if days is None else {day: state for day, state in states.items() if day in set(days)}
    _require_one_id_type(in_scope, ingested.days, settings)
    catalog.commit_import(
        ingested.revisions,
        empty=ingested.empty,
        kept={day_read.day: day_read.reason == "different" for day_read in read if day_read.reason}
        | {day: False for day in absent if is_stored[day] and days is not None},
        source=ImportSource(
            path=str(settings.source.path),
            format=settings.source.format,
            fingerprint=source,
            settings=fingerprint(settings.source.model_dump(mode="json")),
            timezone=settings.timezone,
            id_type=settings.source.id_type,
            changed_days=settings.ingest.changed_days,
            for_day=for_day,
            ledger=ledger,
            rows=ledger.stored,
            rejected=rejects.rejected,
            rejects=RejectsFile(file=rejects_file, count=rejects.kept) if rejects_file else None,
        ),
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        since=since,
    )
    _log_import(store, settings, ingested, read, states)
    return ingested


def _ledger(
    read: Sequence[DayRead],
    outside: Mapping[date, int],
    closed: Collection[date],
    states: Mapping[date, DayState],
    source: str,
    rejects: Rejects,
) -> Ledger:
    left_out: dict[Reason, dict[date, int]] = {reason: {} for reason in get_args(Reason)}
    for day, clicks in outside.items():
        state = states.get(day, DayState())
        if day in closed:
            left_out["closed"][day] = clicks
        elif state.last and state.source == source:  # read before, from the same source
            left_out["different" if state.differs else "same"][day] = clicks
        else:
            left_out["outside_window"][day] = clicks
    for day_read in read:
        if day_read.reason:
            left_out[day_read.reason][day_read.day] = day_read.clicks
    return Ledger(
        read=rejects.lines,
        stored=sum(day_read.clicks for day_read in read if day_read.revision),
        rejected=rejects.rejected,
        filtered=rejects.filtered,
        left_out={reason: dict(sorted(days.items())) for reason, days in left_out.items() if days},
    )


def _describe_difference(read: DayRead, settings: Settings) -> str:
    take = f"To take the source's clicks instead: {take_command(settings, read.day, *_TAKE)}."
    rule = f"(ingest.changed_days={settings.ingest.changed_days})"
    if read.removed_clicks:
        return (
            f"The source holds {read.clicks:,} clicks of {read.day}, fewer than the {read.removed_clicks:,} that "
            f"`sbr store gc` removed. The day stays removed {rule}. Bring its other clicks back into the source. {take}"
        )
    stored, difference = read.stored, read.difference
    assert stored is not None and difference is not None  # noqa: S101 (narrows the types)
    if difference.is_recut:
        return (
            f"The source holds the {stored.rows:,} stored clicks of {read.day}, cut into other sessions (source.session_gap). "
            f"The stored sessions stay {rule}. {take}"
        )
    return (
        f"The source holds {read.clicks:,} clicks of {read.day}, which differ from the {stored.rows:,} that are stored: "
        f"{difference.missing:,} of the stored ones are missing, {difference.added:,} are new. The stored ones stay {rule}. "
        f"If the source holds only a part of the day, ingest it together with the day's other files. {take}"
    )


def _describe_closed(day: date, clicks: int, state: DayState, settings: Settings) -> str:
    return (
        f"The source holds {clicks:,} clicks of {day}, which is closed ({state.closed}). They were left out. To store them "
        f"and reopen the day: {take_command(settings, day)}."
    )


def _describe_reopened(read: Sequence[DayRead], states: Mapping[date, DayState]) -> Iterator[str]:
    for arrived in read:
        state = states.get(arrived.day, DayState())
        if arrived.revision and state.status == "closed":
            day, clicks = arrived.day, arrived.clicks
            yield f"{day} was closed ({state.closed}), and is open again because the source holds {clicks:,} clicks of it."


def _log_import(
    store: Store, settings: Settings, ingested: Ingested, read: Sequence[DayRead], states: Mapping[date, DayState]
) -> None:
    logger.info("Ledger: %s.", ingested.ledger.in_words())
    for day_read in read:
        if day_read.revision and day_read.stored:
            logger.warning(
                "Replaced the clicks of %s by those of the source: %d instead of %d.",
                day_read.day,
                day_read.clicks,
                day_read.stored.rows,
            )
    for sentence in ingested.warnings:
        logger.warning("%s", sentence)
    removed = [day for day in ingested.empty if states.get(day, DayState()).removed]
    if removed:
        logger.warning("%s", removed_and_absent(removed, settings))
    if empty := [day for day in ingested.empty if day not in removed]:
        logger.warning("The source has no clicks on %s.", describe_days(empty))
    if ingested.rejects:
        logger.warning(
            "Left out %s of %s lines, which can't be read; kept in %s.",
            f"{ingested.rejected:,}",
            f"{ingested.ledger.read:,}",
            store.where(ingested.rejects.key),
        )


def no_clicks_at_all(source: SourceSettings, rejects: Rejects) -> str:
    """The message that a source has no clicks, and why."""
    if rejects.filtered:
        why = f"source.where={source.where!r} leaves out {rejects.filtered:,} of its {rejects.lines:,} lines"
        return f"Expected clicks in {source.path}, found none: {why}. Check the condition."
    return f"Expected clicks in {source.path}, found none: the files hold no line."


def removed_and_absent(days: Sequence[date], settings: Settings) -> str:
    """The message that the clicks of some days are neither in the store nor in the source, and what to do."""
    place = f"{settings.source.path} no longer holds all of them" if settings.source.path else "no source is set (source.path)"
    return (
        f"The clicks of {describe_days(days)} were removed from the store (`sbr store gc` or `forget`), and {place}. "
        "Bring them back into the source, then run the day again. Or give them up with `sbr store forget DAY --reason REASON`: "
        "then they count as missing (window.max_missing_days)."
    )


def no_clicks_of(day: date, held: Sequence[date], settings: Settings) -> str:
    """The message that the source has no clicks of a day, which days it has, and what to do.

    Args:
        day: The day.
        held: The days with clicks in the source; empty if unknown.
        settings: `source` is used.
    """
    message = f"{day} has no clicks in {settings.source.path}"
    if not held:
        return f"{message}. Check that the day's file was delivered, then run the day again."
    message += f": it holds clicks of {describe_days(held)}."
    unit = fitting_unit(held, settings.source.time_unit)
    if unit:
        return (
            f"{message} All of them are in January 1970, so the times are probably in another unit than "
            f"source.time_unit={settings.source.time_unit}. Try source.time_unit={unit}."
        )
    return f"{message} Check that the day's file was delivered, then run the day again."


def fitting_unit(days: Sequence[date], time_unit: str) -> str | None:
    """The probable unit of times that `time_unit` puts in January 1970; None if there is none.

    Times from 2001 to 2038 fall on 12 to 25 January 1970 if the unit is 1,000 times too small, and on 1 January 1970 if it is
    1,000,000 times too small.
    """
    if not days or max(days) >= date(1970, 2, 1):
        return None
    units = ("s", "ms", "us")
    if time_unit not in units:
        return None
    place = units.index(time_unit) - (2 if max(days) == date(1970, 1, 1) else 1)
    return units[place] if place >= 0 else None


def _require_same_zone(states: Mapping[date, DayState], settings: Settings) -> None:
    """Days of different time zones overlap, so clicks would be missing or count twice."""
    others = {day: state.timezone for day, state in states.items() if state.last and state.timezone != settings.timezone}
    if others:
        (zone, *_), newest = sorted(set(others.values())), max(others)
        raise DayError(
            f"The days of this store were cut at midnights of {zone} (the newest is {newest}), and the setting timezone is "
            f"{settings.timezone}. Days of two zones overlap, so nothing was ingested. Set timezone back to {zone}, or give "
            f"{settings.timezone} a store of its own (SBR_STORE) and ingest the history into it."
        )


def _require_one_id_type(states: Mapping[date, DayState], replaced: Collection[date], settings: Settings) -> None:
    """A window can't mix two types of ids, so an import must change the type of all days in its scope, or of none."""
    id_type = settings.source.id_type
    if not replaced:
        return
    kept_days = {day: state for day, state in states.items() if state.stored and day not in set(replaced)}
    others = [day for day, state in kept_days.items() if state.id_type != id_type]
    if others:
        kept = states[others[0]].id_type
        raise DayError(
            f"The store has ids of type {kept} on {describe_days(others)}, days that this import doesn't replace, and "
            f"source.id_type is {id_type}. Nothing was stored. Set source.id_type={kept}; or import all these "
            "days again in one go (with ingest.changed_days=take where the source holds other clicks), or use another store."
        )


def _require_settled(files: Sequence[SourceFile], settings: Settings, holds_back: bool, now: datetime) -> None:
    """Checks that no local file is still being written; objects in a bucket appear only when they are complete.

    Raises:
        NotArrivedError: A file changed within `source.settle_seconds`, and `holds_back` is set.
    """
    settle_seconds = settings.source.settle_seconds
    # Another machine's clock may be ahead. A file of the far future counts as settled, or the run would wait forever.
    ages = {str(file): now.timestamp() - file.stat().st_mtime for file in files if isinstance(file, Path)}
    young = {name: age for name, age in ages.items() if abs(age) < settle_seconds}
    if not young:
        return
    name = min(young, key=lambda file: young[file])
    others = len(young) - 1
    more = f" and {others} more file{'s' if others > 1 else ''}" if others else ""
    message = f"{name}{more} changed {max(young[name], 0):.0f} s ago, so {'they' if others else 'it'} may be half written"
    if not holds_back:
        logger.info("%s. Reading now, because the source was named for this import alone (source.settle_seconds).", message)
        return
    raise NotArrivedError(
        f"{message}. Nothing was read. Run this again once no file has changed for {settle_seconds:g} s "
        "(source.settle_seconds; 0 reads at once, and so does `sbr` with --from)."
    )


def read_source(source: SourceSettings, rejects: Rejects | None = None) -> Iterator[pa.Table]:
    """All clicks of a source, block by block; see `read_files`.

    Raises:
        SourceError: The source is absent or empty, or too many of its lines don't parse.
    """
    return read_files(files_of(source), source, rejects, datetime.now(UTC))


def read_files(
    files: list[SourceFile], source: SourceSettings, rejects: Rejects | None = None, now: datetime | None = None
) -> Iterator[pa.Table]:
    """All clicks of some files, block by block, with sessions; `source.session_gap` cuts users' clicks into sessions.

    Args:
        files: Existing files.
        source: How they are laid out; its path is ignored.
        rejects: Collects the rejected lines, and limits their number; by default none may be rejected.
        now: The current time: clicks more than a day later, or before `source.earliest`, are rejected. None: any time is valid.

    Raises:
        SourceError: A file is empty or too many lines don't parse.
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
    lines_after = cache(partial(max_lines_after, files, source))
    with Progress(f"Reading {what}", total, "B", logger) as progress:
        for n, file in enumerate(files):
            before = 0
            for block in _read_one_of(files, file, source, now):
                rows += len(block.table)
                with _leaving_out(files):
                    rejects.add(block.lines, block.rejects, block.max_lines_left + (lines_after()[n] if block.rejects else 0))
                rejects.filtered += block.filtered
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
    """How to leave out a file, if there are several."""
    if len(files) == 1:
        return ""
    return (
        f" It is one of {len(files)} files of the source: to leave it out, move it away, let its name begin with '_' (in a "
        "folder), or name the others by a glob such as '*.dat'."
    )


class _Spill:
    """Clicks split by day in one Arrow file on disk, in batches of one day each; clicks of other days are only counted."""

    def __init__(self, folder: Path, settings: Settings, days: Collection[date] | None) -> None:
        self._file = str(folder / "clicks.arrow")
        self._zone: tzinfo = settings.zone
        self._wanted = None if days is None else np.array(sorted((day - date(1970, 1, 1)).days for day in days), dtype=np.int32)
        self._batches: dict[int, list[int]] = defaultdict(list)
        self._outside = Counter[int]()
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
        """Number of days with clicks so far."""
        return len(self._batches)

    def add(self, table: pa.Table) -> None:
        """Appends a block's clicks to their days; clicks of days that weren't requested are counted and left out."""
        self.rows_read += len(table)
        clicked_at = table.column(Columns.TIME)
        if clicked_at.null_count:
            raise SourceError(f"Expected a time in each click, found {clicked_at.null_count} clicks without one.")
        numbers = day_numbers(clicked_at.cast(pa.int64()).to_numpy(), self._zone)
        if self._wanted is not None:
            keep = np.isin(numbers, self._wanted)
            others, clicks = np.unique(numbers[~keep], return_counts=True)
            self._outside.update(dict(zip(others.tolist(), clicks.tolist(), strict=True)))
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

    def outside(self) -> dict[date, int]:
        """Number of clicks of days that weren't requested, by day."""
        return {number_to_day(number): self._outside[number] for number in sorted(self._outside)}

    def drain(self) -> Iterator[tuple[date, pa.Table]]:
        """Yields the clicks of each day, oldest day first, in the order they were added; no clicks can be added afterwards."""
        self._writer.close()
        self._sink.close()
        with pa.OSFile(self._file, "rb") as stream:
            reader = pa.ipc.open_file(stream)
            for number in sorted(self._batches):
                yield number_to_day(number), pa.Table.from_batches(map(reader.get_batch, self._batches[number]))


def _order_of_days(numbers: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """The stable order by day; NumPy uses the faster radix sort for 16-bit numbers."""
    first, last = int(numbers.min()), int(numbers.max())
    keys = (numbers - first).astype(np.uint16) if last - first < 1 << 16 else numbers
    return np.argsort(keys, kind="stable")


def sort_clicks(clicks: pa.Table) -> pa.Table:
    """Sorts clicks by session and time, into one chunk; clicks of a session with equal times keep their order.

    Integer sessions and times that fit into 64 bits together are sorted as one number, which is ten times faster than by two
    columns. That sort isn't stable, so clicks of a session with equal times are put back into their order afterwards.
    """
    key = _session_and_time(clicks)
    if key is None:
        by_session_and_time = [(Columns.SESSION, "ascending"), (Columns.TIME, "ascending")]
        return clicks.take(pc.sort_indices(clicks, by_session_and_time)).combine_chunks()  # stable
    order = np.argsort(key)
    key = key[order]
    same = key[1:] == key[:-1]
    if same.any():
        tied = np.flatnonzero(np.append(same, False) | np.append(False, same))
        order[tied] = order[tied][np.lexsort((order[tied], key[tied]))]
    return clicks.take(pa.array(order)).combine_chunks()


def _session_and_time(clicks: pa.Table) -> npt.NDArray[np.int64] | None:
    """One number per click that orders by session and time; None if 64 bits aren't enough or ids aren't integers."""
    sessions = clicks.column(Columns.SESSION)
    if not pa.types.is_integer(sessions.type) or sessions.null_count:
        return None
    session_id = sessions.to_numpy()
    at_us = clicks.column(Columns.TIME).cast(pa.int64()).to_numpy()
    n_sessions = int(session_id.max()) - int(session_id.min()) + 1
    n_us = int(at_us.max()) - int(at_us.min()) + 1
    if n_sessions * n_us >= 1 << 63:
        return None
    key: npt.NDArray[np.int64] = (session_id - session_id.min()) * n_us + (at_us - at_us.min())
    return key


def _publish_days(store: Store, settings: Settings, spill: _Spill, states: Mapping[date, DayState]) -> tuple[DayRead, ...]:
    """Publishes new days, a few at a time: one is read from disk while others are sorted, compressed and written."""
    read: list[DayRead] = []
    in_progress: deque[Future[DayRead]] = deque()

    def finish_one() -> None:
        read.append(in_progress.popleft().result())
        progress.advance(read[-1].clicks, f"{len(read)} of {spill.n_days} days")

    with (
        Progress(f"Storing {spill.n_days} days", spill.rows, "clicks", logger) as progress,
        ThreadPoolExecutor(_AT_ONCE) as pool,
    ):
        for day, clicks in spill.drain():
            in_progress.append(pool.submit(_publish_day, store, day, clicks, states.get(day, DayState()), settings))
            if len(in_progress) > _AT_ONCE:
                finish_one()
        while in_progress:
            finish_one()
    return tuple(read)


def _publish_day(store: Store, day: date, unsorted: pa.Table, state: DayState, settings: Settings) -> DayRead:
    """Stores a day's clicks, unless the same are stored, or others that `ingest.changed_days` keeps."""
    clicks = sort_clicks(unsorted)
    rev = content_hash(clicks)
    last, stored = state.last, state.stored
    if last and last.rev == rev:
        return DayRead(day, len(clicks), stored=last)
    if len(clicks) < state.removed_clicks and settings.ingest.changed_days != "take":
        return DayRead(day, len(clicks), removed_clicks=state.removed_clicks)
    if stored is None or stored.rev == rev:  # a new day, or one that replaces clicks in quarantine
        return DayRead(day, len(clicks), _publish_revision(store, day, rev, clicks), state.quarantined)
    if settings.ingest.changed_days == "take":  # even if the stored file is damaged
        return DayRead(day, len(clicks), _publish_revision(store, day, rev, clicks), stored)
    before = ClickCatalog(store).read(stored)
    differing = difference(before, clicks, is_cut=settings.source.session_gap is not None)
    is_converted = not differing and before.schema.field(Columns.ITEM).type != clicks.schema.field(Columns.ITEM).type
    if is_converted or differing.is_taken(settings.ingest.changed_days):
        return DayRead(day, len(clicks), _publish_revision(store, day, rev, clicks), stored, differing)
    return DayRead(day, len(clicks), stored=stored, difference=differing)


def _publish_revision(store: Store, day: date, rev: str, clicks: pa.Table) -> Revision:
    # Sorted sessions and times hardly repeat, so a dictionary of them would cost time and space.
    texts = [field.name for field in clicks.schema if pa.types.is_string(field.type)]
    encodings = {field.name: "DELTA_BINARY_PACKED" for field in clicks.schema if field.name not in texts}
    parquet = to_parquet(clicks, use_dictionary=texts, column_encoding=encodings)
    file = store.publish(kinds.CLICKS.key(day=day, rev=rev, path="clicks.parquet"), parquet)
    times: dict[str, Any] = pc.min_max(clicks.column(Columns.TIME)).as_py()
    sessions = clicks.column(Columns.SESSION)  # sorted: a session starts where the id changes
    return Revision(
        day=day,
        rev=rev,
        file=file,
        rows=len(clicks),
        sessions=1 + pc.sum(pc.not_equal(sessions[1:], sessions[:-1]), min_count=0).as_py(),
        items=pc.count_distinct(clicks.column(Columns.ITEM)).as_py(),
        first=times["min"].isoformat(),
        last=times["max"].isoformat(),
    )
