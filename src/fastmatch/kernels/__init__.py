"""Numerical kernels: tensors in, tensors out. Each is a plain function of torch tensors on any device."""

from fastmatch.kernels.combine import combine
from fastmatch.kernels.gram import gram
from fastmatch.kernels.moments import Moments
from fastmatch.kernels.scores import scores

__all__ = ["Moments", "combine", "gram", "scores"]
