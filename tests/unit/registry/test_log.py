from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sbr_tasks.errors import AlreadyExistsError, RegistryError
from sbr_tasks.registry.gate import Champion, Contender, Outcome, decide
from sbr_tasks.registry.log import Entry, LogState, Promotion, PromotionLog, Rollback, fold
from sbr_tasks.registry.promotion import require_return
from sbr_tasks.settings import GateSettings
from sbr_tasks.store import Store

START = date(2020, 6, 1)


def entry(number: int, day: int, outcome: Outcome, champion: str | None, *, before: str | None = None) -> Promotion:
    return Promotion(
        number=number,
        version=f"v{day}",
        as_of=date(2020, 6, day),
        outcome=outcome,
        reasons=("because",),
        opponent=None,
        before=before,
        champion=champion,
        challenger_metrics={"n_events": 1},
        opponent_metrics=None,
        differences={},
        baselines={},
        window="w",
        run="test",
        at="2020-07-01T00:00:00+00:00",
    )


def rollback(number: int, to: int, before: int) -> Rollback:
    return Rollback(number, f"v{to}", date(2020, 6, to), f"v{before}", "worse in the shop", "test", "2020-07-01T00:00:00+00:00")


def test_log_gives_back_what_was_written(tmp_path: Path) -> None:
    log = PromotionLog(Store(str(tmp_path)))
    written: list[Entry] = [
        entry(1, 5, Outcome.BOOTSTRAP, "v5"),
        entry(2, 6, Outcome.PROMOTE, "v6", before="v5"),
        rollback(3, 5, before=6),
    ]
    for one in written:
        log.create(one)
    assert log.entries() == written
    with pytest.raises(AlreadyExistsError):
        log.create(entry(3, 7, Outcome.PROMOTE, "v7"))
    state = log.state()
    assert (state.champion, state.champion_entry, state.retired, state.n_entries) == ("v5", 3, {"v6"}, 3)
    assert state.decisions["v6"] == written[1]


def test_empty_log_has_no_champion() -> None:
    state = fold([])
    assert (state.champion, state.champion_entry, state.opponent_for(START)) == (None, 0, None)


HISTORY: list[Entry] = [
    entry(1, 5, Outcome.BOOTSTRAP, "v5"),
    entry(2, 9, Outcome.PROMOTE, "v9", before="v5"),
    entry(3, 6, Outcome.WOULD_PROMOTE, "v9", before="v9"),
    entry(4, 7, Outcome.WOULD_KEEP, "v9", before="v9"),
    entry(5, 10, Outcome.KEEP_CHAMPION, "v9", before="v9"),
]


@pytest.mark.parametrize(
    ("day", "opponent"), [(4, None), (5, None), (6, "v5"), (7, "v6"), (8, "v6"), (9, "v9"), (10, "v9"), (11, "v9")]
)
def test_challenger_meets_the_champion_as_of_its_day(day: int, opponent: str | None) -> None:
    assert fold(HISTORY).opponent_for(date(2020, 6, day)) == opponent


def test_retired_version_is_champion_as_of_no_day() -> None:
    state = fold([*HISTORY, rollback(6, 5, before=9)])
    assert (state.champion, state.champion_entry) == ("v5", 6)
    assert state.champion_as_of(date(2020, 6, 12)) == "v6"
    assert state.opponent_for(date(2020, 6, 12)) == "v5"


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("v5", "v5 is the champion already."),
        ("v9", "v9 was rolled back from before, so it is retired. Choose another version, see `sbr models`."),
        ("v7", "Expected a version that was champion before, found 'v7'. See `sbr log` for those that were."),
        ("v99", "Expected a version that was champion before, found 'v99'. See `sbr log` for those that were."),
    ],
)
def test_only_an_earlier_champion_can_come_back(to: str, message: str) -> None:
    with pytest.raises(RegistryError) as caught:
        require_return(fold([*HISTORY, rollback(6, 5, before=9)]), to)
    assert str(caught.value) == message


# A step of a random history: a run of some day with some quality, perhaps forced, or a rollback to some version.
run_step = st.tuples(st.just("run"), st.integers(0, 9), st.integers(0, 3), st.booleans())
rollback_step = st.tuples(st.just("rollback"), st.integers(0, 9), st.integers(0, 3), st.booleans())


def decided(state: LogState, day: int, quality: int, *, force: bool) -> Promotion | None:
    """The entry of a run whose model is as good as `quality`; runs with equal arguments are repetitions of one run."""
    as_of, name = START + timedelta(days=day), f"v{day}q{quality}"
    if name in state.decisions and (not force or name == state.champion or name in state.retired):
        return None
    opponent = state.opponent_for(as_of)
    scores = {
        one: {"recall_at_20": q, "mrr_at_20": q, "n_events": 500, "n_sessions": 500} for one, q in qualities(name, opponent)
    }
    differences = {} if opponent is None else differences_of(scores[name], scores[opponent])
    low = {"recall_at_20": -1.0, "mrr_at_20": -1.0, "n_events": 500, "n_sessions": 500}
    decision = decide(
        Contender(name, as_of, scores[name]),
        Champion(opponent, scores[opponent], differences) if opponent else None,
        baselines={"popularity": low},
        live_day=state.champion_day,
        settings=GateSettings(),
        force="asked for" if force else None,
    )
    base = entry(state.n_entries + 1, 1, decision.outcome, None)
    champion = name if decision.outcome.moves_champion else state.champion
    return replace(base, version=name, as_of=as_of, opponent=opponent, before=state.champion, champion=champion)


def qualities(*names: str | None) -> list[tuple[str, float]]:
    return [(name, float(name.split("q")[1])) for name in names if name]


def differences_of(new: dict[str, float], old: dict[str, float]) -> dict[str, object]:
    from sbr_tasks.evaluation.comparison import Difference

    return {m: Difference(new[m] - old[m], new[m] - old[m], new[m] - old[m], 0.5, 0.95) for m in ("recall_at_20", "mrr_at_20")}


@given(st.lists(st.one_of(run_step, rollback_step), max_size=30))
def test_no_history_moves_the_champion_back_by_a_decision_or_returns_a_retired_version(
    history: list[tuple[str, int, int, bool]],
) -> None:
    entries: list[Entry] = []
    for kind, day, quality, force in history:
        state = fold(entries)
        if kind == "run":
            promotion = decided(state, day, quality, force=force)
            if promotion is None:
                continue
            if promotion.outcome.moves_champion and state.champion_day:
                assert promotion.as_of >= state.champion_day
            assert promotion.opponent not in state.retired
            if promotion.outcome is Outcome.PROMOTE:
                assert promotion.opponent is not None
                assert state.days[promotion.opponent] <= promotion.as_of
            entries.append(promotion)
        else:
            to = f"v{day}q{quality}"
            try:
                require_return(state, to)
            except RegistryError:
                continue
            entries.append(Rollback(len(entries) + 1, to, state.days[to], str(state.champion), "worse", "test", "2020"))
        after = fold(entries)
        assert after.champion not in after.retired
        assert after.champion == entries[-1].champion
        assert after.champion_as_of(date(2021, 1, 1)) not in after.retired
    replayed = fold(entries)
    moving = [e for e in entries if isinstance(e, Rollback) or e.outcome.moves_champion]
    assert replayed.champion == (moving[-1].version if moving else None)
    assert replayed.champion_entry == (moving[-1].number if moving else 0)
