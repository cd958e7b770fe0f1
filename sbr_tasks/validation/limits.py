"""Fixed limits for a day's facts, independent of earlier days."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sbr_tasks.plain_text import percent
from sbr_tasks.settings import ValidationSettings

MAX_SESSION_SHARE = 0.05
"""A session with a larger share of a day's clicks is a robot, or not one session."""
MAX_ITEM_SHARE = 1 / 3
"""A larger share of a day's clicks on one item is hardly people's choice."""
MAX_LONG_SESSIONS = 0.01
"""If a larger share of the sessions (and more than one) lasts for days, session ids are reused."""
_MIN_CLICKS = 20
"""Shares of fewer clicks say nothing."""
_PLACEHOLDERS = frozenset(
    {"null", "(null)", "none", "nil", "nan", "n/a", "na", "undefined", "unknown", "(not set)", "not set", "-"}
)
_MAX_ID_LENGTH = 80


@dataclass(frozen=True)
class Limit:
    """A fact and its upper limit.

    Attributes:
        fact: Name of the fact.
        expectation: Name of the expectation that it belongs to, which has the severity.
        value: The day's value.
        low: Always None: there is no lower limit.
        high: The largest value without a warning.
        sentence: A description for people.
    """

    fact: str
    expectation: str
    value: float
    high: float
    sentence: str
    low: None = None


def limits(facts: Mapping[str, Any], settings: ValidationSettings) -> list[Limit]:
    """The limits of a day's facts.

    Args:
        facts: The day's facts by name (`Facts.as_dict`); empty if they couldn't be measured.
        settings: Thresholds.

    Returns:
        One for each fact that has a value.
    """
    if not facts:
        return []
    session, item = shown_id(facts["top_session_id"]), shown_id(facts["top_item_id"])
    of_session = percent(facts["top_session"], MAX_SESSION_SHARE)
    of_item = percent(facts["top_item"], MAX_ITEM_SHARE)
    tied = percent(facts["tied"], settings.max_tied_share)
    day_limits = [
        Limit(
            "tied",
            "tied_clicks",
            facts["tied"],
            settings.max_tied_share,
            f"{tied} of the clicks have the same time as the click before them in their session (warning above "
            f"{percent(settings.max_tied_share)}, validation.max_tied_share), so their order is only what the source says",
        ),
        Limit(
            "top_session",
            "top_session",
            facts["top_session"],
            _unless_small(MAX_SESSION_SHARE, facts["clicks"]),
            f"Session {session} has {of_session} of the clicks (warning above {percent(MAX_SESSION_SHARE)}): a robot, or "
            "clicks without a session of their own",
        ),
        Limit(
            "top_item",
            "top_item",
            facts["top_item"],
            _unless_small(MAX_ITEM_SHARE, facts["clicks"]),
            f"Item {item} has {of_item} of the clicks (warning above a third)",
        ),
    ]
    if facts["long_sessions"] is not None:
        day_limits.append(
            Limit(
                "long_sessions",
                "session_spans",
                facts["long_sessions"],
                max(MAX_LONG_SESSIONS, 1 / facts["sessions"]) if facts["sessions"] else 1.0,
                f"{percent(facts['long_sessions'], MAX_LONG_SESSIONS)} of the sessions, such as "
                f"{shown_id(facts['longest_session_id'])}, last more than {settings.max_session_hours:g} hours "
                f"(validation.max_session_hours; warning above {percent(MAX_LONG_SESSIONS)} of the sessions), counting their "
                "clicks on earlier days: session ids that start again every day merge different visits",
            )
        )
    return day_limits


def is_placeholder(session_id: object) -> bool:
    """Whether a session id is a word for a missing id, such as `null`."""
    return isinstance(session_id, str) and session_id.strip().lower() in _PLACEHOLDERS


def shown_id(identifier: object) -> str:
    """An id for messages: control characters escaped, and cut to 80 characters."""
    return repr(str(identifier)[:_MAX_ID_LENGTH])[1:-1]


def _unless_small(limit: float, n_clicks: int) -> float:
    """The limit, raised so that fewer than `_MIN_CLICKS` clicks never exceed it."""
    return max(limit, (_MIN_CLICKS - 1) / n_clicks) if n_clicks else 1.0
