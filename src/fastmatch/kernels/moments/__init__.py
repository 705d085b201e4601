"""Moments of activations, streamed: what linear, covariance and correlation similarities are made of."""

from fastmatch.kernels.moments.moments import Moments

__all__ = ["Moments"]
