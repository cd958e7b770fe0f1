"""Waiting for what another process does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

TIMEOUT_S = 900


def wait_for(look: Callable[[], Any], every_s: float = 0.5) -> Any:
    """What `look` returns, once it is something.

    Raises:
        TimeoutError: It still returned nothing after a quarter of an hour.
    """
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        if result := look():
            return result
        time.sleep(every_s)
    raise TimeoutError(f"nothing found within {TIMEOUT_S} s")
