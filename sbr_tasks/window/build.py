"""Builds windows: reads accepted days, splits sessions by day, cleanses what is trained on and publishes Parquet files."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tabulate import tabulate

from sbr_tasks.clicks.catalog import ClickCatalog, DayState
from sbr_tasks.clicks.columns import Columns
from sbr_tasks.clicks.commits import Revision
from sbr_tasks.days import day_interval_us, describe_days, from_us, window_days
from sbr_tasks.errors import DayError, WindowError
from sbr_tasks.scratch import scratch_folder
from sbr_tasks.settings import Settings
from sbr_tasks.store import FileRecord, Store, code_version, fingerprint, kinds
from sbr_tasks.validation.required import DaysOfWindow, require_days
from sbr_tasks.window.coded import Coder
from sbr_tasks.window.coverage import describe_cleansing
from sbr_tasks.window.data import WindowData, items_of, read_window
from sbr_tasks.window.memory import cleanse_part, fair_items, in_order_coded, split_coded
from sbr_tasks.window.parts import Cleansing, Part, Split, clicks_on
from sbr_tasks.window.record import (
    PARTS,
    CleansingRecord,
    LevelRecord,
    PartRecord,
    Window,
    WindowInputs,
    WindowRules,
)
from sbr_tasks.window.sessions import ItemIndex, Sessions, to_sessions
from sbr_tasks.window.spark import split_on_spark
from sbr_tasks.window.stages import Stages

logger = logging.getLogger(__name__)

_ROW_GROUP = 1 << 20
_GROUPS_OF_A_WINDOW = 7
"""A window is at least this many times as long as a group of runs that share a choice."""


def window_for_day(store: Store, settings: Settings, day: date, stages: Stages | None = None) -> Window:
    """Returns the window that ends with `day`; builds and publishes it unless there is one with the same inputs.

    Args:
        store: The store with the days; the window is published there.
        settings: `window` and `timezone` are used.
        day: The last day of the window.
        stages: Records how long reading, encoding (or starting Spark), splitting, cleansing, indexing and writing take.

    Raises:
        DayError: Days are missing (see `require_days`).
        WindowError: Cleansing left nothing to train on, or Spark isn't installed but set as the engine.
        SparkError: Spark can't be reached, or failed.
    """
    catalog = ClickCatalog(store)
    days = catalog.days()
    window_state = require_days(days, settings, day)
    starts = _starts(settings, day, window_state.validation_day)
    revisions = _revisions(days, settings, day)
    inputs = WindowInputs(
        day=day,
        revisions={day: revision.rev for day, revision in revisions.items()},
        window=WindowRules.of(settings.window),
        timezone=settings.timezone,
        code=code_version("window"),
    )
    key = fingerprint(inputs.as_dict())
    times = stages or Stages()
    n_clicks = sum(revision.rows for revision in revisions.values())

    def build() -> Window:
        with _SPLIT_BY[settings.window.engine](catalog, revisions, settings, day, starts, times) as split:
            if not split.parts["train"].n_clicks:
                raise WindowError(_nothing_left(day, window_state.validation_day, n_clicks, split.cleansing, settings))
            window = _publish(store, key, inputs, split, n_clicks, window_state, times)
        logger.info("Window of %s: %d accepted clicks (%s).", day, n_clicks, times)
        return window

    return store.once(kinds.WINDOW.key(day=day, window=key), Window, build)


def split_for_judging(store: Store, settings: Settings, window: Window, n_days: int) -> WindowData:
    """Splits a window's clicks again, with the last `n_days` days before its test day for validation. Publishes nothing.

    No click of the validation days is trained on, counts for cleansing or chooses an item. `refit` is the window's: it doesn't
    depend on which days validate.

    Args:
        store: The store with the days of the window.
        settings: The settings that the window was built with.
        window: The window.
        n_days: Number of validation days.

    Raises:
        WindowError: Cleansing left nothing to train on.
    """
    first = window.day - timedelta(days=n_days)
    published = read_window(store, window, settings.zone)
    if first >= window.validation_day:
        return published
    catalog = ClickCatalog(store)
    revisions = _revisions(catalog.days(), settings, window.day)
    split = _split_again(catalog, settings, revisions, first, window.day)
    return WindowData(lambda name: published.refit if name == "refit" else split.parts[name], lambda: split.index)


def choosing_days(window: Window, choose_every: int) -> tuple[date, ...]:
    """The accepted days of a window by which epochs and read-out are chosen, oldest first; the last one validates.

    Runs of `choose_every` consecutive days have the same days: those before the first of these runs that are in the windows of
    all of them. So they choose alike, in whatever order they run. A group of runs is at most a seventh of the window.

    Args:
        window: The window of the run.
        choose_every: Number of consecutive runs that share a choice.
    """
    n_days = window.inputs.window.days
    n_runs = min(choose_every, max(1, n_days // _GROUPS_OF_A_WINDOW))
    end = window.day - timedelta(days=window.day.toordinal() % n_runs)
    first = end - timedelta(days=n_days - n_runs)
    return tuple(sorted(day for day in window.inputs.revisions if first <= day < end))


def choosing_data(store: Store, settings: Settings, window: Window, days: Sequence[date]) -> WindowData | None:
    """The sessions of `choosing_days`, split into training and validation; None if cleansing leaves nothing to train on.

    Args:
        store: The store with the days of the window.
        settings: The settings that the window was built with.
        window: The window.
        days: Some of its days before the test day.

    Raises:
        DayError: The clicks of a day were removed.
    """
    if not days:
        return None
    if list(days) == sorted(day for day in window.inputs.revisions if day < window.day):
        return read_window(store, window, settings.zone)
    catalog = ClickCatalog(store)
    states = catalog.days()
    revisions = {}
    for day in days:
        revision = states[day].revisions.get(window.inputs.revisions[day]) if day in states else None
        if revision is None:
            raise DayError(
                f"Expected the clicks of {day}, by which the run of {window.day} chooses its epochs, but they were removed. "
                f"Run {window.day} again with its ingest_clicks: it takes them from the source."
            )
        revisions[day] = revision
    try:
        split = _split_again(catalog, settings, revisions, days[-1], days[-1] + timedelta(days=1))
    except WindowError:
        return None
    return WindowData(split.parts.__getitem__, lambda: split.index)


@dataclass(frozen=True)
class _Again:
    """The parts of a split that isn't published, by name, and the index of its training items."""

    parts: Mapping[str, Sessions]
    index: ItemIndex


