"""Describes what cleansing keeps of a window, and what share of the test clicks a model can know."""

from __future__ import annotations

from sbr_tasks.plain_text import percent
from sbr_tasks.window.parts import LOW_SHARE
from sbr_tasks.window.record import LevelRecord, Window


def describe_cleansing(window: Window) -> str:
    """What `window.least_click` keeps and, if that is little, what a lower value would keep.

    For example, "Cleansing (window.least_click=5) keeps 68% of the clicks to train on and 40% of their items, which cover 42%
    of the test clicks. With window.least_click=2: 97%, 88% and 74%."
    """
    set_level, lower = _levels(window)
    clicks, items, test_clicks = _shares(window, set_level)
    what = "to train on " if is_fair(window) else ""
    sentence = (
        f"Cleansing (window.least_click={set_level.least_click}) keeps {clicks} of the clicks {what}and {items} of their "
        f"items, which cover {test_clicks} of the test clicks."
    )
    if lower is None:
        return sentence
    clicks, items, test_clicks = _shares(window, lower)
    return f"{sentence} With window.least_click={lower.least_click}: {clicks}, {items} and {test_clicks}."


def coverage_notes(window: Window) -> list[str]:
    """Notes on the items of a window for readers of a decision; empty if the items cover most test clicks.

    Returns:
        A note that scores are too high, if clicks of the test day helped to choose the items; or a note with the share of test
        clicks on other items, if it is high.
    """
    if not is_fair(window):
        return (
            []
            if _is_as_if_fair(window)
            else [
                "These scores are too high: the clicks of the test day helped to choose the items that the challenger knows "
                "(window.cleanse=window), and tomorrow's can't. Use them only to compare with notebooks that cleanse this way."
            ]
        )
    n_clicks = window.parts["test"].clicks
    set_level, lower = _levels(window)
    if not n_clicks or set_level.test_clicks >= LOW_SHARE * n_clicks:
        return []
    least_click = set_level.least_click
    below = f"{percent(1 - set_level.test_clicks / n_clicks)} of the test clicks are on items "
    if least_click == 1:
        return [f"{below}that nobody clicked in the training days."]
    below += f"below window.least_click={least_click}"
    if lower is None or lower.test_clicks == set_level.test_clicks:
        return [f"{below}."]
    return [f"{below}; with {lower.least_click} it would be {percent(1 - lower.test_clicks / n_clicks)}."]


def is_fair(window: Window) -> bool:
    """Whether the items were chosen without the test day's clicks."""
    return window.inputs.window.cleanse == "training"


def _is_as_if_fair(window: Window) -> bool:
    """Whether cleansing the training clicks alone would have kept the same items."""
    too_long = window.cleansing.too_long
    has_cut = bool(too_long and too_long.sessions)  # cut clicks may be later than the training days
    return window.cleansing.fair_items == window.n_items and not has_cut


def _levels(window: Window) -> tuple[LevelRecord, LevelRecord | None]:
    """The level of the setting, and a lower one to compare it with, if lower ones were counted."""
    *lower, set_level = window.cleansing.levels
    suggested = 2 if set_level.least_click > 2 else 1
    return set_level, next((level for level in lower if level.least_click == suggested), None)


def _shares(window: Window, level: LevelRecord) -> tuple[str, str, str]:
    before = window.cleansing.before
    pairs = (
        (level.clicks, before.clicks),
        (level.items, before.items),
        (level.test_clicks, window.parts["test"].clicks),
    )
    clicks, items, test_clicks = (percent(part / whole) if whole else "none" for part, whole in pairs)
    return clicks, items, test_clicks
