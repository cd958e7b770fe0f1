from collections.abc import Callable, Sequence

import numpy as np
import pytest

from sbr_tasks.window.sessions import Sessions


@pytest.fixture
def sessions_of() -> Callable[..., Sessions]:
    """Builds `Sessions` from lists of item ids; every click is a target unless `is_target` says otherwise."""

    def build(clicks: Sequence[Sequence[int]], is_target: Sequence[Sequence[bool]] | None = None) -> Sessions:
        flat = np.array([item for session in clicks for item in session], np.int64)
        targets = np.ones(len(flat), bool) if is_target is None else np.array([flag for s in is_target for flag in s], bool)
        return Sessions(np.cumsum([0, *map(len, clicks)]).astype(np.int64), flat, targets)

    return build