def _split_again(
    catalog: ClickCatalog, settings: Settings, revisions: Mapping[date, Revision], validation_day: date, test_day: date
) -> _Again:
    """Splits clicks so that validation starts with one day, and test with another.

    Raises:
        WindowError: Cleansing left nothing to train on.
    """
    starts = _starts(settings, test_day, validation_day)
    with _SPLIT_BY[settings.window.engine](catalog, revisions, settings, test_day, starts, Stages()) as split:
        if not split.parts["train"].n_clicks:
            n_clicks = sum(revision.rows for revision in revisions.values())
            raise WindowError(_nothing_left(test_day, validation_day, n_clicks, split.cleansing, settings))
        items, index = items_of(_item_table(split.parts))
        targets = {
            "train": None,
            "validation": (starts["validation_start_us"], starts["test_start_us"]),
            "test": day_interval_us(test_day, settings.zone),
        }
        parts = {}
        for name, interval in targets.items():
            schema, tables = _coded_by(items.array, split.parts[name])
            parts[name] = to_sessions(pa.concat_tables([schema.empty_table(), *tables]), items, interval)
    return _Again(parts, index)


def window_table(window: Window) -> str:
    """The parts of a window as a table for people, with what cleansing and `window.longest` removed."""
    rows = []
    for name in PARTS:
        part = window.parts[name]
        rows.append([name, part.clicks, part.events, part.sessions, part.items, part.first, part.last])
    table = tabulate(rows, headers=["part", "clicks", "events", "sessions", "items", "first click", "last click"], intfmt=",")
    table = f"{table}\n{describe_cleansing(window)}"
    if window.validation_day != window.day - timedelta(days=1):
        table += f"\nValidated on {window.validation_day}, the newest day before {window.day} with accepted clicks."
    too_long, rules = window.cleansing.too_long, window.inputs.window
    if not too_long or not too_long.sessions:
        return table
    verb = "cut" if rules.longest_action == "cut" else "dropped"
    return (
        f"{table}\n{too_long.sessions:,} sessions of more than {rules.longest:,} clicks were {verb}, "
        f"{too_long.clicks_lost:,} clicks lost (window.longest)."
    )


