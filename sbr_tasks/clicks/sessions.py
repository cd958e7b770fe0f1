"""Cutting the clicks of users into sessions, for sources that know users only."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sbr_tasks.clicks.columns import Columns
from sbr_tasks.errors import SourceError

_FIRST_SECOND = 946_684_800
"""2000 began: no session of the user 0 has a smaller id."""


def cut_sessions(clicks: pa.Table, gap_minutes: float) -> pa.Table:
    """Gives each run of a user's clicks without a gap of more than `gap_minutes` a session id of its own.

    The id is made of the user and the second in which the session starts, so it is the same whichever other days are read:
    for integer users `user * 2**32 + seconds`, for string users `user@seconds`.

    Args:
        clicks: Clicks of whole histories whose column session_id holds the user.
        gap_minutes: Inactivity in minutes after which a new session starts.

    Returns:
        The same clicks, sorted by user and time, with session ids; those of one user at one time keep their order. Empty for
        empty input.

    Raises:
        SourceError: An integer user or a time doesn't fit into the session id.
    """
    if not len(clicks):
        return clicks
    order = pc.sort_indices(clicks, [(Columns.SESSION, "ascending"), (Columns.TIME, "ascending")])
    clicks = clicks.take(order)  # a stable sort: ratings of the same second stay in the order of the source
    users = clicks.column(Columns.SESSION).combine_chunks().dictionary_encode()
    users = users.combine_chunks() if isinstance(users, pa.ChunkedArray) else users
    user_codes = users.indices.to_numpy()
    at_us = clicks.column(Columns.TIME).cast(pa.int64()).to_numpy()
    starts = np.ones(len(clicks), np.bool_)
    starts[1:] = (np.diff(user_codes) != 0) | (np.diff(at_us) > gap_minutes * 60_000_000)
    started_s = (at_us[starts] // 1_000_000)[np.cumsum(starts) - 1]
    ids: pa.Array
    if pa.types.is_integer(users.dictionary.type):
        user_ids = users.dictionary.to_numpy()[user_codes]
        if user_ids.max() >= 2**31 or started_s.min() < 0 or started_s.max() >= 2**32:
            raise SourceError(
                "Expected user ids below 2**31 and times between 1970 and 2106, so that user and time fit into a session id; "
                f"found the user {user_ids.max()}. Set source.id_type to 'string'."
            )
        ids = pa.array(user_ids * 2**32 + started_s)
    else:
        ids = pc.binary_join_element_wise(users.dictionary.take(users.indices), pa.array(started_s).cast(pa.string()), "@")
    return clicks.set_column(0, Columns.SESSION, ids)


def is_cut_session(ids: pa.ChunkedArray) -> bool:
    """Whether all ids are such as `cut_sessions` makes."""
    if pa.types.is_integer(ids.type):
        return bool(pc.min(ids).as_py() >= _FIRST_SECOND)
    return bool(pc.all(pc.match_substring_regex(ids, r"@\d+$")).as_py())


def users_of(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """The users whose clicks were cut into sessions with these ids."""
    return pc.shift_right(ids, 32) if pa.types.is_integer(ids.type) else pc.replace_substring_regex(ids, r"@\d+$", "")
