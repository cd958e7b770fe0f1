"""Cuts users' clicks into sessions, for sources without session ids."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sbr_tasks.clicks.columns import Columns
from sbr_tasks.errors import SourceError

_FIRST_SECOND = 946_684_800
"""Start of 2000: no session of user 0 has a smaller id."""


def cut_sessions(clicks: pa.Table, gap_minutes: float) -> pa.Table:
    """Starts a new session wherever two clicks of a user are more than `gap_minutes` apart.

    The session id consists of the user and the second in which the session starts, so it doesn't depend on which other days are
    read: `user * 2**32 + seconds` for integer users, `user@seconds` for string users.

    Args:
        clicks: Clicks of whole histories, with the user in the column session_id.
        gap_minutes: Minutes without a click after which a new session starts.

    Returns:
        The same clicks with session ids, sorted by user and time; clicks of a user with equal times keep their order. Empty for
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
    """Whether all ids look like those of `cut_sessions`."""
    if pa.types.is_integer(ids.type):
        return bool(pc.min(ids).as_py() >= _FIRST_SECOND)
    return bool(pc.all(pc.match_substring_regex(ids, r"@\d+$")).as_py())


def users_of(ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """The users of session ids that `cut_sessions` made."""
    return pc.shift_right(ids, 32) if pa.types.is_integer(ids.type) else pc.replace_substring_regex(ids, r"@\d+$", "")