@contextmanager
def _split_in_memory(
    catalog: ClickCatalog,
    revisions: Mapping[date, Revision],
    settings: Settings,
    day: date,
    starts: Mapping[str, int],
    stages: Stages,
) -> Iterator[Split]:
    clicks = _read(catalog, revisions, day, stages)
    if settings.window.cleanse == "window":
        with stages("cleanse"):
            clicks, cleansing = cleanse_part(clicks, settings.window, None)
    with stages("split"):
        parts = split_coded(clicks, **starts)
    del clicks
    if settings.window.cleanse == "window":
        with stages("cleanse"):
            cleansing = replace(cleansing, fair_items=fair_items(parts["train"], settings.window))
    else:
        with stages("cleanse"):
            parts["train"], cleansing = cleanse_part(parts["train"], settings.window, parts["test"])
            parts["refit"], _ = cleanse_part(parts["refit"], settings.window, None)
    with stages("split"):
        for name in PARTS:
            parts[name] = in_order_coded(parts[name])
    yield Split(parts, cleansing)


@contextmanager
def _split_on_spark(
    catalog: ClickCatalog,
    revisions: Mapping[date, Revision],
    settings: Settings,
    day: date,
    starts: Mapping[str, int],
    stages: Stages,
) -> Iterator[Split]:
    with scratch_folder(settings, "spark") as scratch:
        files = []
        by_type: dict[str, list[date]] = {}
        with stages("read"):
            for accepted_day, revision in revisions.items():
                files.append(catalog.local_file(revision, scratch))
                of_file = pq.read_schema(files[-1])
                by_type.setdefault(_id_types(of_file), []).append(accepted_day)
        _require_one_id_type(by_type, day)
        schema = pa.schema([(name, of_file.field(name).type) for name in Columns.CLICK])
        yield split_on_spark(files, schema, settings.window, scratch=scratch, stages=stages, **starts)


_SPLIT_BY = {"memory": _split_in_memory, "spark": _split_on_spark}


def _revisions(days: Mapping[date, DayState], settings: Settings, day: date) -> dict[date, Revision]:
    """The accepted revisions of a window's days."""
    of_window = ((day, days[day].accepted) for day in window_days(day, settings.window.days) if day in days)
    return {day: revision for day, revision in of_window if revision is not None}


def _starts(settings: Settings, day: date, validation_day: date) -> dict[str, int]:
    """The start of the validation and of the test part, as arguments of `split`."""
    validation, test = (day_interval_us(day, settings.zone)[0] for day in (validation_day, day))
    return {"validation_start_us": validation, "test_start_us": test}


def _read(catalog: ClickCatalog, revisions: Mapping[date, Revision], day: date, stages: Stages) -> Sessions:
    coder = Coder()
    by_type: dict[str, list[date]] = {}
    for accepted_day, revision in revisions.items():
        with stages("read"):
            clicks = catalog.read(revision, Columns.CLICK, dictionaries=Columns.IDS)
        by_type.setdefault(_id_types(clicks.schema), []).append(accepted_day)
        if len(by_type) == 1:
            with stages("encode"):
                coder.add(clicks)
    _require_one_id_type(by_type, day)
    with stages("encode"):
        return coder.finish()


def _id_types(schema: pa.Schema) -> str:
    types = {name: schema.field(name).type for name in Columns.IDS}
    return ", ".join(f"{name}: {t.value_type if pa.types.is_dictionary(t) else t}" for name, t in types.items())


def _require_one_id_type(by_type: Mapping[str, list[date]], day: date) -> None:
    if len(by_type) > 1:
        types_found = "; ".join(f"{types} on {describe_days(days)}" for types, days in by_type.items())
        raise WindowError(
            f"Expected ids of one type on all days of the window of {day}, found {types_found}. "
            "Ingest the days of the wrong type again (source.id_type)."
        )


