"""Building a window: accepted days in, cleansed sessions split by day out, as Parquet with a manifest."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date, timedelta, tzinfo
from typing import Any

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from tabulate import tabulate

from sbr_tasks.clicks.catalog import ClickCatalog
from sbr_tasks.days import day_interval_us, describe_days, from_us, window_days
from sbr_tasks.errors import AlreadyExistsError, WindowError
from sbr_tasks.settings import Settings
from sbr_tasks.store import FileRecord, Json, Store, code_version, fingerprint, to_json
from sbr_tasks.validation.checkpoint import require_days
from sbr_tasks.window.cleanse import CleansingPass, TooLong, cleanse, limit_length, split
from sbr_tasks.window.sessions import ItemIndex, Sessions, plain_ids, to_sessions

logger = logging.getLogger(__name__)

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Window:
    """A published window.

    Attributes:
        fingerprint: Stands for its inputs: revisions, settings and code.
        as_of: The day it ends with.
        manifest: Parts with their files and counts, revisions, missing days, cleansing passes.
    """

    fingerprint: str
    as_of: date
    manifest: Json

    @property
    def clicks(self) -> int:
        """Clicks of all parts."""
        return sum(int(self.manifest["parts"][part]["clicks"]) for part in PARTS)


WINDOW_FIELDS = ("inputs", "parts", "items", "n_items", "cleansing", "clicks_before_cleansing", "missing_days")


@dataclass(frozen=True)
class WindowData:
    """The content of a window, in memory."""

    train: Sessions
    validation: Sessions
    test: Sessions
    index: ItemIndex


def build_window(store: Store, settings: Settings, as_of: date) -> Window:
    """Builds the window that ends with `as_of`, or returns the one that was built of the same inputs.

    Raises:
        DayError: Days are missing (see `require_days`).
        WindowError: Cleansing left nothing to train on.
    """
    catalog = ClickCatalog(store)
    days = catalog.days()
    missing = require_days(days, settings, as_of)
    revisions = {
        day: revision
        for day in window_days(as_of, settings.window.days)
        if day in days and (revision := days[day].accepted) is not None
    }
    inputs = {
        "as_of": str(as_of),
        "revisions": {str(day): revision.rev for day, revision in revisions.items()},
        "window": settings.window.model_dump(mode="json", exclude=_not_of_the_window(settings)),
        "timezone": settings.timezone,
        "code": code_version("window"),
    }
    key = fingerprint(inputs)
    if store.exists(_manifest_key(as_of, key)):
        logger.info("The window of %s was built before from the same inputs (%s).", as_of, key)
        return load_window(store, as_of, key)
    columns = ("session_id", "item_id", "clicked_at")
    tables = {day: catalog.read(revision, columns) for day, revision in revisions.items()}
    _require_one_id_type(tables, as_of)
    clicks = pa.concat_tables(tables.values())
    del tables
    frame, session_ids, item_ids = _encode(clicks)
    del clicks
    n_before = len(frame)
    whole = nw.from_native(frame, eager_only=True)
    too_long = None
    if settings.window.longest is not None:
        whole, too_long = limit_length(whole, longest=settings.window.longest, action=settings.window.longest_action)
    kept, passes = cleanse(
        whole,
        shortest=settings.window.shortest,
        least_click=settings.window.least_click,
    )
    starts = [day_interval_us(day, settings.zone)[0] for day in (as_of - timedelta(days=1), as_of)]
    parts = {
        name: part.to_native() for name, part in split(kept, validation_start_us=starts[0], test_start_us=starts[1]).items()
    }
    if parts["train"].empty:
        raise WindowError(_nothing_left(as_of, n_before, passes, settings))
    return _publish(store, as_of, key, inputs, parts, (session_ids, item_ids), passes, n_before, missing, too_long)


def load_window(store: Store, as_of: date, key: str) -> Window:
    """The published window with that fingerprint.

    Raises:
        StoreError: There is no such window.
    """
    return Window(key, as_of, store.get_json(_manifest_key(as_of, key), WINDOW_FIELDS))


def window_record(store: Store, as_of: date, key: str) -> Window:
    """The manifest of a window, also of one whose files were removed: what its log entry tells of.

    Raises:
        StoreError: There is no such window, and never was.
    """
    if not store.exists(_manifest_key(as_of, key)) and store.exists(removed_key(as_of, key)):
        return Window(key, as_of, store.get_json(removed_key(as_of, key), WINDOW_FIELDS))
    return load_window(store, as_of, key)


def removed_key(as_of: date, key: str) -> str:
    """Where the manifest of a window lies whose files were removed (`sbr store gc`)."""
    return f"windows/as_of={as_of}/{key}/removed.json"


def read_window(store: Store, window: Window, zone: tzinfo) -> WindowData:
    """Reads a window's sessions and item index, verified against its manifest."""
    files = {name: FileRecord.from_dict(window.manifest["parts"][name]["file"]) for name in PARTS}
    items = store.read_table(FileRecord.from_dict(window.manifest["items"]))
    test_day = day_interval_us(window.as_of, zone)
    validation_day = day_interval_us(window.as_of - timedelta(days=1), zone)
    return WindowData(
        train=to_sessions(store.read_table(files["train"])),
        validation=to_sessions(store.read_table(files["validation"]), validation_day),
        test=to_sessions(store.read_table(files["test"]), test_day),
        index=ItemIndex(plain_ids(items.column("item_id")), items.column("support").to_numpy()),
    )


