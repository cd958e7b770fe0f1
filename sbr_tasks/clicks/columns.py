"""The columns of clicks."""

from __future__ import annotations


class Columns:
    """Names of the columns of clicks, in the store's files and in memory."""

    SESSION = "session_id"
    ITEM = "item_id"
    TIME = "clicked_at"
    CATEGORY = "category"
    CODE = "item_code"
    """In place of the item id in a window's parts: the item's row in the window's items."""

    IDS = (SESSION, ITEM)
    CLICK = (SESSION, ITEM, TIME)
    """The columns that every click has a value in."""
    ALL = (*CLICK, CATEGORY)
