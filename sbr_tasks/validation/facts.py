"""What a day's clicks look like in a few numbers, which later days are compared with."""

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
        length_p50: The least number of clicks that half of the sessions don't exceed.
        length_p99: The same for 0.99 of the sessions.
        length_p999: The same for 0.999 of the sessions.
        top_item: Share of the clicks that the most clicked item has.
        top_item_id: That item, as text; None of no item.
        top_session: Share of the clicks that the session with the most clicks has.
        top_session_id: That session, as text; None of no session.
        repeated: Share of the clicks that repeat the session, item and time of another one.
        tied: Share of the clicks that have the time of the click before them in their session, and another item.
        hours: Hours after local midnight that have at least one click.
        hours_of_day: Hours that the day has: 24, or 23 or 25 when clocks change.
        new_items: Share of the items that no accepted day of the trailing window had; None where too few days are known.
        long_sessions: Share of the sessions that lasted more than `validation.max_session_hours` by their last click of this
            day, their clicks on earlier accepted days included; None where no earlier day is known.
        longest_session_id: The session that lasted longest by then, as text; None of no such session.
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
    """The facts of a day but for those that compare its items and sessions with earlier days.

    Args:
        clicks: A click table; ids may be missing, and such clicks count as clicks only.
        day: The day.
        zone: The zone whose midnights separate days.

    Returns:
        The facts; lengths and shares of no sessions, items or clicks are 0.
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
    """The item ids of a click table, each once, in ascending order."""
    found = pc.unique(clicks.column(Columns.ITEM).drop_null())
    return found.take(pc.array_sort_indices(found))


def share_of_new(items: pa.Array, seen: list[pa.Array]) -> float:
    """The share of the distinct `items` that none of `seen` holds; 0 where there is no item."""
    known = pa.concat_arrays([array for array in seen if array.type == items.type] or [items.slice(0, 0)])
    return 1 - float(pc.mean(pc.is_in(items, value_set=known)).as_py()) if len(items) else 0.0


def session_times(clicks: pa.Table) -> pa.Table:
    """When each session of a day begins and ends: `session_id`, `first_us` and `last_us` (microseconds since 1970)."""
    times = clicks.select([Columns.SESSION, Columns.TIME]).drop_null()
    found = times.group_by(Columns.SESSION).aggregate([(Columns.TIME, "min"), (Columns.TIME, "max")])
    columns = [
        found.column(Columns.SESSION),
        *(found.column(f"{Columns.TIME}_{end}").cast(pa.int64()) for end in ("min", "max")),
    ]
    return pa.table(columns, names=[Columns.SESSION, "first_us", "last_us"]).sort_by(Columns.SESSION)


def share_of_long(sessions: pa.Table, earlier: Sequence[pa.Table], max_hours: float) -> tuple[float, str | None]:
    """The share of a day's sessions that lasted longer than `max_hours` by their last click of the day, and the longest one.

    Args:
        sessions: The day's, as `session_times` returns them.
        earlier: The same of earlier days.
        max_hours: In hours.

    Returns:
        The share, 0 of no session; and the id of the session that lasted longest, as text, None of no session.
    """
    ids = sessions.column(Columns.SESSION).combine_chunks()
    first, last = (sessions.column(name).to_numpy().copy() for name in ("first_us", "last_us"))
    for day in earlier:
        if day.column(Columns.SESSION).type != ids.type:
            continue
        there = pc.index_in(day.column(Columns.SESSION).combine_chunks(), value_set=ids)
        is_there = there.is_valid().to_numpy(zero_copy_only=False)
        which = there.drop_null().to_numpy(zero_copy_only=False)
        first[which] = np.minimum(first[which], day.column("first_us").to_numpy()[is_there])
    if not len(ids):
        return 0.0, None
    spans = last - first
    return float(np.mean(spans > max_hours * _HOUR_US)), str(ids[int(spans.argmax())].as_py())


def _counts(column: pa.ChunkedArray) -> pa.StructArray:
    return pc.value_counts(column.drop_null())


def _top(counts: pa.StructArray, n_clicks: int) -> tuple[float, str | None]:
    """The largest share of the clicks, and what has it, as text."""
    if not len(counts):
        return 0.0, None
    numbers = counts.field("counts").to_numpy(zero_copy_only=False)
    return float(numbers.max() / n_clicks), str(counts.field("values")[int(numbers.argmax())].as_py())


def _repeated_and_tied(clicks: pa.Table) -> tuple[float, float]:
    """The share of the clicks that are another one again, and of those that only share session and time with another one.

    Clicks without session, item or time are neither.
    """
    whole = clicks.select(Columns.CLICK).drop_null()
    distinct = whole.group_by(Columns.CLICK).aggregate([])
    instants = distinct.group_by([Columns.SESSION, Columns.TIME]).aggregate([])
    n_clicks = max(1, len(clicks))
    return (len(whole) - len(distinct)) / n_clicks, (len(distinct) - len(instants)) / n_clicks


def _quantile(ascending: npt.NDArray[np.int64], thousandths: int) -> int:
    """The least value that `thousandths` of a thousand values don't exceed; in whole numbers, because 0.99 isn't exact."""
    if not len(ascending):
        return 0
    return int(ascending[-(-len(ascending) * thousandths // 1000) - 1])
