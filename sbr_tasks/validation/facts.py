"""What a day's clicks look like in a few numbers, which later days are compared with."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date, tzinfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sbr_tasks.days import day_interval_us
from sbr_tasks.store import Json

_HOUR_US = 3_600_000_000


@dataclass(frozen=True)
class Facts:
    """The facts of a day.

    Attributes:
        clicks: Number of clicks.
        sessions: Number of distinct sessions; clicks without a session don't count.
        items: Number of distinct items.
        one_click_sessions: Share of the sessions that have one click on this day.
        length_p50: The least number of clicks that half of the sessions don't exceed.
        length_p99: The same for 0.99 of the sessions.
        length_p999: The same for 0.999 of the sessions.
        top_item: Share of the clicks that the most clicked item has.
        hours: Hours after local midnight in which at least one click lies.
        hours_of_day: Hours that the day has: 24, or 23 or 25 when clocks change.
        new_items: Share of the items that no accepted day of the trailing window had; None where too few days tell.
    """

    clicks: int
    sessions: int
    items: int
    one_click_sessions: float
    length_p50: int
    length_p99: int
    length_p999: int
    top_item: float
    hours: int
    hours_of_day: int
    new_items: float | None = None

    def as_dict(self) -> Json:
        return asdict(self)


def measure(clicks: pa.Table, day: date, zone: tzinfo) -> Facts:
    """The facts of a day but for its new items.

    Args:
        clicks: A click table; ids may be missing, and such clicks count as clicks only.
        day: The day.
        zone: The zone whose midnights separate days.

    Returns:
        The facts; lengths and shares of no sessions, items or clicks are 0.
    """
    lengths = np.sort(_counts(clicks.column("session_id")))
    by_item = _counts(clicks.column("item_id"))
    start, end = day_interval_us(day, zone)
    times = clicks.column("clicked_at").drop_null().cast(pa.int64()).to_numpy()
    inside = times[(times >= start) & (times < end)]
    return Facts(
        clicks=len(clicks),
        sessions=len(lengths),
        items=len(by_item),
        one_click_sessions=float(np.mean(lengths == 1)) if len(lengths) else 0.0,
        length_p50=_quantile(lengths, 500),
        length_p99=_quantile(lengths, 990),
        length_p999=_quantile(lengths, 999),
        top_item=float(by_item.max() / len(clicks)) if len(by_item) else 0.0,
        hours=len(np.unique((inside - start) // _HOUR_US)),
        hours_of_day=-((start - end) // _HOUR_US),
    )


def distinct_items(clicks: pa.Table) -> pa.Array:
    """The item ids of a click table, each once, in ascending order."""
    found = pc.unique(clicks.column("item_id").drop_null())
    return found.take(pc.array_sort_indices(found))


def share_of_new(items: pa.Array, seen: list[pa.Array]) -> float:
    """The share of the distinct `items` that none of `seen` holds; 0 where there is no item."""
    known = pa.concat_arrays([array for array in seen if array.type == items.type] or [items.slice(0, 0)])
    return 1 - float(pc.mean(pc.is_in(items, value_set=known)).as_py()) if len(items) else 0.0


def _counts(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    counts: npt.NDArray[np.int64] = pc.value_counts(column.drop_null()).field("counts").to_numpy(zero_copy_only=False)
    return counts


def _quantile(ascending: npt.NDArray[np.int64], thousandths: int) -> int:
    """The least value that `thousandths` of a thousand values don't exceed; in whole numbers, because 0.99 isn't exact."""
    if not len(ascending):
        return 0
    return int(ascending[-(-len(ascending) * thousandths // 1000) - 1])
