"""Splits and cleanses a window with Narwhals: the code that Spark runs, and the specification of the engine in memory.

Frames have the columns `session` and `item` (ids or integer codes), `clicked_at` (microseconds since 1970, UTC) and `place`,
which orders clicks of a session with equal times as the source does. Frames may be lazy: counting computes them, and `keep`
caches a frame so that the engine doesn't compute it twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import narwhals as nw
import pyarrow as pa
from narwhals.typing import FrameT

Keep = Callable[[Any], Any]
"""Takes a frame and returns one with the same rows in the same order."""


Clicks = TypeVar("Clicks")
"""The clicks, in the type of the engine."""

MIN_CLICKS = 2
"""Sessions with fewer clicks have no event."""


@dataclass(frozen=True)
class Counts:
    """Number of clicks, of distinct sessions and of distinct items."""

    clicks: int
    sessions: int
    items: int


@dataclass(frozen=True)
class Level:
    """What cleansing keeps with one value of `least_click`.

    Attributes:
        least_click: The value.
        clicks: Number of clicks kept.
        items: Ids of the items kept, in no particular order.
    """

    least_click: int
    clicks: int
    items: pa.Array


@dataclass(frozen=True)
class TooLong:
    """Number of sessions above the maximum length, and of the clicks they lost."""

    sessions: int
    clicks_lost: int


def limit_length(frame: FrameT, *, longest: int, action: Literal["drop", "cut"]) -> tuple[FrameT, TooLong]:
    """Drops sessions of more than `longest` clicks, or cuts them to their first `longest` clicks (ties in time: by place).

    A cut session ends with the last click that it keeps, so the day of that click decides its part.

    Args:
        frame: Clicks with the columns `session`, `item`, `clicked_at`, `place`.
        longest: Maximum number of clicks of a session.
        action: What to do with longer sessions.

    Returns:
        The remaining clicks, and how many sessions were too long.
    """
    is_long = nw.len().over("session") > longest
    clicks, sessions = _numbers(frame.filter(is_long), nw.len(), nw.col("session").n_unique())
    if not sessions:
        return frame, TooLong(0, 0)
    if action == "drop":
        return frame.filter(~is_long), TooLong(sessions, clicks)
    if isinstance(frame, nw.DataFrame):
        # With pandas, Narwhals 2.29 numbers rows wrongly unless they are sorted.
        frame = frame.sort("session", "clicked_at", "place")
    frame = frame.filter(nw.col("item").cum_count().over("session", order_by=("clicked_at", "place")) <= longest)
    return frame, TooLong(sessions, clicks - sessions * longest)


def cleanse(frame: FrameT, *, shortest: int, least_click: int, keep: Keep = lambda frame: frame) -> tuple[FrameT, list[Counts]]:
    """Drops sessions shorter than `shortest` and items clicked less than `least_click` times, until neither rule drops a row.

    The result is the largest part of the frame that satisfies both rules, so the order of the rules doesn't matter.

    Args:
        frame: Clicks with the columns `session`, `item`, `clicked_at`, `place`.
        shortest: Minimum number of clicks of a session.
        least_click: Minimum number of clicks of an item.
        keep: Called with the result of each pass.

    Returns:
        The remaining rows, possibly none, and the counts after each pass; the last pass dropped nothing.
    """
    passes: list[Counts] = []
    (n_clicks,) = _numbers(frame, nw.len())
    while True:
        before = n_clicks
        frame = frame.filter(nw.len().over("session") >= shortest)
        frame = keep(frame.filter(nw.len().over("item") >= least_click))
        passes.append(counts_of(frame))
        n_clicks = passes[-1].clicks
        if n_clicks == before:
            return frame, passes


def cleanse_by_levels(
    clicks: Clicks,
    levels: Iterable[int],
    cleanse: Callable[[Clicks, int], tuple[Clicks, list[Counts]]],
    items_of: Callable[[Clicks], pa.Array],
) -> tuple[Clicks, list[Counts], list[Level]]:
    """Cleanses with increasing values of `least_click`, each on the result of the one before: the same as each value alone.

    Args:
        clicks: The clicks to cleanse.
        levels: Increasing values of `least_click`.
        cleanse: The engine's `cleanse` with a given `least_click`.
        items_of: The engine's distinct item ids.

    Returns:
        The result of the last level, the counts after all passes, and the levels.
    """
    passes: list[Counts] = []
    results = []
    for least_click in levels:
        clicks, of_level = cleanse(clicks, least_click)
        passes += of_level
        results.append(Level(least_click, passes[-1].clicks, items_of(clicks)))
    return clicks, passes, results


def split(
    frame: FrameT, *, validation_start_us: int, test_start_us: int, keep: Keep = lambda frame: frame
) -> dict[str, FrameT]:
    """Splits sessions by day; each part has the sessions as they were at the end of its last day.

    So clicks of the test day change no other part, and clicks of the validation day don't change the training part.

    Args:
        frame: Clicks with the columns `session`, `item`, `clicked_at`, `place`.
        validation_start_us: Where the validation day starts, microseconds since 1970.
        test_start_us: Where the test day starts.
        keep: Called with all clicks before they are split.

    Returns:
        `train`: the clicks before the validation day. `validation`: sessions with a click on the validation day, up to the
        end of that day. `test`: sessions with a click on the test day, whole. `refit`: the clicks before the test day. All
        without sessions of one click.
    """
    frame = keep(frame)
    clicked_at, last = nw.col("clicked_at"), nw.col("clicked_at").max().over("session")
    parts = {
        "train": frame.filter(clicked_at < validation_start_us),
        "validation": frame.filter(clicked_at < test_start_us).filter(last >= validation_start_us),
        "test": frame.filter(last >= test_start_us),
        "refit": frame.filter(clicked_at < test_start_us),
    }
    return {name: part.filter(nw.len().over("session") >= MIN_CLICKS) for name, part in parts.items()}


def in_order(frame: FrameT) -> FrameT:
    """Sorts sessions by their first click (ties: by session), and clicks of a session by time (ties: by place)."""
    frame = frame.with_columns(first=nw.col("clicked_at").min().over("session"))
    return frame.sort("first", "session", "clicked_at", "place").drop("first", "place")


def counts_of(frame: nw.DataFrame[Any] | nw.LazyFrame[Any]) -> Counts:
    """Counts clicks, sessions and items."""
    return Counts(*_numbers(frame, nw.len(), nw.col("session").n_unique(), nw.col("item").n_unique()))


def _numbers(frame: nw.DataFrame[Any] | nw.LazyFrame[Any], *of_rows: nw.Expr) -> tuple[int, ...]:
    """The value of each aggregation over all rows; 0 for null, which Spark returns for no rows."""
    named = {f"number_{i}": expression for i, expression in enumerate(of_rows)}
    return tuple(int(number or 0) for number in frame.lazy().select(**named).collect().row(0))
