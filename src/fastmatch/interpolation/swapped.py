"""Units of one layer that candidates swap, as tensors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Swapped(NamedTuple):
    """Swaps in one layer of K candidates, the same number E of each.

    Attributes
    ----------
    networks, first, second
        Network of each swap and its two places, int64, shape [K, E].
    units
        Places that change, int64, shape [K, 2 E].
    once
        1 where a place stands first among those of its candidate, else 0, shape [K, 2 E].
    signs
        How often the difference (second - first) of each swap is added to each place, shape [K, 2 E, E].
    """

    networks: Tensor
    first: Tensor
    second: Tensor
    units: Tensor
    once: Tensor
    signs: Tensor

    @classmethod
    def of(cls, swaps: np.ndarray, like: Tensor) -> Swapped | None:
        """Read two places for each network, shape [K, networks, 2]; None if they are the same throughout."""
        first, second = swaps[..., 0], swaps[..., 1]
        still = first == second
        wanted = int((~still).sum(1).max())
        if not wanted:
            return None
        networks = np.argsort(still, axis=1, kind="stable")[:, :wanted]
        first, second = (np.take_along_axis(places, networks, 1) for places in (first, second))
        units = np.concatenate([first, second], 1)
        again = np.tril(units[:, :, None] == units[:, None, :], -1).any(2)
        signs = (units[:, :, None] == first[:, None]).astype(np.int64) - (units[:, :, None] == second[:, None])
        places = (torch.from_numpy(part).to(like.device) for part in (networks, first, second, units))
        factors = (torch.from_numpy(part).to(like) for part in (~again, signs))
        return cls(*places, *factors)

    def shares(self, rows: Tensor) -> Tensor:
        """What of each swap's difference every place gets at every point, [K, points, 2 E, E].

        ``rows``: coefficients of the networks, shape [points, networks].
        """
        return self.signs[:, None] * rows.T[self.networks].transpose(1, 2)[:, :, None]

    def with_inputs(self, weights: Tensor, inputs: Swapped) -> Tensor:
        """Weights [K, E, inputs] of the networks that units are swapped in, where these swap inputs as well."""
        same = self.networks[:, :, None] == inputs.networks[:, None]  # one swap of a network at most
        columns = torch.arange(weights.shape[2], device=weights.device).expand(weights.shape).contiguous()
        for number in range(inputs.networks.shape[1]):
            chosen = same[:, :, number, None]
            first, second = (
                places[:, number, None, None].expand(chosen.shape) for places in (inputs.first, inputs.second)
            )
            for at, source in ((first, second), (second, first)):
                columns = columns.scatter(2, at, torch.where(chosen, source, columns.gather(2, at)))
        return weights.gather(2, columns)
