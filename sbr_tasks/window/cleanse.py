"""Cleansing and splitting of a window, written once for pandas in memory and for Spark beyond it (Narwhals).

Frames have the columns `session` and `item` (ids or integer codes) and `clicked_at` (microseconds since 1970, UTC). They may be
lazy: what is counted on the way is computed then, and `keep` says how an engine holds on to what it must not compute again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import narwhals as nw
from narwhals.typing import FrameT

Keep = Callable[[Any], Any]
"""Takes a frame and returns one with the same rows in the same order."""


@dataclass(frozen=True)
class CleansingPass:
    """What was left after one round of both rules."""

    clicks: int
    sessions: int
    items: int


@dataclass(frozen=True)
class TooLong:
    """Sessions that were longer than allowed, and how many clicks they lost."""

    sessions: int
    clicks_lost: int


def limit_length(frame: FrameT, *, longest: int, action: Literal["drop", "cut"]) -> tuple[FrameT, TooLong]:
    """Drops sessions of more than `longest` clicks, or cuts them to their first `longest` clicks (ties in time: by item).

    A session that was cut ends with the last click that it keeps, so that click's day decides which part it comes into.

    Args:
        frame: Clicks with the columns `session`, `item`, `clicked_at`.
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
        frame = frame.sort("session", "clicked_at", "item")
    frame = frame.filter(nw.col("item").cum_count().over("session", order_by=("clicked_at", "item")) <= longest)
    return frame, TooLong(sessions, clicks - sessions * longest)


def cleanse(
    frame: FrameT, *, shortest: int, least_click: int, keep: Keep = lambda frame: frame
) -> tuple[FrameT, list[CleansingPass]]:
    """Drops sessions shorter than `shortest` and items clicked less than `least_click` times, until neither rule drops a row.

    What is left is the largest part of the frame that keeps both rules, so it doesn't depend on which rule goes first.

    Args:
        frame: Clicks with the columns `session`, `item`, `clicked_at`.
        shortest: Fewest clicks of a session.
        least_click: Fewest clicks of an item.
        keep: Called on what each pass left.

    Returns:
        The rows that are left (none, when the rules leave none), and a record per pass; the last pass dropped nothing.
    """
    passes: list[CleansingPass] = []
    (left,) = _numbers(frame, nw.len())
    while True:
        before = left
        frame = frame.filter(nw.len().over("session") >= shortest)
        frame = keep(frame.filter(nw.len().over("item") >= least_click))
        left, sessions, items = _numbers(frame, nw.len(), nw.col("session").n_unique(), nw.col("item").n_unique())
        passes.append(CleansingPass(left, sessions, items))
        if left == before:
            return frame, passes


def split(
    frame: FrameT, *, validation_start_us: int, test_start_us: int, keep: Keep = lambda frame: frame
) -> dict[str, FrameT]:
    """Tells sessions apart by their last click; no session is in two parts.

    Args:
        frame: Cleansed clicks.
        validation_start_us: Where the day before the test day starts, microseconds since 1970.
        test_start_us: Where the test day starts.
        keep: Called on all clicks in their order, before they are told apart.

    Returns:
        `test` (last click on the test day), `validation` (on the day before) and `train` (earlier). In each, sessions
        follow each other by their first click (ties: by session), and clicks by time (ties: by item).
    """
    frame = frame.with_columns(
        first=nw.col("clicked_at").min().over("session"), last=nw.col("clicked_at").max().over("session")
    )
    frame = keep(frame.sort("first", "session", "clicked_at", "item"))
    last = nw.col("last")
    conditions = {
        "train": last < validation_start_us,
        "validation": (last >= validation_start_us) & (last < test_start_us),
        "test": last >= test_start_us,
    }
    return {name: frame.filter(condition).drop("first", "last") for name, condition in conditions.items()}


def _numbers(frame: nw.DataFrame[Any] | nw.LazyFrame[Any], *of_rows: nw.Expr) -> tuple[int, ...]:
    """A number over all rows for each expression; 0 where Spark gives null, which are its distinct values of no rows."""
    named = {f"number_{i}": expression for i, expression in enumerate(of_rows)}
    return tuple(int(number or 0) for number in frame.lazy().select(**named).collect().row(0))
