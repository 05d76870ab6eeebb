"""Subset selection on ground sets of any sizes: learned set functions, mean-field inference, selectors, metrics.

Given sets with their best subsets, learn to choose the best subset of a new set: EquiVSet (arXiv:2203.01693) and
INSET (arXiv:2402.03139), on segments instead of padded sets.
"""

from __future__ import annotations

from graphinv.sets.baselines import DeepSetsSelector, SetTransformerSelector
from graphinv.sets.batch import SetBatch
from graphinv.sets.choice import above_threshold, top_k
from graphinv.sets.exact import ExactPosterior, enumerated_differences, exact_posterior
from graphinv.sets.fit import FitConfig, FitResult, fit
from graphinv.sets.functions import SetFunction, Utility
from graphinv.sets.greedy import GreedySelector
from graphinv.sets.inference import Mode, elbo, mean_field, mean_field_logits
from graphinv.sets.metrics import jaccard, mean_jaccard
from graphinv.sets.noise import Noise, PerSetNoise
from graphinv.sets.posterior import CopulaPosterior, IndependentPosterior, RecognitionNetwork
from graphinv.sets.selectors import INSET, EquiVSet, SubsetSelector
from graphinv.sets.synthetic import gaussian_mixture, two_moons

__all__ = [
    "INSET",
    "CopulaPosterior",
    "DeepSetsSelector",
    "EquiVSet",
    "ExactPosterior",
    "FitConfig",
    "FitResult",
    "GreedySelector",
    "IndependentPosterior",
    "Mode",
    "Noise",
    "PerSetNoise",
    "RecognitionNetwork",
    "SetBatch",
    "SetFunction",
    "SetTransformerSelector",
    "SubsetSelector",
    "Utility",
    "above_threshold",
    "elbo",
    "enumerated_differences",
    "exact_posterior",
    "fit",
    "gaussian_mixture",
    "jaccard",
    "mean_field",
    "mean_field_logits",
    "mean_jaccard",
    "top_k",
    "two_moons",
]
