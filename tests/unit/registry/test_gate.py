from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from sbr_tasks.errors import RegistryError
from sbr_tasks.evaluation.comparison import Difference
from sbr_tasks.registry.gate import Contender, Metrics, Opponent, Outcome, Verdict, decide, share_of_resamples
from sbr_tasks.settings import GateSettings

DAY = date(2020, 6, 30)
CHAMPION_DAY = date(2020, 6, 29)
SETTINGS = GateSettings(min_events=100, min_sessions=50)


def metrics(recall: float, mrr: float, n_events: int = 500, n_sessions: int = 200) -> dict[str, float]:
    return {"recall_at_20": recall, "mrr_at_20": mrr, "n_events": n_events, "n_sessions": n_sessions}


def champion(challenger: Metrics, recall: float, mrr: float, *, spread: float = 0.02) -> Opponent:
    """A champion that scores so, with an interval `spread` around the differences, and half of it below as the gate's bound."""
    scored = metrics(recall, mrr, int(challenger["n_events"]), int(challenger["n_sessions"]))
    differences = {}
    for name in ("recall_at_20", "mrr_at_20"):
        value = challenger[name] - scored[name]
        differences[name] = Difference(value, value - spread, value + spread, 0.9, value - spread / 2)
    return Opponent("old", scored, differences)


UNUSABLE = Opponent("old", None, {}, fault="models/old/weights.npz is missing.")


