"""The read-out: turns a model's scores into the probabilities that are ranked and shown."""

from sbr_tasks.readout.counted import counted_scorer
from sbr_tasks.readout.covisits import CoVisits, count_covisits
from sbr_tasks.readout.fit import cross_fitted, fit_mixture
from sbr_tasks.readout.mixture import Mixture, MixtureScorer
from sbr_tasks.readout.placement import PlacementRule

__all__ = [
    "CoVisits",
    "Mixture",
    "MixtureScorer",
    "PlacementRule",
    "count_covisits",
    "counted_scorer",
    "cross_fitted",
    "fit_mixture",
]
