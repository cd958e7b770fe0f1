from __future__ import annotations

from datetime import date

import pytest

from sbr_tasks.errors import RegistryError
from sbr_tasks.registry.gate import Contender, Decision, Metrics, Outcome, decide
from sbr_tasks.settings import GateSettings

DAY = date(2020, 6, 30)
CHAMPION_DAY = date(2020, 6, 29)


def metrics(recall: float, mrr: float, n_events: int = 500) -> Metrics:
    return {"recall_at_20": recall, "mrr_at_20": mrr, "n_events": n_events}


def ask(
    challenger: Metrics,
    champion: Metrics | None,
    *,
    popularity: Metrics | None = None,
    live_day: date | None = CHAMPION_DAY,
    min_delta: float = 0.0,
) -> Decision:
    return decide(
        Contender("new", DAY, challenger),
        Contender("old", CHAMPION_DAY, champion) if champion else None,
        popularity=popularity or metrics(0.01, 0.001, int(challenger["n_events"])),
        live_day=live_day,
        settings=GateSettings(min_delta=min_delta, min_events=100),
    )


@pytest.mark.parametrize(
    ("recall", "mrr", "outcome"),
    [
        (0.51, 0.31, Outcome.PROMOTE),
        (0.51, 0.30, Outcome.KEEP_CHAMPION),
        (0.50, 0.31, Outcome.KEEP_CHAMPION),
        (0.50, 0.30, Outcome.KEEP_CHAMPION),
        (0.49, 0.40, Outcome.KEEP_CHAMPION),
        (0.60, 0.29, Outcome.KEEP_CHAMPION),
    ],
)
def test_both_metrics_must_be_strictly_better(recall: float, mrr: float, outcome: Outcome) -> None:
    assert ask(metrics(recall, mrr), metrics(0.50, 0.30)).outcome is outcome


def test_margin_must_be_exceeded_by_both() -> None:
    assert ask(metrics(0.515, 0.315), metrics(0.5, 0.3), min_delta=0.01).outcome is Outcome.PROMOTE
    assert ask(metrics(0.515, 0.305), metrics(0.5, 0.3), min_delta=0.01).outcome is Outcome.KEEP_CHAMPION


def test_first_good_model_bootstraps() -> None:
    decision = ask(metrics(0.5, 0.3), None, live_day=None)
    assert decision == Decision(
        Outcome.BOOTSTRAP, ("There is no champion yet; new scores Recall@20 0.5000 and MRR@20 0.3000 on 500 events.",)
    )


@pytest.mark.parametrize(("n_events", "outcome"), [(99, Outcome.TOO_FEW_EVENTS), (100, Outcome.BOOTSTRAP)])
@pytest.mark.parametrize("champion", [None, metrics(0.1, 0.1)])
def test_too_few_events_decide_nothing(n_events: int, outcome: Outcome, champion: Metrics | None) -> None:
    champion = metrics(0.1, 0.1, n_events) if champion else None
    decision = ask(metrics(0.5, 0.3, n_events), champion)
    assert decision.outcome is (Outcome.PROMOTE if champion and outcome is Outcome.BOOTSTRAP else outcome)


def test_no_events_at_all_decide_nothing() -> None:
    empty: Metrics = {"n_events": 0, "n_sessions": 0}
    assert ask(empty, None, popularity=empty).reasons == ("2020-06-30 has 0 test events; a decision needs at least 100.",)


@pytest.mark.parametrize(
    ("recall", "mrr", "outcome"),
    [
        (0.20, 0.10, Outcome.BOOTSTRAP),
        (0.19, 0.30, Outcome.BELOW_BASELINE),
        (0.30, 0.09, Outcome.BELOW_BASELINE),
        (float("nan"), 0.30, Outcome.BELOW_BASELINE),
    ],
)
def test_model_below_popularity_is_never_promoted(recall: float, mrr: float, outcome: Outcome) -> None:
    decision = ask(metrics(recall, mrr), None, popularity=metrics(0.20, 0.10), live_day=None)
    assert decision.outcome is outcome


@pytest.mark.parametrize(
    ("champion", "outcome"),
    [(metrics(0.4, 0.2), Outcome.WOULD_PROMOTE), (metrics(0.6, 0.4), Outcome.WOULD_KEEP), (None, Outcome.WOULD_PROMOTE)],
)
def test_older_day_never_moves_the_champion(champion: Metrics | None, outcome: Outcome) -> None:
    decision = ask(metrics(0.5, 0.3), champion, live_day=date(2020, 7, 1))
    assert decision.outcome is outcome
    assert not decision.outcome.moves_champion
    assert decision.reasons[-1] == ("The champion is of a newer day (2020-07-01), so it stays whatever this comparison says.")


def test_models_scored_on_different_events_are_not_compared() -> None:
    with pytest.raises(RegistryError, match=r"found different numbers \(new: 500, the popularity baseline: 500, old: 499\)"):
        ask(metrics(0.5, 0.3), metrics(0.4, 0.2, 499))


def test_reasons_say_by_how_much() -> None:
    assert ask(metrics(0.55, 0.27), metrics(0.50, 0.30)).reasons == (
        "Recall@20 0.5500 beats 0.5000 of the champion old (+0.0500, +10.0 %).",
        "MRR@20 0.2700 does not beat 0.3000 of the champion old (-0.0300, -10.0 %).",
    )
