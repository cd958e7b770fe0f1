"""Splitting and cleansing of a window in Narwhals: what Spark runs, and the specification of the engine in memory.

Frames have the columns `session` and `item` (ids or integer codes), `clicked_at` (microseconds since 1970, UTC) and `place`,
which orders clicks of a session with equal times as the source does. They may be lazy: what is counted on the way is computed
then, and `keep` says how an engine holds on to what it must not compute again.
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
"""Clicks as an engine holds them."""

MIN_CLICKS = 2
"""A session of fewer clicks has nothing to predict."""


@dataclass(frozen=True)
class Counts:
    """How much there is of some clicks."""

    clicks: int
    sessions: int
    items: int


@dataclass(frozen=True)
class Level:
    """What cleansing leaves with one value of `least_click`.

    Attributes:
        least_click: The value.
        clicks: Clicks that are left.
        items: Ids of the items that are left, in no particular order.
    """

    least_click: int
    clicks: int
    items: pa.Array


@dataclass(frozen=True)
class TooLong:
    """Sessions that were longer than allowed, and how many clicks they lost."""

    sessions: int
    clicks_lost: int


def limit_length(frame: FrameT, *, longest: int, action: Literal["drop", "cut"]) -> tuple[FrameT, TooLong]:
    """Drops sessions of more than `longest` clicks, or cuts them to their first `longest` clicks (ties in time: by place).

    A session that was cut ends with the last click that it keeps, so that click's day decides which part it comes into.

    Args:
        frame: Clicks with the columns `session`, `item`, `clicked_at`, `place`.
        longest: Most clicks of a session.
        action: What becomes of longer sessions.
    """
    is_long = nw.len().over("session") > longest
    clicks, sessions = _numbers(frame.filter(is_long), nw.len(), nw.col("session").n_unique())
    if not sessions:
        return frame, TooLong(0, 0)
    if action == "drop":
        return frame.filter(~is_long), TooLong(sessions, clicks)
    if isinstance(frame, nw.DataFrame):
        # Narwhals 2.29 numbers rows of pandas wrongly unless they are in the order asked for.
        frame = frame.sort("session", "clicked_at", "place")
    frame = frame.filter(nw.col("item").cum_count().over("session", order_by=("clicked_at", "place")) <= longest)
    return frame, TooLong(sessions, clicks - sessions * longest)


def cleanse(frame: FrameT, *, shortest: int, least_click: int, keep: Keep = lambda frame: frame) -> tuple[FrameT, list[Counts]]:
    """Drops sessions shorter than `shortest` and items clicked less than `least_click` times, until neither rule drops a row.

    What is left is the largest part of the frame that keeps both rules, so it doesn't depend on which rule goes first.

    Args:
        frame: Clicks with the columns `session`, `item`, `clicked_at`, `place`.
        shortest: Fewest clicks of a session.
        least_click: Fewest clicks of an item.
        keep: Called on what each pass left.

    Returns:
        The rows that are left (none, when the rules leave none), and what each pass left; the last pass dropped nothing.
    """
    passes: list[Counts] = []
    (left,) = _numbers(frame, nw.len())
    while True:
        before = left
        frame = frame.filter(nw.len().over("session") >= shortest)
        frame = keep(frame.filter(nw.len().over("item") >= least_click))
        passes.append(counts_of(frame))
        left = passes[-1].clicks
        if left == before:
            return frame, passes


def cleanse_by_levels(
    clicks: Clicks,
    levels: Iterable[int],
    cleanse: Callable[[Clicks, int], tuple[Clicks, list[Counts]]],
    items_of: Callable[[Clicks], pa.Array],
) -> tuple[Clicks, list[Counts], list[Level]]:
    """Cleanses with one `least_click` after another, each on what the one before left, which gives what each alone would give.

    Args:
        clicks: What is cleansed.
        levels: Rising values of `least_click`.
        cleanse: The engine's `cleanse` with a given `least_click`.
        items_of: The engine's distinct item ids.

    Returns:
        What the last level leaves, all passes, and the levels.
    """
    passes: list[Counts] = []
    found = []
    for least_click in levels:
        clicks, of_level = cleanse(clicks, least_click)
        passes += of_level
        found.append(Level(least_click, passes[-1].clicks, items_of(clicks)))
    return clicks, passes, found


def split(
    frame: FrameT, *, validation_start_us: int, test_start_us: int, keep: Keep = lambda frame: frame
) -> dict[str, FrameT]:
    """Splits sessions by day, each part seeing them as they were when its days were over.

    So no click of the test day changes what is trained on or validated with, and none of the validation day what is trained on.

    Args:
        frame: Clicks with the columns `session`, `item`, `clicked_at`, `place`.
        validation_start_us: Where the validation day starts, microseconds since 1970.
        test_start_us: Where the test day starts.
        keep: Called on all clicks before they are split.

    Returns:
        `train`: the clicks before the validation day. `validation`: the sessions with a click on the validation day, up to its
        end. `test`: the sessions with a click on the test day, whole. Each without sessions of one click.
    """
    frame = keep(frame)
    clicked_at, last = nw.col("clicked_at"), nw.col("clicked_at").max().over("session")
    parts = {
        "train": frame.filter(clicked_at < validation_start_us),
        "validation": frame.filter(clicked_at < test_start_us).filter(last >= validation_start_us),
        "test": frame.filter(last >= test_start_us),
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
    """A number over all rows for each expression; 0 where Spark gives null, which are its distinct values of no rows."""
    named = {f"number_{i}": expression for i, expression in enumerate(of_rows)}
    return tuple(int(number or 0) for number in frame.lazy().select(**named).collect().row(0))
