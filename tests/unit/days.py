"""Small days of clicks that tests put into a store."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sbr_tasks.days import day_start
from sbr_tasks.settings import Settings, load_settings, parse_overrides

Click = tuple[object, object, datetime]


def at(day: date, second: float, zone_name: str = "UTC") -> datetime:
    """An instant `second` seconds after the start of a day."""
    zone = load_settings({"timezone": zone_name}).zone
    return day_start(day, zone) + timedelta(seconds=second)


def write_parquet(file: Path, clicks: Iterable[Click]) -> None:
    """Writes clicks (session, item, time) as a Parquet source, whatever they hold."""
    sessions, items, times = zip(*clicks, strict=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"session_id": sessions, "item_id": items, "clicked_at": pa.array(times, pa.timestamp("us", tz="UTC"))})
    pq.write_table(table, file)


def parquet_settings(folder: Path, *overrides: str) -> Settings:
    """Settings that read the Parquet files of `folder/in` into `folder/store`."""
    places = {"store": str(folder / "store"), "source.path": str(folder / "in")}
    return load_settings({**places, "source.format": "parquet", "source.settle_seconds": 0, **parse_overrides(overrides)})
