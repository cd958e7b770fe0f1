"""A model as it is tested and served: GRU4Rec's weights with a read-out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sbr_tasks.errors import RegistryError
from sbr_tasks.evaluation.scorer import Scorer
from sbr_tasks.gru4rec.scorer import GRU4RecScorer
from sbr_tasks.gru4rec.weights import GRU4RecWeights
from sbr_tasks.readout import CoVisits, Mixture, MixtureScorer, count_covisits
from sbr_tasks.window.sessions import ItemIndex, Sessions

_COVISITS = "covisits.npz"


@dataclass(frozen=True)
class Model:
    """A trained model.

    Attributes:
        weights: GRU4Rec.
        covisits: Of its items; None for plain GRU4Rec.
        mixture: The numbers of the read-out; None for plain GRU4Rec.
    """

    weights: GRU4RecWeights
    covisits: CoVisits | None = None
    mixture: Mixture | None = None

    @classmethod
    def of(cls, weights: GRU4RecWeights, sessions: Sessions, mixture: Mixture | None) -> Model:
        """A model with the co-visits of the sessions that it was trained on; without a mixture, plain GRU4Rec."""
        return cls(weights, count_covisits(sessions, weights.index), mixture) if mixture else cls(weights)

    @property
    def index(self) -> ItemIndex:
        """The items that it knows."""
        return self.weights.index

    def scorer(self) -> Scorer:
        """The scorer that it is tested with."""
        plain = GRU4RecScorer(self.weights)
        return MixtureScorer(plain, self.covisits, self.mixture) if self.covisits and self.mixture else plain

    def to_files(self) -> dict[str, bytes]:
        """Serializes the model, apart from `mixture`, as files by name; equal models give equal bytes."""
        return self.weights.to_files() | ({_COVISITS: self.covisits.to_bytes()} if self.covisits else {})

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], mixture: Mixture | None) -> Model:
        """Reads what `to_files` wrote.

        Raises:
            RegistryError: A file is missing, damaged or in another format, or the files don't belong together.
        """
        weights = GRU4RecWeights.from_files(files)
        if mixture is None:
            return cls(weights)
        if _COVISITS not in files:
            raise RegistryError(f"A model with a read-out needs {_COVISITS}; found {sorted(files)}. Restore it or retrain.")
        covisits = CoVisits.from_bytes(files[_COVISITS])
        if len(covisits.neighbours) != len(weights.index):
            raise RegistryError(
                f"{_COVISITS} has {len(covisits.neighbours):,} items, expected {len(weights.index):,}. Restore it or retrain."
            )
        return cls(weights, covisits, mixture)
