"""Problems in the plane: which class networks say where, and the lines on which their units switch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from fastmatch.analysis.layers import find_layers
from fastmatch.errors import ModelError, OptionError
from fastmatch.interpolation.evaluator import check_networks
from fastmatch.interpolation.forward import float_type, forward
from fastmatch.interpolation.layers import arguments, reads_input
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
        Of each class, float64, shape [networks, points along y, points along x, classes]: softmax of the outputs, or
        the sigmoid of a single one as that of the second of two classes.
    lines
        Units of the layer that runs first switch where ``w1 x + w2 y + b = 0``: (w1, w2, b), float64, shape
        [networks, units, 3].
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
        A network does not fit the module, the layer that runs first is not a linear one of the two coordinates, or the
        outputs are not a row of scores for each point.
    DataError
        The network does not take points of the plane.
    SymmetryError
        The network cannot be exported.

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
    check_networks(module, networks)
    low, high = inputs.amin(0).tolist(), inputs.amax(0).tolist()
    x, y = (np.linspace(low[i] - margin, high[i] + margin, points) for i in (0, 1))
    grid = torch.from_numpy(np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)).to(inputs)
    stack, probabilities, lines = Stack(networks), [], []
    with eval_mode(module):
        forward(module, networks[0], grid[:2])  # what does not fit is said before the network is exported
        weight, bias = _first_layer(module, grid[:2].to(float_type(module.state_dict())))
        for row in rows:
            state = stack.combine(row)
            probabilities.append(_probabilities(forward(module, state, grid)).view(points, points, -1).cpu().numpy())
            lines.append(_lines(state, weight, bias))
    return Boundaries(x, y, np.stack(probabilities), np.stack(lines))


def _first_layer(module: nn.Module, inputs: Tensor) -> tuple[str, str | None]:
    """Names of weight and bias of the layer that runs first."""
    layered = find_layers(module, inputs)
    names = {node: source.name for node, source in layered.graph.placeholders() if source.kind == "state"}
    given = [node for node, source in layered.graph.placeholders() if source.kind == "input"]
    node = layered.layers[0].node
    weight, bias = (*arguments(node)[1:3], None)[:2] if node is not None else (None, None)
    if node is None or not reads_input(node, given) or (bias is not None and bias not in names):
        raise ModelError(f"{type(module).__name__} begins with other than a linear layer of two inputs; lines need one")
    return names[weight], None if bias is None else names[bias]


def _probabilities(outputs: Tensor) -> Tensor:
    if outputs.dim() != 2:
        raise ModelError(f"outputs have shape {tuple(outputs.shape)}; boundaries need a row of scores for each point")
    scores = outputs.double()
    if scores.shape[1] > 1:
        return scores.softmax(1)
    return torch.cat([(-scores).sigmoid(), scores.sigmoid()], 1)


def _lines(state: Mapping[str, Tensor], weight: str, bias: str | None) -> np.ndarray:
    slopes = state[weight].double()
    offset = slopes.new_zeros(len(slopes)) if bias is None else state[bias].double()
    return torch.cat([slopes, offset[:, None]], 1).cpu().numpy()