def window_table(window: Window) -> str:
    """The parts of a window as a table for people."""
    rows = []
    for name in PARTS:
        part = window.manifest["parts"][name]
        rows.append([name, part["clicks"], part["events"], part["sessions"], part["items"], part["first"], part["last"]])
    return tabulate(rows, headers=["part", "clicks", "events", "sessions", "items", "first click", "last click"], intfmt=",")


def _require_one_id_type(tables: Mapping[date, pa.Table], as_of: date) -> None:
    by_type: dict[str, list[date]] = {}
    for day, table in tables.items():
        by_type.setdefault(", ".join(f"{f.name}: {f.type}" for f in table.schema if f.name.endswith("_id")), []).append(day)
    if len(by_type) > 1:
        found = "; ".join(f"{types} on {describe_days(days)}" for types, days in by_type.items())
        raise WindowError(
            f"Expected ids of one type on all days of the window of {as_of}, found {found}. "
            "Ingest the days of the wrong type again (source.id_type)."
        )


def _not_of_the_window(settings: Settings) -> set[str]:
    """Settings of the section `window` that its content doesn't depend on; they stay out of the fingerprint."""
    without_limit = {"longest", "longest_action"} if settings.window.longest is None else set()
    return {"max_missing_days", *without_limit}


def _manifest_key(as_of: date, key: str) -> str:
    return f"windows/as_of={as_of}/{key}/manifest.json"


def _encode(clicks: pa.Table) -> tuple[pd.DataFrame, pa.Array, pa.Array]:
    """Ids as integer codes in the order of the ids, so that ties break alike whatever the ids' type."""
    codes, values = [], []
    for name in ("session_id", "item_id"):
        encoded = clicks.column(name).combine_chunks().dictionary_encode()
        order = pc.array_sort_indices(encoded.dictionary).to_numpy()
        rank = np.empty(len(order), np.int32)
        rank[order] = np.arange(len(order), dtype=np.int32)
        codes.append(rank[encoded.indices.to_numpy()])
        values.append(encoded.dictionary.take(pa.array(order)))
    at_us = clicks.column("clicked_at").cast(pa.int64()).to_numpy()
    return pd.DataFrame({"session": codes[0], "item": codes[1], "clicked_at": at_us}), values[0], values[1]


def _publish(
    store: Store,
    as_of: date,
    key: str,
    inputs: Mapping[str, Any],
    parts: Mapping[str, pd.DataFrame],
    ids: tuple[pa.Array, pa.Array],
    passes: list[CleansingPass],
    n_before: int,
    missing: list[date],
    too_long: TooLong | None,
) -> Window:
    folder = f"windows/as_of={as_of}/{key}"
    described = {}
    for name in PARTS:
        table = _decode(parts[name], *ids)
        described[name] = _describe(parts[name]) | {"file": store.publish_table(f"{folder}/{name}.parquet", table).as_dict()}
    support = parts["train"]["item"].value_counts(sort=False)
    order = np.lexsort((support.index.to_numpy(), -support.to_numpy()))
    items = pa.table(
        {
            "item_id": ids[1].take(pa.array(support.index.to_numpy()[order])),
            "support": pa.array(support.to_numpy()[order].astype(np.int64)),
        }
    )
    manifest = {
        "fingerprint": key,
        "inputs": dict(inputs),
        "missing_days": [str(day) for day in missing],
        "clicks_before_cleansing": n_before,
        "too_long": asdict(too_long) if too_long else None,
        "cleansing": [asdict(step) for step in passes],
        "parts": described,
        "items": store.publish_table(f"{folder}/items.parquet", items).as_dict(),
        "n_items": len(items),
    }
    try:
        store.put_new(_manifest_key(as_of, key), to_json(manifest))
    except AlreadyExistsError:
        logger.info("Another run published the same window (%s) meanwhile.", key)
        return load_window(store, as_of, key)
    window = Window(key, as_of, manifest)
    logger.info(
        "Window of %s: %d of %d clicks are left after %d passes of cleansing.\n%s",
        as_of,
        window.clicks,
        n_before,
        len(passes),
        window_table(window),
    )
    return window


def _decode(part: pd.DataFrame, session_ids: pa.Array, item_ids: pa.Array) -> pa.Table:
    return pa.table(
        {
            "session_id": session_ids.take(pa.array(part["session"].to_numpy())),
            "item_id": item_ids.take(pa.array(part["item"].to_numpy())),
            "clicked_at": pa.array(part["clicked_at"].to_numpy()).cast(pa.timestamp("us", tz="UTC")),
        }
    )


def _describe(part: pd.DataFrame) -> Json:
    sessions = int(part["session"].nunique())
    empty = part.empty
    return {
        "clicks": len(part),
        "events": len(part) - sessions,
        "sessions": sessions,
        "items": int(part["item"].nunique()),
        "first": None if empty else from_us(int(part["clicked_at"].min())).isoformat(timespec="seconds"),
        "last": None if empty else from_us(int(part["clicked_at"].max())).isoformat(timespec="seconds"),
    }


def _nothing_left(as_of: date, n_before: int, passes: list[CleansingPass], settings: Settings) -> str:
    most = "" if settings.window.longest is None else f", {settings.window.longest} at most"
    return (
        f"The window of {as_of} has {n_before:,} clicks, but cleansing "
        f"(sessions of {settings.window.shortest} or more clicks{most}, "
        f"items of {settings.window.least_click} or more) left {passes[-1].clicks:,}, and no session to train on that ends "
        f"before {as_of - timedelta(days=1)}. Lower window.least_click, or lengthen the window (window.days)."
    )
