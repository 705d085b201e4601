"""Moments of activations, streamed: what linear and correlation similarities are made of."""

from __future__ import annotations

import torch
from torch import Tensor

# Variance over squared mean below which variation is float32 rounding of the activations: a constant unit.
_DEAD = 1e-10


class Moments:
    """Sums, squares and cross products of the units of two networks over batches of samples.

    Samples are shifted by the mean of the first batch, so that a mean a thousand times the deviation costs no digits;
    batches are reduced in float32 and added up in float64 (pooled moments, Chan et al. 1983). Means or deviations of
    batches are never averaged.
    """

    def __init__(self) -> None:
        self.count = 0

    def update(self, a: Tensor, b: Tensor) -> None:
        """Add one batch of samples, shapes [units, samples]; both networks saw the same samples in the same order."""
        dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
        a, b = a.to(dtype), b.to(dtype)
        if self.count == 0:
            self._start(a, b)
        a, b = a - self._shift_a.to(a.dtype)[:, None], b - self._shift_b.to(b.dtype)[:, None]
        self.count += a.shape[1]
        self._sum_a += a.sum(1, dtype=torch.float64)
        self._sum_b += b.sum(1, dtype=torch.float64)
        self._square_a += (a * a).sum(1, dtype=torch.float64)
        self._square_b += (b * b).sum(1, dtype=torch.float64)
        self._cross += (a @ b.T).double()

    def _start(self, a: Tensor, b: Tensor) -> None:
        self._shift_a, self._shift_b = (x.mean(1, dtype=torch.float64).to(x.dtype).double() for x in (a, b))
        self._sum_a, self._square_a = a.new_zeros((2, len(a)), dtype=torch.float64)
        self._sum_b, self._square_b = b.new_zeros((2, len(b)), dtype=torch.float64)
        self._cross = a.new_zeros((len(a), len(b)), dtype=torch.float64)

    def linear(self) -> Tensor:
        """Mean inner product of units of a and b, shape [units, units], float64 (Sharma et al. 2024, appendix A)."""
        mean_a, mean_b = self._sum_a / self.count, self._sum_b / self.count
        shifted = self._cross / self.count
        return (
            shifted
            + torch.outer(self._shift_a, mean_b)
            + torch.outer(mean_a, self._shift_b)
            + torch.outer(self._shift_a, self._shift_b)
        )

    def pearson(self) -> Tensor:
        """Correlation of units of a and b, shape [units, units], float64; 0 where one is constant (Li et al. 2016)."""
        mean_a, mean_b = self._sum_a / self.count, self._sum_b / self.count
        covariance = self._cross / self.count - torch.outer(mean_a, mean_b)
        alive_a, alive_b = self.alive()
        scale_a = torch.where(alive_a, self._variance(self._square_a, mean_a).rsqrt(), 0.0)
        scale_b = torch.where(alive_b, self._variance(self._square_b, mean_b).rsqrt(), 0.0)
        return covariance * torch.outer(scale_a, scale_b)

    def alive(self) -> tuple[Tensor, Tensor]:
        """Units of a and of b that vary over the samples, bool, shape [units] each; the others are dead."""
        return (
            self._alive(self._square_a, self._sum_a / self.count, self._shift_a),
            self._alive(self._square_b, self._sum_b / self.count, self._shift_b),
        )

    def _variance(self, square: Tensor, mean: Tensor) -> Tensor:
        return (square / self.count - mean * mean).clamp_min(0.0)

    def _alive(self, square: Tensor, mean: Tensor, shift: Tensor) -> Tensor:
        return self._variance(square, mean) > _DEAD * ((mean + shift) ** 2)
