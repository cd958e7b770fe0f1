from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from sbr_tasks.errors import AlreadyExistsError
from sbr_tasks.registry.gate import Outcome
from sbr_tasks.registry.log import Promotion, PromotionLog, decision_on, live_champion, opponent_for
from sbr_tasks.store import Store


def entry(number: int, day: int, outcome: Outcome, champion: str | None) -> Promotion:
    return Promotion(
        number=number,
        version=f"v{day}",
        as_of=date(2020, 6, day),
        outcome=outcome,
        reasons=("because",),
        opponent=None,
        champion=champion,
        challenger_metrics={"n_events": 1},
        opponent_metrics=None,
        baselines={},
        window="w",
        run="test",
        at="2020-07-01T00:00:00+00:00",
    )


def test_log_gives_back_what_was_written(tmp_path: Path) -> None:
    log = PromotionLog(Store(str(tmp_path)))
    written = [entry(1, 5, Outcome.BOOTSTRAP, "v5"), entry(2, 6, Outcome.KEEP_CHAMPION, "v5")]
    for promotion in written:
        log.create(promotion)
    assert log.entries() == written
    with pytest.raises(AlreadyExistsError):
        log.create(entry(2, 7, Outcome.PROMOTE, "v7"))
    assert live_champion(log.entries()) == "v5"
    assert decision_on(log.entries(), "v6") == written[1]
    assert decision_on(log.entries(), "v7") is None


def test_empty_log_has_no_champion() -> None:
    assert live_champion([]) is None
    assert opponent_for([], date(2020, 6, 5)) is None


HISTORY = [
    entry(1, 5, Outcome.BOOTSTRAP, "v5"),
    entry(2, 9, Outcome.PROMOTE, "v9"),
    entry(3, 6, Outcome.WOULD_PROMOTE, "v9"),
    entry(4, 7, Outcome.WOULD_KEEP, "v9"),
    entry(5, 10, Outcome.KEEP_CHAMPION, "v9"),
]


@pytest.mark.parametrize(
    ("day", "opponent"), [(4, None), (5, None), (6, "v5"), (7, "v6"), (8, "v6"), (9, "v9"), (10, "v9"), (11, "v9")]
)
def test_challenger_meets_the_champion_as_of_its_day(day: int, opponent: str | None) -> None:
    assert opponent_for(HISTORY, date(2020, 6, day)) == opponent
