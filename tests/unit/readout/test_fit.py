"""Fitting recovers the numbers that the events were drawn with."""

import numpy as np
import pytest

from sbr_tasks.evaluation.ranking import evaluate
from sbr_tasks.readout import CoVisits, Mixture, MixtureScorer, counted_scorer, cross_fitted, fit_mixture
from sbr_tasks.readout.counted import PopularityLogits
from sbr_tasks.readout.mixture import Shares
from sbr_tasks.readout.recent import N_RECENT
from sbr_tasks.window.sessions import ItemIndex, Sessions

N_ITEMS = 40
RNG = np.random.default_rng(11)
TABLE = (RNG.normal(size=(N_ITEMS, N_ITEMS)) * 2).astype(np.float32)


class Table:
    """A model whose scores depend on the last item."""

    index = ItemIndex(np.arange(N_ITEMS), np.ones(N_ITEMS, np.int64))

    def start(self, n_sessions: int) -> np.ndarray:
        return np.full(n_sessions, -1, np.int32)

    def advance(self, state: np.ndarray, items: np.ndarray, rows: np.ndarray) -> None:
        state[rows] = items

    def scores(self, state: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return TABLE[state[rows]]


COVISITS = CoVisits(
    np.array([RNG.permutation(N_ITEMS)[:4] for _ in range(N_ITEMS)], np.int32), RNG.random((N_ITEMS, 4)).astype(np.float32)
)
RATES = np.array([0.02, 0.5, 0.3, 0.15] + [0.03] * (N_RECENT - 4))


def drawn(numbers: Mixture, n_sessions: int, length: int = 5) -> Sessions:
    """Sessions whose clicks are drawn from the mixture."""
    scorer, rng = MixtureScorer(Table(), COVISITS, numbers), np.random.default_rng(3)
    rows, state = np.arange(n_sessions), scorer.start(n_sessions)
    clicks = [rng.integers(0, N_ITEMS, n_sessions).astype(np.int32)]
    for _ in range(length - 1):
        scorer.advance(state, clicks[-1], rows)
        edges = np.cumsum(scorer.scores(state, rows), axis=1)
        clicks.append((edges < rng.random((n_sessions, 1)) * edges[:, -1:]).sum(axis=1).astype(np.int32))
    items = np.stack(clicks, axis=1).ravel()
    return Sessions.of_ids(np.arange(n_sessions + 1) * length, items)


def numbers_of(shares: tuple[float, float, float], **changes: object) -> Mixture:
    a, b, c = shares
    fields = {
        "temperature": 1.5,
        "biases": (),
        "own_items": tuple(RATES),
        "shares": (Shares(gru4rec=a, covisits=b, own_items=c),) * 5,
        "n_events": 1,
    }
    return Mixture(**fields | changes)


def fit(sessions: Sessions) -> Mixture:
    fitted = fit_mixture(Table(), COVISITS, sessions, batch_size=512)
    assert fitted is not None
    return fitted


def test_shares_are_recovered() -> None:
    fitted = fit(drawn(numbers_of((0.5, 0.3, 0.2), temperature=1.0), 1000))
    assert fitted.n_events == 1000 * 4
    for share in fitted.shares[1:4]:
        assert (share.gru4rec, share.covisits, share.own_items) == pytest.approx((0.5, 0.3, 0.2), abs=0.06)
        assert share.gru4rec + share.covisits + share.own_items == pytest.approx(1)


def test_temperature_and_biases_are_recovered() -> None:
    biases = (-2.0, 1.5, 1.0) + (0.0,) * (N_RECENT - 3)
    fitted = fit(drawn(numbers_of((1, 0, 0), biases=biases), 1000))
    assert fitted.temperature == pytest.approx(1.5, abs=0.1)
    assert fitted.biases[:3] == pytest.approx(biases[:3], abs=0.25)
    assert all(share.gru4rec > 0.85 for share in fitted.shares)


def test_biases_that_do_not_help_are_left_out() -> None:
    assert fit(drawn(numbers_of((1, 0, 0)), 400)).biases == ()


def test_a_group_without_events_gets_the_shares_of_all_events() -> None:
    two_clicks = drawn(numbers_of((0.2, 0.8, 0)), 1000, length=2)
    fitted = fit(two_clicks)
    assert fitted.shares[4] == fitted.shares[3]
    assert fitted.shares[4].covisits == pytest.approx(fitted.shares[0].covisits, abs=0.02)


def test_fewer_than_two_sessions_fit_without_a_comparison_of_biases() -> None:
    fitted = fit(drawn(numbers_of((0.5, 0.5, 0)), 1))
    assert fitted.biases == ()
    assert fitted.n_events == 4


def test_no_known_target_fits_nothing() -> None:
    unknown = Sessions.of_ids(np.array([0, 2]), np.array([999, 998]))
    assert fit_mixture(Table(), COVISITS, unknown, batch_size=8) is None


def test_without_own_items_their_share_is_nothing() -> None:
    sessions = drawn(numbers_of((0.3, 0.2, 0.5)), 300)
    fitted = fit_mixture(Table(), COVISITS, sessions, batch_size=512, has_own_items=False)
    assert fitted is not None
    assert fitted.biases == ()
    assert {share.own_items for share in fitted.shares} == {0}


def test_cross_fitted_ranks_belong_to_their_sessions() -> None:
    sessions = drawn(numbers_of((0.4, 0.3, 0.3)), 60)
    crossed = cross_fitted(Table(), COVISITS, sessions, batch_size=512)
    assert crossed is not None
    assert crossed.n_events == 60 * 4
    odd = sessions.where(np.arange(60) % 2 == 1)
    numbers = fit_mixture(Table(), COVISITS, odd, batch_size=512)
    assert numbers is not None
    even = evaluate(MixtureScorer(Table(), COVISITS, numbers), sessions, batch_size=512)
    is_even = even.session % 2 == 0
    np.testing.assert_array_equal(crossed.ranks[crossed.session % 2 == 0], even.ranks[is_even])
    np.testing.assert_array_equal(crossed.session[crossed.session % 2 == 0], even.session[is_even])


def test_one_session_cannot_be_cross_fitted() -> None:
    assert cross_fitted(Table(), COVISITS, drawn(numbers_of((1, 0, 0)), 1), batch_size=8) is None


def test_counting_alone_finds_the_item_that_always_follows() -> None:
    pairs = np.tile(np.repeat(np.arange(0, N_ITEMS, 2), 2) + np.tile([0, 1], N_ITEMS // 2), 6)
    sessions = Sessions.of_ids(np.arange(len(pairs) // 2 + 1) * 2, pairs)
    index = ItemIndex.of_sessions(sessions)
    scorer = counted_scorer(sessions, index, (sessions, index, sessions), batch_size=64)
    assert evaluate(scorer, sessions, batch_size=64).recall_at(1) == 1
    assert evaluate(PopularityLogits(index), sessions, batch_size=64).recall_at(1) == 0


def test_counting_falls_back_to_popularity_if_nothing_can_be_fitted() -> None:
    sessions = Sessions.of_ids(np.array([0, 2, 4]), np.array([1, 2, 1, 3]))
    index = ItemIndex.of_sessions(sessions)
    nothing = sessions.where(np.zeros(2, bool))
    assert isinstance(counted_scorer(sessions, index, (sessions, index, nothing), batch_size=8), PopularityLogits)
