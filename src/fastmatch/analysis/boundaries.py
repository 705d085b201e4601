"""Problems in the plane: which class networks say where, and the lines on which their units switch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from fastmatch.errors import ModelError, OptionError
from fastmatch.interpolation.forward import forward
from fastmatch.interpolation.stack import Stack
from fastmatch.symmetry import eval_mode


@dataclass(frozen=True)
class Boundaries:
    """Decisions of some networks on a grid in the plane.

    Attributes
    ----------
    x, y
        Coordinates of the grid, shape [points].
    probabilities
        Of each class, float64, shape [networks, points along y, points along x, classes].
    lines
        First-layer units switch where ``w1 x + w2 y + b = 0``: (w1, w2, b), float64, shape [networks, units, 3].
    """

    x: np.ndarray
    y: np.ndarray
    probabilities: np.ndarray
    lines: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {name: value.tolist() for name, value in vars(self).items()}


@torch.no_grad()
def boundaries(
    module: nn.Module,
    networks: Sequence[Mapping[str, Tensor]],
    coefficients: ArrayLike,
    inputs: Tensor,
    *,
    points: int = 200,
    margin: float = 0.3,
) -> Boundaries:
    """Decisions and unit lines of ``sum_m coefficients[k, m] * networks[m]``, for every row k.

    Parameters
    ----------
    module
        The architecture, of two inputs; it runs in evaluation mode. Statistics of BatchNorm are combined as they are.
    networks
        State dicts.
    coefficients
        Shape [rows, networks].
    inputs
        Examples, shape [examples, 2]: the grid covers them, and ``margin`` beyond on every side.
    points
        Along each side of the grid.

    Raises
    ------
    OptionError
        The inputs have not two coordinates, there are fewer than two points, or coefficients and networks differ in
        number.
    ModelError
        No linear layer takes the two coordinates.

    References
    ----------
    Kalaivanan 2023, section 5.1, figure 5.1.
    """
    rows = np.atleast_2d(np.asarray(coefficients, dtype=np.float64))
    if inputs.dim() != 2 or inputs.shape[1] != 2:
        raise OptionError(f"inputs have shape {tuple(inputs.shape)}; boundaries are drawn for points of the plane")
    if points < 2:
        raise OptionError(f"received {points} points for each side of the grid; use at least 2")
    if rows.shape[1] != len(networks):
        raise OptionError(f"{rows.shape[1]} coefficients a row for {len(networks)} networks; give one for each")
    layer = next((name for name, part in module.named_modules() if _takes_the_plane(part)), None)
    if layer is None:
        raise ModelError(f"{type(module).__name__} has no linear layer of two inputs; boundaries need one")
    low, high = inputs.amin(0).tolist(), inputs.amax(0).tolist()
    x, y = (np.linspace(low[i] - margin, high[i] + margin, points) for i in (0, 1))
    grid = torch.from_numpy(np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)).to(inputs)
    stack, probabilities, lines = Stack(networks), [], []
    with eval_mode(module):
        for row in rows:
            state = stack.combine(row)
            logits = forward(module, state, grid).double()
            probabilities.append(logits.softmax(1).view(points, points, -1).cpu().numpy())
            lines.append(_lines(state, f"{layer}." if layer else ""))
    return Boundaries(x, y, np.stack(probabilities), np.stack(lines))


def _takes_the_plane(part: nn.Module) -> bool:
    return isinstance(part, nn.Linear) and part.in_features == 2


def _lines(state: Mapping[str, Tensor], prefix: str) -> np.ndarray:
    weight = state[f"{prefix}weight"].double()
    bias = state.get(f"{prefix}bias", weight.new_zeros(len(weight))).double()
    return torch.cat([weight, bias[:, None]], 1).cpu().numpy()