def ask(
    challenger: Metrics,
    opponent: Opponent | None,
    *,
    baselines: dict[str, Metrics] | None = None,
    live_day: date | None = CHAMPION_DAY,
    settings: GateSettings = SETTINGS,
    force: str | None = None,
    pin: str | None = None,
) -> Verdict:
    low = metrics(0.01, 0.001, int(challenger["n_events"]), int(challenger["n_sessions"]))
    return decide(
        Contender("new", DAY, challenger),
        opponent,
        baselines=baselines or {"popularity": low, "markov": low},
        live_day=live_day,
        settings=settings,
        force=force,
        pin=pin,
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
    new = metrics(recall, mrr)
    assert ask(new, champion(new, 0.50, 0.30)).outcome is outcome


@pytest.mark.parametrize(
    ("recall", "mrr", "outcome"),
    [
        (0.511, 0.311, Outcome.PROMOTE),
        (0.510, 0.311, Outcome.KEEP_CHAMPION),
        (0.511, 0.310, Outcome.KEEP_CHAMPION),
    ],
)
def test_margin_must_be_exceeded_by_both(recall: float, mrr: float, outcome: Outcome) -> None:
    new = metrics(recall, mrr)
    settings = replace_settings(min_delta=0.01)
    assert ask(new, champion(new, 0.50, 0.30), settings=settings).outcome is outcome


@pytest.mark.parametrize(
    ("recall", "mrr", "min_delta", "outcome"),
    [
        (0.53, 0.33, 0.0, Outcome.PROMOTE),
        (0.52, 0.33, 0.0, Outcome.KEEP_CHAMPION),
        (0.53, 0.32, 0.0, Outcome.KEEP_CHAMPION),
        (0.53, 0.33, 0.01, Outcome.KEEP_CHAMPION),
        (0.54, 0.34, 0.01, Outcome.PROMOTE),
    ],
)
def test_with_confidence_the_one_sided_bounds_must_exceed_the_margin(
    recall: float, mrr: float, min_delta: float, outcome: Outcome
) -> None:
    new = metrics(recall, mrr)
    settings = replace_settings(confidence=0.95, min_delta=min_delta)
    assert ask(new, champion(new, 0.50, 0.30, spread=0.0402), settings=settings).outcome is outcome


@pytest.mark.parametrize(
    ("recall", "mrr", "min_delta", "outcome"),
    [
        (0.500, 0.300, "-1%", Outcome.PROMOTE),
        (0.496, 0.298, "-1%", Outcome.PROMOTE),
        (0.495, 0.310, "-1%", Outcome.KEEP_CHAMPION),
        (0.510, 0.297, "-1%", Outcome.KEEP_CHAMPION),
        (0.506, 0.3031, "1%", Outcome.PROMOTE),
        (0.506, 0.3030, "1%", Outcome.KEEP_CHAMPION),
        (0.499, 0.299, -0.002, Outcome.PROMOTE),
        (0.499, 0.298, -0.002, Outcome.KEEP_CHAMPION),
        (0.500, 0.300, "0%", Outcome.KEEP_CHAMPION),
    ],
)
def test_margin_may_be_negative_and_a_share_of_the_champions_score(
    recall: float, mrr: float, min_delta: float | str, outcome: Outcome
) -> None:
    new = metrics(recall, mrr)
    assert ask(new, champion(new, 0.50, 0.30), settings=replace_settings(min_delta=min_delta)).outcome is outcome


@pytest.mark.parametrize(
    ("recall", "min_delta", "confidence", "start", "end"),
    [
        (0.701, "-1%", None, "0.701, down 0.43% from the champion's 0.704, within the 1% that gate.min_delta allows (", "."),
        (
            0.701,
            -0.005,
            None,
            "0.701, down 0.43% from the champion's 0.704, within the 0.005 that gate.min_delta allows (",
            ".",
        ),
        (0.704, "-1%", None, "0.704, the same as the champion's 0.704, within the 1% that gate.min_delta allows (", "."),
        (0.710, "-1%", None, "0.710, up 0.85% from the champion's 0.704 (", "."),
        (0.710, "-1%", 0.95, "0.710, up 0.85% from the champion's 0.704, within the 1% that gate.min_delta allows (", "."),
        (0.720, "1%", None, "0.720, up 2.3% from the champion's 0.704, more than the 1% that gate.min_delta asks for (", "."),
        (0.69696, "-1%", None, "0.697, down 1% from the champion's 0.704, not within the 1% that gate.min_delta allows (", "."),
        (0.600, "-1%", 0.95, "0.600, down 15% from the champion's 0.704, not within the 1% that gate.min_delta allows (", "."),
        (0.703, "-1%", 0.95, "0.703, down 0.14% from the champion's 0.704, which is not enough (", ", -1% of the champion's)."),
        (0.708, "1%", None, "0.708, up 0.57% from the champion's 0.704, which is not enough (", ", 1% of the champion's)."),
    ],
)
def test_reason_names_the_margin_that_decided(
    recall: float, min_delta: float | str, confidence: float | None, start: str, end: str
) -> None:
    new = metrics(recall, 0.4)
    settings = replace_settings(min_delta=min_delta, confidence=confidence)
    reason = ask(new, champion(new, 0.704, 0.3), settings=settings).reasons[0]
    assert reason.startswith(f"Recall@20 is {start}") and reason.endswith(end)


def test_first_good_model_bootstraps() -> None:
    assert ask(metrics(0.5, 0.3), None, live_day=None) == Verdict(
        Outcome.FIRST_CHAMPION,
        (
            "There is no champion to compare with yet.",
            "Recall@20 is 0.500 and MRR@20 is 0.300 on 500 events.",
        ),
    )


@pytest.mark.parametrize(
    ("n_events", "n_sessions", "is_enough"), [(99, 50, False), (100, 49, False), (100, 50, True), (0, 0, False)]
)
@pytest.mark.parametrize("has_champion", [False, True])
def test_too_few_events_or_sessions_decide_nothing(n_events: int, n_sessions: int, is_enough: bool, has_champion: bool) -> None:
    new = metrics(0.5, 0.3, n_events, n_sessions)
    decision = ask(new, champion(new, 0.1, 0.1) if has_champion else None)
    good = Outcome.PROMOTE if has_champion else Outcome.FIRST_CHAMPION
    assert decision.outcome is (good if is_enough else Outcome.TOO_FEW_EVENTS)


def test_day_without_events_says_so() -> None:
    empty: Metrics = {"n_events": 0, "n_sessions": 0}
    assert ask(empty, None, baselines={"popularity": empty}).reasons == (
        "30 June 2020 has 0 test events; a decision needs at least 100.",
        "30 June 2020 has 0 test sessions; a decision needs at least 50.",
    )


@pytest.mark.parametrize(
    ("recall", "mrr", "outcome"),
    [
        (0.201, 0.101, Outcome.FIRST_CHAMPION),
        (0.200, 0.300, Outcome.BELOW_BASELINE),
        (0.300, 0.100, Outcome.BELOW_BASELINE),
        (float("nan"), 0.300, Outcome.BELOW_BASELINE),
    ],
)
@pytest.mark.parametrize("baseline", ["popularity", "markov", "covisits"])
def test_model_must_be_above_each_baseline(baseline: str, recall: float, mrr: float, outcome: Outcome) -> None:
    low = metrics(0.01, 0.001)
    baselines: dict[str, Metrics] = {"popularity": low, "markov": low, baseline: metrics(0.20, 0.10)}
    decision = ask(metrics(recall, mrr), None, baselines=baselines, live_day=None)
    assert decision.outcome is outcome
    if recall == 0.2:
        who = {"covisits": "co-visits"}.get(baseline, baseline)
        assert decision.reasons[0] == f"Recall@20 is 0.200, no better than the {who} baseline's 0.200."


@pytest.mark.parametrize(
    ("opponent", "force", "outcome"),
    [
        ((0.4, 0.2), None, Outcome.WOULD_PROMOTE),
        ((0.6, 0.4), None, Outcome.WOULD_KEEP),
        (None, None, Outcome.WOULD_PROMOTE),
        ((0.6, 0.4), "because", Outcome.WOULD_PROMOTE),
    ],
)
def test_older_day_never_moves_the_champion(opponent: tuple[float, float] | None, force: str | None, outcome: Outcome) -> None:
    new = metrics(0.5, 0.3)
    decision = ask(new, champion(new, *opponent) if opponent else None, live_day=date(2020, 7, 1), force=force)
    assert decision.outcome is outcome
    assert not decision.outcome.moves_champion
    assert "newer day (1 July 2020)" in decision.reasons[-1]


@pytest.mark.parametrize("live_day", [None, CHAMPION_DAY, DAY])
def test_day_of_the_champion_or_a_newer_one_may_move_it(live_day: date | None) -> None:
    new = metrics(0.5, 0.3)
    assert ask(new, champion(new, 0.4, 0.2), live_day=live_day).outcome is Outcome.PROMOTE


def test_unusable_champion_stops_the_decision_with_what_to_do() -> None:
    assert ask(metrics(0.5, 0.3), UNUSABLE) == Verdict(
        Outcome.CHAMPION_UNUSABLE,
        (
            "The champion old can't be used: models/old/weights.npz is missing.",
            "Recall@20 is 0.500 and MRR@20 is 0.300 on 500 events.",
            "Restore its files, roll back to another version, "
            "or set gate.replace_unusable to let a good challenger replace it.",
        ),
    )


def test_unusable_champion_is_replaced_only_if_the_settings_say_so() -> None:
    settings = replace_settings(replace_unusable=True)
    assert ask(metrics(0.5, 0.3), UNUSABLE, settings=settings).outcome is Outcome.FIRST_CHAMPION
    assert ask(metrics(0.5, 0.3, 10), UNUSABLE, settings=settings).outcome is Outcome.TOO_FEW_EVENTS


@pytest.mark.parametrize("new", [metrics(0.1, 0.1), metrics(0.9, 0.9, 1, 1), metrics(0.001, 0.0)])
def test_force_overrides_the_metrics(new: Metrics) -> None:
    decision = ask(new, champion(new, 0.5, 0.3), force="sale starts tomorrow")
    assert decision.outcome is Outcome.FORCED
    assert decision.outcome.moves_champion
    assert decision.reasons[0] == "Forced regardless of the metrics: sale starts tomorrow."


def test_models_scored_on_different_events_are_not_compared() -> None:
    new = metrics(0.5, 0.3)
    other = replace(champion(new, 0.4, 0.2), metrics=metrics(0.4, 0.2, 499))
    with pytest.raises(RegistryError, match=r"found different numbers \(new: 500, popularity: 500, markov: 500, old: 499\)"):
        ask(new, other)


def test_reasons_say_by_how_much_and_how_sure() -> None:
    new = metrics(0.55, 0.27)
    assert ask(new, champion(new, 0.50, 0.30)).reasons == (
        "Recall@20 is 0.550, up 10% from the champion's 0.500 (95% interval +0.030 to +0.070; better in 90% of resamples).",
        "MRR@20 is 0.270, down 10% from the champion's 0.300 (95% interval -0.050 to -0.010; better in 90% of resamples).",
    )


@pytest.mark.parametrize(
    ("confidence", "min_delta", "ending"),
    [
        (None, 0.1, "; must exceed 0.1)."),
        (0.975, 0.0, "; lower bound -0.010 at 97.5% confidence; must exceed 0)."),
        (0.975, 0.01, "; lower bound -0.010 at 97.5% confidence; must exceed 0.01)."),
    ],
)
def test_reason_says_what_a_better_challenger_lacks(confidence: float | None, min_delta: float, ending: str) -> None:
    new = metrics(0.55, 0.35)
    settings = replace_settings(confidence=confidence, min_delta=min_delta)
    decision = ask(new, champion(new, 0.50, 0.30, spread=0.12), settings=settings)
    assert decision.outcome is Outcome.KEEP_CHAMPION
    assert decision.reasons[0].startswith("Recall@20 is 0.550, up 10% from the champion's 0.500, which is not enough (")
    assert decision.reasons[0].endswith(ending)


@pytest.mark.parametrize(
    ("probability", "text"),
    [(1.0, "over 99%"), (0.991, "over 99%"), (0.99, "99%"), (0.5, "50%"), (0.01, "1%"), (0.0, "under 1%")],
)
def test_share_of_resamples_is_never_certain(probability: float, text: str) -> None:
    assert share_of_resamples(probability) == text


@pytest.mark.parametrize(
    ("new", "force"),
    [
        (metrics(0.55, 0.27), "sale starts tomorrow"),
        (metrics(0.55, 0.27, 99), None),
        (metrics(0.005, 0.27), None),
    ],
    ids=["forced", "too few events", "below baseline"],
)
def test_difference_is_shown_where_it_did_not_decide_too(new: Metrics, force: str | None) -> None:
    reasons = ask(new, champion(new, 0.50, 0.30), force=force).reasons
    assert [reason for reason in reasons if reason.startswith("MRR@20 is 0.270, down 10% from the champion's 0.300 (")]


def test_model_of_an_old_day_is_compared_with_the_champion_of_then() -> None:
    new = metrics(0.5, 0.3)
    kept = ask(new, champion(new, 0.6, 0.4), live_day=date(2020, 7, 1))
    assert kept.reasons[0].startswith("Recall@20 is 0.500, down 17% from the 0.600 of the champion as of that day (")
    lost = ask(new, UNUSABLE, live_day=date(2020, 7, 1), settings=replace_settings(replace_unusable=True))
    assert lost.outcome is Outcome.WOULD_PROMOTE
    assert lost.reasons == (
        "The champion as of that day, old, can't be used: models/old/weights.npz is missing.",
        "Recall@20 is 0.500 and MRR@20 is 0.300 on 500 events.",
        "The comparison was skipped because gate.replace_unusable is set.",
        "The champion stays: it is from a newer day (1 July 2020).",
    )


def test_numbers_that_decided_are_never_rounded_to_the_same() -> None:
    new = metrics(0.5 + 1e-6, 0.3)
    close = champion(new, 0.5, 0.3 - 1e-9, spread=0)
    recall, mrr = ask(new, close).reasons
    assert "is 0.500001, up less than 0.1% from the champion's 0.500000 (95% interval +0.0000010 to +0.0000010" in recall
    assert "is 0.300000000, up less than 0.1% from the champion's 0.299999999 (95% interval +0.0000000010" in mrr


@pytest.mark.parametrize(("confidence", "text"), [(0.95, "95%"), (0.975, "97.5%"), (0.999, "99.9%")])
def test_confidence_is_shown_as_it_was_set(confidence: float, text: str) -> None:
    new = metrics(0.55, 0.35)
    reason = ask(new, champion(new, 0.50, 0.30), settings=replace_settings(confidence=confidence)).reasons[0]
    assert reason.endswith(f"; lower bound +0.040 at {text} confidence).")


@pytest.mark.parametrize(
    ("old_share", "is_reported"), [(0.62, True), (0.88, True), (0.89, False), (0.92, False), (None, False)]
)
def test_reasons_say_when_the_contenders_know_different_shares_of_the_targets(
    old_share: float | None, is_reported: bool
) -> None:
    new = metrics(0.55, 0.35) | {"known_targets": 0.91}
    old = champion(new, 0.50, 0.30)
    old = replace(old, metrics=old.metrics | ({} if old_share is None else {"known_targets": old_share}))
    decision = ask(new, old)
    assert decision.outcome is Outcome.PROMOTE
    sentences = [reason for reason in decision.reasons if "knows the target item" in reason]
    assert bool(sentences) is is_reported
    if old_share == 0.62:
        assert sentences == ["The challenger knows the target item of 91% of the test events, the champion 62%."]


def test_gate_with_a_confidence_refuses_a_difference_without_its_bound() -> None:
    new = metrics(0.55, 0.35)
    old = champion(new, 0.50, 0.30)
    unbounded = {name: replace(found, gate_bound=None) for name, found in old.differences.items()}
    with pytest.raises(ValueError, match="has no bound for it"):
        ask(new, replace(old, differences=unbounded), settings=replace_settings(confidence=0.95))


def test_every_outcome_moves_the_champion_or_does_not() -> None:
    moving = {outcome for outcome in Outcome if outcome.moves_champion}
    assert moving == {Outcome.PROMOTE, Outcome.FIRST_CHAMPION, Outcome.FORCED}
    assert {outcome for outcome in Outcome if outcome.passed} == moving | {Outcome.WOULD_PROMOTE}


def replace_settings(**changes: object) -> GateSettings:
    return SETTINGS.model_copy(update=changes)


@pytest.mark.parametrize("live_day", [CHAMPION_DAY, date(2020, 7, 1)])
def test_forced_promotion_on_a_day_without_events_says_that_nothing_was_measured(live_day: date) -> None:
    nothing = {"n_events": 0, "n_sessions": 0}
    opponent = Opponent("old", nothing, {})
    baselines = {"popularity": nothing, "markov": nothing}
    decision = ask(nothing, opponent, baselines=baselines, force="the sale starts", live_day=live_day)
    assert decision.reasons[:2] == (
        "Forced regardless of the metrics: the sale starts.",
        "Nothing was measured: 30 June 2020 has no test events, so no version could be scored.",
    )
    measured = ask(metrics(0.5, 0.3), champion(metrics(0.5, 0.3), 0.5, 0.3), force="the sale starts")
    assert not any("Nothing was measured" in reason for reason in measured.reasons)


@pytest.mark.parametrize(
    ("recall", "force", "outcome"),
    [
        (0.51, None, Outcome.WOULD_PROMOTE),
        (0.49, None, Outcome.WOULD_KEEP),
        (0.49, "the sale starts", Outcome.WOULD_PROMOTE),
        (0.001, None, Outcome.BELOW_BASELINE),
    ],
)
def test_pinned_champion_stays_and_the_decision_says_what_it_would_be(
    recall: float, force: str | None, outcome: Outcome
) -> None:
    new = metrics(recall, 0.31)
    decision = ask(new, champion(new, 0.5, 0.3), force=force, pin="log entry 3, ann: the sale")
    assert decision.outcome is outcome
    assert ("it is pinned (log entry 3, ann: the sale)" in decision.reasons[-1]) is (outcome is not Outcome.BELOW_BASELINE)


def test_pinned_champion_of_a_newer_day_stays_for_both_reasons() -> None:
    new = metrics(0.6, 0.4)
    decision = ask(new, champion(new, 0.5, 0.3), live_day=date(2020, 7, 1), pin="log entry 3, ann: the sale")
    assert decision.outcome is Outcome.WOULD_PROMOTE
    assert decision.reasons[-1] == (
        "The champion stays: it is from a newer day (1 July 2020) and it is pinned (log entry 3, ann: the sale)."
    )
