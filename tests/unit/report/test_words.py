"""What people read of outcomes and times."""

from __future__ import annotations

import pytest

from sbr_tasks.registry.gate import Outcome
from sbr_tasks.report.words import OUTCOMES, headline, instant_in_words
from tests.unit.report.test_alerts import D, decision

ACTIONS = {"rollback", "pin", "unpin"}


def test_every_outcome_and_action_has_a_label_of_its_own() -> None:
    assert set(OUTCOMES) == set(Outcome) | ACTIONS
    assert len({shown.label for shown in OUTCOMES.values()}) == len(OUTCOMES)


@pytest.mark.parametrize("outcome", Outcome)
def test_headline_of_each_outcome_names_the_version(outcome: Outcome) -> None:
    promotion = decision([], D, outcome)
    named = promotion.opponent or "none" if outcome is Outcome.CHAMPION_UNUSABLE else promotion.version
    assert named in headline(promotion)
    assert headline(promotion).endswith(".")


@pytest.mark.parametrize(("champion", "why"), [("2020-06-11-1a2b3c4d", "from a newer day"), ("2020-06-09-1a2b3c4d", "pinned")])
def test_headline_says_why_the_champion_stays(champion: str, why: str) -> None:
    promotion = decision([], D, Outcome.WOULD_PROMOTE).model_copy(update={"champion": champion})
    assert headline(promotion).endswith(f"because it is {why}.")


def test_instants_name_day_time_and_zone() -> None:
    assert instant_in_words("2020-07-01T00:10:00+00:00") == "1 July 2020, 00:10 UTC"
