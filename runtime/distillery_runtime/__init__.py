"""Distillery's runtime: scores articles by a bundle's small models. `load` a bundle, then `score`."""

from distillery_runtime.article import Article
from distillery_runtime.bundle import load
from distillery_runtime.errors import (
    BundleError,
    DistilleryError,
    InputError,
    ModelError,
    ProviderError,
    SpecError,
)
from distillery_runtime.panel import load_panel
from distillery_runtime.result import Score
from distillery_runtime.scorer import HybridScorer
from distillery_runtime.spec import FilterSpec
from distillery_runtime.verdict import Verdict, decide
from distillery_runtime.version import __version__

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
