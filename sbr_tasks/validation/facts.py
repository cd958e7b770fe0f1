"""The facts of a day: a few numbers about its clicks, which later days are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, tzinfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sbr_tasks.clicks.columns import Columns
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
        length_p50: Smallest number of clicks that at least half of the sessions don't exceed.
        length_p99: The same for 0.99 of the sessions.
        length_p999: The same for 0.999 of the sessions.
        top_item: Share of the clicks on the most clicked item.
        top_item_id: That item, as text; None without items.
        top_session: Share of the clicks in the session with the most clicks.
        top_session_id: That session, as text; None without sessions.
        repeated: Share of the clicks with the same session, item and time as another one.
        tied: Share of the clicks with the same time as the previous click of their session, but another item.
        hours: Number of hours after local midnight with at least one click.
        hours_of_day: Hours in the day: 24, or 23 or 25 when clocks change.
        new_items: Share of the items without clicks on the accepted trailing days; None with too few such days.
        long_sessions: Share of the sessions that lasted more than `validation.max_session_hours` up to their last click of
            the day, counting their clicks on earlier accepted days; None without earlier days.
        longest_session_id: The session that lasted longest, as text; None without sessions.
    """

    clicks: int
    sessions: int
    items: int
    one_click_sessions: float
    length_p50: int
    length_p99: int
    length_p999: int
    top_item: float
    top_item_id: str | None
    top_session: float
    top_session_id: str | None
    repeated: float
    tied: float
    hours: int
    hours_of_day: int
    new_items: float | None = None
    long_sessions: float | None = None
    longest_session_id: str | None = None

    def as_dict(self) -> Json:
        return asdict(self)


def measure(clicks: pa.Table, day: date, zone: tzinfo) -> Facts:
    """The facts of a day, except those that compare its items and sessions with earlier days.

    Args:
        clicks: A table of clicks; ids may be null, and such clicks only count as clicks.
        day: The day.
        zone: The zone whose midnights separate days.

    Returns:
        The facts; lengths and shares are 0 without sessions, items or clicks.
    """
    by_session, by_item = (_counts(clicks.column(name)) for name in Columns.IDS)
    lengths = np.sort(by_session.field("counts").to_numpy(zero_copy_only=False))
    top_session, top_session_id = _top(by_session, len(clicks))
    top_item, top_item_id = _top(by_item, len(clicks))
    repeated, tied = _repeated_and_tied(clicks)
    start, end = day_interval_us(day, zone)
    times = clicks.column(Columns.TIME).drop_null().cast(pa.int64()).to_numpy()
    inside = times[(times >= start) & (times < end)]
    return Facts(
        clicks=len(clicks),
        sessions=len(lengths),
        items=len(by_item),
        one_click_sessions=float(np.mean(lengths == 1)) if len(lengths) else 0.0,
        length_p50=_quantile(lengths, 500),
        length_p99=_quantile(lengths, 990),
        length_p999=_quantile(lengths, 999),
        top_item=top_item,
        top_item_id=top_item_id,
        top_session=top_session,
        top_session_id=top_session_id,
        repeated=repeated,
        tied=tied,
        hours=len(np.unique((inside - start) // _HOUR_US)),
        hours_of_day=-((start - end) // _HOUR_US),
    )


def distinct_items(clicks: pa.Table) -> pa.Array:
    """The distinct item ids of a table of clicks, in ascending order."""
    items = pc.unique(clicks.column(Columns.ITEM).drop_null())
    return items.take(pc.array_sort_indices(items))


def share_of_new(items: pa.Array, seen: list[pa.Array]) -> float:
    """The share of the distinct `items` that are in none of the arrays `seen`; 0 without items."""
    seen_items = pa.concat_arrays([array for array in seen if array.type == items.type] or [items.slice(0, 0)])
    return 1 - float(pc.mean(pc.is_in(items, value_set=seen_items)).as_py()) if len(items) else 0.0


def session_times(clicks: pa.Table) -> pa.Table:
    """The first and last click of each session of a day: `session_id`, `first_us` and `last_us` (microseconds since 1970)."""
    times = clicks.select([Columns.SESSION, Columns.TIME]).drop_null()
    spans = times.group_by(Columns.SESSION).aggregate([(Columns.TIME, "min"), (Columns.TIME, "max")])
    columns = [
        spans.column(Columns.SESSION),
        *(spans.column(f"{Columns.TIME}_{end}").cast(pa.int64()) for end in ("min", "max")),
    ]
    return pa.table(columns, names=[Columns.SESSION, "first_us", "last_us"]).sort_by(Columns.SESSION)


def share_of_long(sessions: pa.Table, earlier: Sequence[pa.Table], max_hours: float) -> tuple[float, str | None]:
    """The share of a day's sessions that lasted longer than `max_hours` up to their last click of the day, and the longest one.

    Args:
        sessions: The day's sessions, as `session_times` returns them.
        earlier: The same for earlier days.
        max_hours: In hours.

    Returns:
        The share, and the id of the longest session as text; 0 and None without sessions.
    """
    ids = sessions.column(Columns.SESSION).combine_chunks()
    first, last = (sessions.column(name).to_numpy().copy() for name in ("first_us", "last_us"))
    for day in earlier:
        if day.column(Columns.SESSION).type != ids.type:
            continue
        position = pc.index_in(day.column(Columns.SESSION).combine_chunks(), value_set=ids)
        is_shared = position.is_valid().to_numpy(zero_copy_only=False)
        shared = position.drop_null().to_numpy(zero_copy_only=False)
        first[shared] = np.minimum(first[shared], day.column("first_us").to_numpy()[is_shared])
    if not len(ids):
        return 0.0, None
    spans = last - first
    return float(np.mean(spans > max_hours * _HOUR_US)), str(ids[int(spans.argmax())].as_py())


def _counts(column: pa.ChunkedArray) -> pa.StructArray:
    return pc.value_counts(column.drop_null())


def _top(counts: pa.StructArray, n_clicks: int) -> tuple[float, str | None]:
    """The largest share of the clicks, and the id that has it, as text."""
    if not len(counts):
        return 0.0, None
    numbers = counts.field("counts").to_numpy(zero_copy_only=False)
    return float(numbers.max() / n_clicks), str(counts.field("values")[int(numbers.argmax())].as_py())


def _repeated_and_tied(clicks: pa.Table) -> tuple[float, float]:
    """The share of clicks that repeat another one, and of clicks that share only session and time with another one.

    Clicks without session, item or time count as neither.
    """
    whole = clicks.select(Columns.CLICK).drop_null()
    distinct = whole.group_by(Columns.CLICK).aggregate([])
    instants = distinct.group_by([Columns.SESSION, Columns.TIME]).aggregate([])
    n_clicks = max(1, len(clicks))
    return (len(whole) - len(distinct)) / n_clicks, (len(distinct) - len(instants)) / n_clicks


def _quantile(ascending: npt.NDArray[np.int64], thousandths: int) -> int:
    """The smallest value that `thousandths` / 1000 of the values don't exceed; with integers, because 0.99 isn't exact."""
    if not len(ascending):
        return 0
    return int(ascending[-(-len(ascending) * thousandths // 1000) - 1])
