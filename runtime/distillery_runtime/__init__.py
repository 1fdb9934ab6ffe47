"""Distillery's runtime: scores articles by a bundle's small models. `load` a bundle, then `score`."""

from distillery_runtime.articles.article import Article
from distillery_runtime.bundles.load import load
from distillery_runtime.bundles.panel import load_panel
from distillery_runtime.errors import (
    BundleError,
    DistilleryError,
    InputError,
    ModelError,
    ProviderError,
    SpecError,
)
from distillery_runtime.scoring import timings as _timings
from distillery_runtime.scoring.result import Score
from distillery_runtime.scoring.scorer import HybridScorer
from distillery_runtime.spec.model import FilterSpec
from distillery_runtime.spec.verdict import Verdict, decide
from distillery_runtime.version import __version__

steps = _timings  # users write distillery_runtime.steps.Timings

__all__ = [
    "Article",
    "BundleError",
    "DistilleryError",
    "FilterSpec",
    "HybridScorer",
    "InputError",
    "ModelError",
    "ProviderError",
    "Score",
    "SpecError",
    "Verdict",
    "__version__",
    "decide",
    "load",
    "load_panel",
]
