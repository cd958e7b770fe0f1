"""What a SavedModel answers in a place for which no item may be shown."""

from __future__ import annotations

import numpy as np

from sbr_tasks.window.sessions import ItemIndex

UNUSED_SCORE = np.finfo(np.float32).min


def unused_id(index: ItemIndex) -> int | str:
    """The id in an unused place: that of padding, by the type of the index."""
    return -1 if np.issubdtype(index.ids.dtype, np.integer) else ""
