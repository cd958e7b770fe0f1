"""The mixture whose probabilities are ranked, as numbers, and the scorer that applies them to a model.

    p(next = i | session) = a * softmax(scores / temperature + biases)(i) + b * covisits(i) + c * own(i)

The weights (a, b, c) depend on how many distinct items the session has so far.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sbr_tasks.evaluation.scorer import Indices, Rows, Scorer, Scores, State, known_only
from sbr_tasks.readout.covisits import CoVisits
from sbr_tasks.readout.recent import N_RECENT, advance_recent, no_recent
from sbr_tasks.store import Record
from sbr_tasks.window.sessions import ItemIndex

Floats = npt.NDArray[np.float32]


class Shares(Record):
    """How much each part of the mixture counts; the three add up to 1.

    Attributes:
        gru4rec: The softmax of GRU4Rec's scores.
        covisits: The neighbours of the session's last items.
        own_items: The items of the session itself.
    """

    gru4rec: float
    covisits: float
    own_items: float


class Mixture(Record):
    """The numbers of a read-out.

    Attributes:
        temperature: GRU4Rec's scores are divided by it before the softmax.
        biases: What is added to the score of the session's k-th last distinct item, k = 0 for the last one; empty where biases
            didn't help.
        own_items: How often the next click was on the k-th last distinct item, in sessions that have one.
        shares: The weights of the three parts in sessions with 1, 2, ... distinct items; the last one also counts for more.
        n_events: Events that the numbers were fitted on.
    """

    temperature: float
    biases: tuple[float, ...]
    own_items: tuple[float, ...]
    shares: tuple[Shares, ...]
    n_events: int


@dataclass(frozen=True)
class MixtureArrays:
    """The numbers of a read-out as float32 arrays.

    Attributes:
        inverse_temperature: What GRU4Rec's scores are multiplied by.
        biases: Shape `(N_RECENT,)`, added to the scores before these are multiplied; 0 where there are none.
        own_items: Shape `(N_RECENT,)`.
        shares: Shape `(n, 3)`, in the order of the fields of `Shares`.
    """

    inverse_temperature: np.float32
    biases: Floats
    own_items: Floats
    shares: Floats


def mixture_arrays(mixture: Mixture) -> MixtureArrays:
    """The numbers as arrays, for the scorer and for TensorFlow."""
    return MixtureArrays(
        inverse_temperature=np.float32(1 / mixture.temperature),
        biases=np.array(mixture.biases or [0] * N_RECENT, np.float32) * np.float32(mixture.temperature),
        own_items=np.array(mixture.own_items, np.float32),
        shares=np.array([[share.gru4rec, share.covisits, share.own_items] for share in mixture.shares], np.float32),
    )


@dataclass
class MixtureState:
    """The state of sessions: the model's own, and the last distinct items, shape `(n_sessions, N_RECENT)`."""

    model: State
    recent: Indices


class MixtureScorer:
    """A `Scorer` that ranks by the mixture's probabilities."""

    def __init__(self, model: Scorer, covisits: CoVisits, mixture: Mixture) -> None:
        """
        Args:
            model: A model whose scores are logits.
            covisits: Of the model's items.
            mixture: The numbers.
        """
        self._model = model
        self._covisits = covisits
        self._numbers = mixture_arrays(mixture)

    @property
    def index(self) -> ItemIndex:
        """The items of the model."""
        return self._model.index

    def start(self, n_sessions: int) -> MixtureState:
        """Sessions before their first click."""
        return MixtureState(self._model.start(n_sessions), no_recent(n_sessions))

    def advance(self, state: MixtureState, items: Indices, rows: Rows) -> None:
        """Feeds one item to each of the sessions `rows`; `UNKNOWN` leaves a session as it is."""
        items, rows = known_only(items, rows)
        self._model.advance(state.model, items, rows)
        advance_recent(state.recent, items, rows)

    def scores(self, state: MixtureState, rows: Rows) -> Scores:
        """The probability of each item as the next click, shape `(len(rows), n_items)`."""
        recent = state.recent[rows]
        is_own = recent >= 0
        shares = self._numbers.shares[shares_group(is_own, len(self._numbers.shares))]
        session, place = np.nonzero(is_own)
        own_items = recent[session, place]

        scores = self._model.scores(state.model, rows)
        scores = scores if scores.base is None else scores.copy()
        scores[session, own_items] += self._numbers.biases[place]
        for row, share in zip(scores, shares[:, 0], strict=True):  # one by one, so that a row stays in the cache
            np.subtract(row, row.max(), out=row)
            np.multiply(row, self._numbers.inverse_temperature, out=row)
            np.exp(row, out=row)
            np.multiply(row, share / row.sum(), out=row)

        items, probabilities = self._covisits.probabilities(recent)
        flat = scores.reshape(-1)
        first = np.arange(len(rows))[:, None] * scores.shape[1]
        np.add.at(flat, (first + items).ravel(), (probabilities * shares[:, 1:2]).ravel())
        own = own_probabilities(self._numbers.own_items, is_own) * shares[:, 2:]
        scores[session, own_items] += own[session, place]
        return scores


def shares_group(is_own: npt.NDArray[np.bool_], n_groups: int) -> npt.NDArray[np.int64]:
    """Which of `n_groups` shares hold for a session, by its number of distinct items; shape `(n,)`.

    Args:
        is_own: Shape `(n, N_RECENT)`; which places hold an item.
        n_groups: The last one is for as many items or more.
    """
    group: npt.NDArray[np.int64] = np.clip(is_own.sum(axis=1), 1, n_groups) - 1
    return group


def own_probabilities(rates: Floats, is_own: npt.NDArray[np.bool_]) -> Floats:
    """The share of each place among a session's own items: its rate, relative to those of all places that are in use.

    Args:
        rates: Shape `(N_RECENT,)`.
        is_own: Shape `(n, N_RECENT)`; which places hold an item.

    Returns:
        Shape `(n, N_RECENT)`; 0 for places without an item.
    """
    used = np.where(is_own, rates, np.zeros_like(rates))
    total = used.sum(axis=1, keepdims=True)
    shares: Floats = np.divide(used, total, out=np.zeros_like(used), where=total > 0)
    return shares
