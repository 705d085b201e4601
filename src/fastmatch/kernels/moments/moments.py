"""Moments streamed over batches, and the similarities that they give."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastmatch.kernels.dispatch import Implementation, Precision, check_precision, choose, favour_library
from fastmatch.kernels.moments import reference
from fastmatch.kernels.moments.batch import Batch

# Variance over squared mean below which variation is float32 rounding of the activations: a constant unit.
_DEAD = 1e-10


class Moments:
    """Sums, squares and cross products of the units of networks over batches of samples.

    Samples are shifted by the mean of the first batch, so that a mean a thousand times the deviation costs no digits;
    batches are reduced in float32 and added up in float64 (pooled moments, Chan et al. 1983). Means or deviations of
    batches are never averaged.

    Parameters
    ----------
    pairs
        Networks whose units are compared, by their place in :meth:`update`: ``[(0, 1), (0, 2)]`` compares two networks
        with one reference.
    precision
        Of the products on a GPU: ``"highest"`` float32, ``"high"`` three-term tf32, ``"fast"`` tf32; at least that.
    implementation
        See :func:`fastmatch.kernels.choose`.
    """

    def __init__(
        self,
        pairs: Sequence[tuple[int, int]] = ((0, 1),),
        *,
        precision: Precision = "highest",
        implementation: Implementation = "auto",
    ) -> None:
        check_precision(precision)
        self.pairs = tuple(pairs)
        self.precision = precision
        self.implementation: Implementation = implementation
        self.count = 0

    def update(self, *values: Tensor, axes: Sequence[int] = (0,), relu: bool = False) -> None:
        """Add one batch; all networks saw the same samples in the same order.

        Parameters
        ----------
        values
            Activations of every network in their own layout, any strides and any floating type.
        axes
            Axes of the units, from 0 on: one, or several that are counted jointly, row-major. All others are samples.
        relu
            Compare ``max(values, 0)``.

        Raises
        ------
        ValueError
            The networks have other samples, other units than in earlier batches, or not these axes.
        OptionError
            ``implementation`` cannot run.
        """
        batch = Batch(values, tuple(axes), relu, self.pairs)
        batch.check()
        if self.count == 0:
            self._start(batch)
        if batch.sizes != self._sizes:
            raise ValueError(f"a batch of {batch.units} units does not fit those before it")
        self.count += batch.samples
        self._total += self._moments(batch).to(self._total.device)

    def _start(self, batch: Batch) -> None:
        self._sizes = batch.sizes
        # In float32, since that is what every batch can take off its values: the totals belong to these very shifts.
        self._shifts = [mean.float() for mean in batch.means()]
        self._total = torch.zeros(sum(self._sizes), dtype=torch.float64, device=batch.values[0].device)

    def _moments(self, batch: Batch) -> Tensor:
        better = favour_library(max(batch.units), self.precision)
        if choose(batch.values, self.implementation, better).implementation == "gpu":
            from fastmatch.kernels.moments import gpu

            return gpu.moments(batch, self._shifts, self.precision)
        return reference.moments(batch, self._shifts)

    def linear(self, pair: int = 0) -> Tensor:
        """Mean inner product of units of a pair, shape [units, units], float64 (Sharma et al. 2024, appendix A)."""
        first, second = self.pairs[pair]
        (mean_a, _), (mean_b, _) = self._single(first), self._single(second)
        shift_a, shift_b = self._shifts[first].double(), self._shifts[second].double()
        shifted = self._cross(pair) + torch.outer(shift_a, mean_b) + torch.outer(mean_a, shift_b)
        return shifted + torch.outer(shift_a, shift_b)

    def covariance(self, pair: int = 0) -> Tensor:
        """Covariance of units of a pair, shape [units, units], float64."""
        first, second = self.pairs[pair]
        (mean_a, _), (mean_b, _) = self._single(first), self._single(second)
        return self._cross(pair) - torch.outer(mean_a, mean_b)

    def pearson(self, pair: int = 0) -> Tensor:
        """Correlation of units of a pair, shape [units, units], float64; 0 where one is constant (Li et al. 2016)."""
        scale_a, scale_b = (self._scale(number) for number in self.pairs[pair])
        return self.covariance(pair) * torch.outer(scale_a, scale_b)

    def alive(self) -> tuple[Tensor, ...]:
        """Units of every network that vary over the samples, bool, shape [units] each; the others are dead."""
        return tuple(self._alive(number) for number in range(len(self._shifts)))

    def _single(self, network: int) -> tuple[Tensor, Tensor]:
        """Mean and variance of the shifted units of one network."""
        parts = self._total.split(self._sizes)
        mean = parts[2 * network] / self.count
        return mean, (parts[2 * network + 1] / self.count - mean * mean).clamp_min(0.0)

    def _cross(self, pair: int) -> Tensor:
        """Mean products of the shifted units of a pair."""
        first, second = self.pairs[pair]
        part = self._total.split(self._sizes)[2 * len(self._shifts) + pair]
        return part.reshape(len(self._shifts[first]), len(self._shifts[second])) / self.count

    def _scale(self, network: int) -> Tensor:
        _, variance = self._single(network)
        return torch.where(self._alive(network), variance.rsqrt(), 0.0)

    def _alive(self, network: int) -> Tensor:
        mean, variance = self._single(network)
        return variance > _DEAD * ((mean + self._shifts[network].double()) ** 2)