def _publish(
    store: Store,
    key: str,
    inputs: WindowInputs,
    split: Split,
    n_clicks: int,
    days: DaysOfWindow,
    stages: Stages,
) -> Window:
    with stages("index"):
        items = _item_table(split.parts)
    with stages("write"):
        parts = {}
        for name in PARTS:
            part = split.parts[name]
            content = _to_parquet(part, items.column(Columns.ITEM).chunk(0))
            file = store.publish(kinds.WINDOW_FILE.key(day=inputs.day, window=key, path=f"{name}.parquet"), content)
            parts[name] = _part_record(part, file)
        item_file = store.publish_table(kinds.WINDOW_FILE.key(day=inputs.day, window=key, path="items.parquet"), items)
    return Window(
        fingerprint=key,
        inputs=inputs,
        validation_day=days.validation_day,
        missing_days=tuple(days.missing),
        clicks=n_clicks,
        cleansing=_cleansing_record(split),
        parts=parts,
        items=item_file,
        n_items=int(np.count_nonzero(items.column("support").to_numpy())),
    )


def _item_table(parts: Mapping[str, Part]) -> pa.Table:
    """The items of all parts with their support in training, by which they are sorted (ties: by id).

    The items of the index come first; those of the other parts alone follow, with support 0.
    """
    ids, support = parts["train"].catalog.array, parts["train"].support
    order = np.argsort(-support, kind="stable")[: np.count_nonzero(support)]
    others = (parts[name] for name in PARTS if name != "train")
    clicked = [part.catalog.array.filter(pa.array(part.support > 0)) for part in others]
    items = pa.concat_arrays([ids.take(pa.array(order)), *clicked]).unique()
    return pa.table({Columns.ITEM: items, "support": pa.array(np.pad(support[order], (0, len(items) - len(order))))})


def _coded_by(item_ids: pa.Array, part: Part) -> tuple[pa.Schema, Iterator[pa.Table]]:
    """The clicks of a part, with the positions of their items in `item_ids` as codes, and their schema."""
    codes = pc.index_in(part.catalog.array, value_set=item_ids)
    at = part.schema.names.index(Columns.CODE)
    tables = (table.set_column(at, Columns.CODE, codes.take(table.column(at))) for table in part.tables(_ROW_GROUP))
    return part.schema, tables


def _to_parquet(part: Part, item_ids: pa.Array) -> memoryview:
    """Like `store.to_parquet`, but one row group at a time: with session ids, a part takes far more memory."""
    sink = pa.BufferOutputStream()
    schema, tables = _coded_by(item_ids, part)
    with pq.ParquetWriter(sink, schema, compression="zstd", coerce_timestamps="us") as writer:
        for table in tables:
            writer.write_table(table)
    return memoryview(sink.getvalue()).cast("B")


def _part_record(part: Part, file: FileRecord) -> PartRecord:
    first, last = (from_us(at).isoformat(timespec="seconds") for at in part.span_us) if part.span_us else (None, None)
    return PartRecord(
        clicks=part.n_clicks,
        events=part.n_clicks - part.n_sessions,
        sessions=part.n_sessions,
        items=int(np.count_nonzero(part.support)),
        first=first,
        last=last,
        file=file,
    )


def _cleansing_record(split: Split) -> CleansingRecord:
    done, test = split.cleansing, split.parts["test"]
    levels = (
        LevelRecord(
            least_click=level.least_click,
            clicks=level.clicks,
            items=len(level.items),
            test_clicks=clicks_on(test, level.items),
        )
        for level in done.levels
    )
    return CleansingRecord(
        before=done.before, too_long=done.too_long, passes=tuple(done.passes), fair_items=done.fair_items, levels=tuple(levels)
    )


def _nothing_left(day: date, validation_day: date, n_clicks: int, cleansing: Cleansing, settings: Settings) -> str:
    limit = "" if settings.window.longest is None else f", {settings.window.longest:,} at most"
    return (
        f"The window of {day} has {n_clicks:,} clicks, {cleansing.before.clicks:,} of them to cleanse, but cleansing "
        f"(sessions of {settings.window.shortest} or more clicks{limit}, "
        f"items of {settings.window.least_click} or more) left {cleansing.passes[-1].clicks:,}, and none to train on "
        f"before {validation_day}. Lower window.least_click, or lengthen the window (window.days)."
    )
