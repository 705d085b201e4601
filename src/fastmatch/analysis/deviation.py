"""How far the function between two networks is from the combination of their functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastmatch.errors import OptionError
from fastmatch.interpolation.barrier import alpha_grid
from fastmatch.interpolation.evaluator import check_networks
from fastmatch.interpolation.forward import forward
from fastmatch.interpolation.stack import Stack
from fastmatch.symmetry import eval_mode


@dataclass(frozen=True)
class Deviation:
    """Deviations of outputs along the line between two networks.

    Attributes
    ----------
    alphas
        Points of the line.
    mean, largest
        Mean and maximum of the absolute deviation over inputs and outputs, float64, one for each alpha.
    """

    alphas: np.ndarray
    mean: np.ndarray
    largest: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {name: getattr(self, name).tolist() for name in ("alphas", "mean", "largest")}


@torch.no_grad()
def output_deviation(
    module: nn.Module, a: Mapping[str, Tensor], b: Mapping[str, Tensor], inputs: Tensor, *, alphas: int = 11
) -> Deviation:
    """``|f(x; (1 - alpha) a + alpha b) - (1 - alpha) f(x; a) - alpha f(x; b)|`` over the inputs.

    Theorem 3.1 of Entezari et al. 2022 bounds it for networks of one hidden layer at random initialisation: a
    permutation of b exists under which it falls with the width h as ``h ** (-1 / (2 d + 4))``, d the inputs' dimension.

    Parameters
    ----------
    module
        The architecture; its own weights are neither used nor changed. It runs in evaluation mode.
    a, b
        State dicts, b after its permutation. Statistics of BatchNorm are interpolated as they are.
    inputs
        Shape [examples, ...], all in one batch.

    Raises
    ------
    OptionError
        Fewer than two alphas, or no inputs.
    ModelError
        A network does not fit the module.
    DataError
        The network does not take the inputs.
    """
    grid = alpha_grid(alphas)
    if not len(inputs):
        raise OptionError("there are no inputs to compare outputs on; give at least one")
    check_networks(module, [a, b])
    stack = Stack([a, b])
    with eval_mode(module):
        first, second = (forward(module, state, inputs).double() for state in (a, b))
        found = []
        for alpha in grid.tolist():
            between = forward(module, stack.combine([1 - alpha, alpha]), inputs).double()
            gap = (between - (1 - alpha) * first - alpha * second).abs()
            found.append((gap.mean().item(), gap.max().item()))
    mean, largest = np.array(found).T
    return Deviation(grid, mean, largest)
