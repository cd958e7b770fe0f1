"""What a wish may be, and who makes it."""

from __future__ import annotations

import pytest

from sbr_tasks.errors import ReasonError
from sbr_tasks.wish import Wish


@pytest.mark.parametrize("reason", [None, "", "  "])
def test_forced_promotion_needs_a_reason(reason: str | None) -> None:
    with pytest.raises(ReasonError, match="forced promotion needs a reason"):
        Wish("force", reason)


def test_only_a_forced_promotion_has_force() -> None:
    assert Wish("force", "new season").force == "new season"
    assert Wish().force is Wish("never").force is None


def test_log_names_the_person_where_no_run_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sbr_tasks.wish.current_user", lambda: "ann@shop")
    assert (Wish().by, Wish(actor="scheduled__1").by) == ("ann@shop", "scheduled__1")
