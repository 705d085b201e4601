"""Numerical kernels: tensors in, tensors out. Each is a plain function of torch tensors on any device."""

from fastmatch.kernels.combine import combine
from fastmatch.kernels.dispatch import Choice, Implementation, Precision, choose
from fastmatch.kernels.feature_products import feature_products
from fastmatch.kernels.gram import Source, Summand, gram, gram_update
from fastmatch.kernels.moments import Moments
from fastmatch.kernels.scores import Scores, scores

__all__ = [
    "Choice",
    "Implementation",
    "Moments",
    "Precision",
    "Scores",
    "Source",
    "Summand",
    "choose",
    "combine",
    "feature_products",
    "gram",
    "gram_update",
    "scores",
]
