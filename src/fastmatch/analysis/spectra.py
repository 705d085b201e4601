"""Singular values of weights and activations, and the stable rank that they give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fastmatch.errors import ModelError, OptionError
from fastmatch.kernels import Moments


@dataclass(frozen=True)
class Spectrum:
    """Singular values of a matrix, from the largest down, float64."""

    values: np.ndarray

    @property
    def stable_rank(self) -> float:
        """``||M||_F^2 / ||M||_2^2``: 1 where all is one direction, n for n equal ones; NaN for a matrix of zeros."""
        largest = float(self.values.max(initial=0.0))
        return float(np.square(self.values / largest).sum()) if largest else float("nan")


def weight_spectrum(weight: Tensor) -> Spectrum:
    """Singular values of a weight, its first axis against all others, in float64.

    A kernel of a convolution [out, in, h, w] is a matrix [out, in * h * w] (Zhou et al. 2023, section 5.1, footnote 2).

    Raises
    ------
    OptionError
        The weight has fewer than two axes.
    ModelError
        It holds NaN or infinite values.
    """
    if weight.dim() < 2:
        raise OptionError(f"received a weight of shape {tuple(weight.shape)}; singular values need two axes")
    if not weight.isfinite().all():
        raise ModelError("the weight holds NaN or infinite values, and has no singular values")
    return Spectrum(torch.linalg.svdvals(weight.detach().double().flatten(1)).cpu().numpy())


def activation_spectrum(moments: Moments) -> Spectrum:
    """Singular values of the matrix of activations, units against all samples, from streamed products of its units.

    ``moments`` pair a network with itself. Products are added up in float32 within a batch, so that singular values
    below a few thousandths of the largest are rounding.

    Raises
    ------
    ModelError
        Activations, or products of them, are NaN or infinite.
    """
    gram = moments.linear() * moments.count
    if not gram.isfinite().all():
        raise ModelError("activations, or products of them, are NaN or infinite, and have no singular values")
    values = torch.linalg.eigvalsh((gram + gram.T) / 2).flip(0).clamp_min(0.0).sqrt()
    return Spectrum(values.cpu().numpy())
