"""What whoever starts a run wants done with the version that it trains."""

from __future__ import annotations

import getpass
import os
import socket
from dataclasses import dataclass
from typing import Literal

from sbr_tasks.errors import ReasonError

Promote = Literal["gate", "never", "force"]


@dataclass(frozen=True)
class Wish:
    """Whether a run's version is to be promoted, why, and who says so.

    Attributes:
        promote: `gate`: the gate decides; `never`: the version is trained, scored and reported, but nothing is decided;
            `force`: the version is promoted regardless of its metrics.
        reason: The reason for `force`, which is kept in the promotion log.
        actor: The run that decides, the same in all its attempts, so that a repeated attempt never forces twice. None: the
            person at the command line, who may.

    Raises:
        ReasonError: `force` has no reason.
    """

    promote: Promote = "gate"
    reason: str | None = None
    actor: str | None = None

    def __post_init__(self) -> None:
        if self.promote == "force":
            require_reason(self.reason, "A forced promotion")

    @property
    def force(self) -> str | None:
        """Why the version is promoted regardless of its metrics; None where the gate decides, or nobody."""
        return self.reason if self.promote == "force" else None

    @property
    def by(self) -> str:
        """The actor, for the log."""
        return self.actor or current_user()


def require_reason(reason: str | None, what: str) -> str:
    """The reason without surrounding spaces.

    Raises:
        ReasonError: It is absent or blank.
    """
    if not reason or not reason.strip():
        raise ReasonError(f"{what} needs a reason, which is kept in the log; found none. Give one and try again.")
    return reason.strip()


def current_user() -> str:
    """The person at the command line, for the log."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"
