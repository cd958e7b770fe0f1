"""The columns of clicks."""

from __future__ import annotations


class Columns:
    """Names of the columns of clicks, in the store's files and in memory."""

    SESSION = "session_id"
    ITEM = "item_id"
    TIME = "clicked_at"
    CATEGORY = "category"

    IDS = (SESSION, ITEM)
    CLICK = (SESSION, ITEM, TIME)
    """The columns that every click has a value in."""
    ALL = (*CLICK, CATEGORY)
