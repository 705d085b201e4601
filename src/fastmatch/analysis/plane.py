"""The plane through three networks: loss and error over it, and where other networks lie beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fastmatch.data import DataSet
from fastmatch.errors import ModelError, OptionError
from fastmatch.interpolation import Evaluation
from fastmatch.interpolation.barrier import evaluation_to_json
from fastmatch.interpolation.evaluator import BatchNormMode, Evaluator, check_networks

State = Mapping[str, Tensor]
_FLAT = 1e-6  # Height of a triangle over its longest side, below which three networks lie on one line.


class Projection(NamedTuple):
    """Points of some networks on a plane, shape [networks, 2], and their distances from it, shape [networks]."""

    points: np.ndarray
    distances: np.ndarray


@dataclass(frozen=True)
class Plane:
    """Loss and error over the plane through three networks, in Euclidean coordinates of the weights.

    The first network is the origin, the second lies on the positive x axis, the third above it.

    Attributes
    ----------
    corners
        Points of the three networks, shape [3, 2].
    x, y
        Coordinates of the grid's columns and rows.
    evaluations
        By ``"train"`` and ``"test"``: a row for each point of the grid, y before x, then the three corners.
    paths
        Other networks by name, projected at right angles.
    """

    corners: np.ndarray
    x: np.ndarray
    y: np.ndarray
    evaluations: Mapping[str, Evaluation]
    paths: Mapping[str, Projection]

    def surface(self, split: str = "train", quantity: str = "loss") -> np.ndarray:
        """Loss (nats) or error (fraction) over the grid, shape [y, x]."""
        values: np.ndarray = getattr(self.evaluations[split], quantity)
        return values[:-3].reshape(len(self.y), len(self.x))

    def to_json(self) -> dict[str, Any]:
        """Plain data: corners, grid, figures and projected paths."""
        return {
            "corners": self.corners.tolist(),
            "x": self.x.tolist(),
            "y": self.y.tolist(),
            "evaluations": {split: evaluation_to_json(found) for split, found in self.evaluations.items()},
            "paths": {
                name: {"points": path.points.tolist(), "distances": path.distances.tolist()}
                for name, path in self.paths.items()
            },
        }


def plane(
    module: nn.Module,
    networks: Sequence[State],
    data: DataSet,
    *,
    paths: Mapping[str, Sequence[State]] | None = None,
    grid: int = 21,
    margin: float = 0.2,
    bn: BatchNormMode = "reset",
    progress: Callable[[int, int], None] | None = None,
) -> Plane:
    """Evaluate the plane through three networks on a grid, and project trajectories on it.

    Every point is a combination of the three networks with coefficients that sum to 1, some of them negative or above
    1. Distances are those of the parameters; buffers play no part in them.

    Parameters
    ----------
    networks
        Three state dicts of ``module``, each after its permutation.
    paths
        State dicts by name of path, such as the checkpoints of a training run, after their permutation.
    grid
        Points along either axis.
    margin
        What is shown around corners and paths, as a share of their extent.
    bn
        See :func:`fastmatch.evaluate`.
    progress
        Called with (points done, points).

    Raises
    ------
    OptionError
        Other than three networks, three on one line, a grid below 2, or a margin below 0.
    ModelError
        A network, of a path too, does not fit the module, or has parameters that are NaN or infinite.
    DataError
        As :func:`fastmatch.evaluate`.

    References
    ----------
    Sharma et al. 2024, appendix I, figures 22 and 23.
    """
    if len(networks) != 3:
        raise OptionError(f"a plane goes through three networks, received {len(networks)}")
    if grid < 2 or not 0 <= margin < math.inf:
        raise OptionError(f"a plane needs a grid of at least 2 and a margin of at least 0, received {grid}, {margin}")
    for states in (networks, *(paths or {}).values()):
        _check_places(module, states)
    frame = _Frame([name for name, _ in module.named_parameters()], networks)
    projected = {name: frame.project(states) for name, states in (paths or {}).items()}
    shown = np.concatenate([frame.corners, *(path.points for path in projected.values())])
    low, high = shown.min(0), shown.max(0)
    low, high = low - margin * (high - low), high + margin * (high - low)
    x, y = (np.linspace(low[axis], high[axis], grid) for axis in (0, 1))
    points = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    evaluator = Evaluator(module, {"train": data.train, "test": data.test}, data.train, bn=bn)
    rows = np.concatenate([frame.coefficients(points), np.eye(3)])
    return Plane(frame.corners, x, y, evaluator.evaluate(networks, rows, progress=progress), projected)


def _check_places(module: nn.Module, networks: Sequence[State]) -> None:
    check_networks(module, networks)
    for number, network in enumerate(networks):
        if broken := [name for name, _ in module.named_parameters() if not network[name].isfinite().all()]:
            raise ModelError(f"network {number} has NaN or infinite values in {broken[0]!r}; it is nowhere on a plane")


class _Frame:
    """Coordinates on the plane through three networks; inner products are summed in float64, tensor by tensor."""

    def __init__(self, names: Sequence[str], networks: Sequence[State]) -> None:
        self._names, self._networks = names, networks
        (first, _, _), (mixed, second, _) = (self._products(network) for network in networks[1:])
        length = math.sqrt(first)
        along = mixed / length if length else 0.0
        height = math.sqrt(max(second - along**2, 0.0))
        if min(length, height) <= _FLAT * max(length, math.sqrt(second)):
            raise OptionError("the three networks lie on one line, so that no plane is theirs; use a barrier instead")
        self.corners = np.array([[0.0, 0.0], [length, 0.0], [along, height]])

    def project(self, states: Sequence[State]) -> Projection:
        """Points of networks on the plane, and their distances from it."""
        (length, _), (along, height) = self.corners[1:]
        products = np.array([self._products(state) for state in states]).reshape(-1, 3)
        x = products[:, 0] / length
        y = (products[:, 1] - along * x) / height
        return Projection(np.stack([x, y], 1), np.sqrt(np.maximum(products[:, 2] - x**2 - y**2, 0.0)))

    def coefficients(self, points: np.ndarray) -> np.ndarray:
        """Coefficients of the three networks that give points, shape [points, 3]; each row sums to 1."""
        (length, _), (along, height) = self.corners[1:]
        third = points[:, 1] / height
        second = (points[:, 0] - third * along) / length
        return np.stack([1 - second - third, second, third], 1)

    def _products(self, state: State) -> tuple[float, float, float]:
        """Inner products of ``state - a`` with ``b - a``, with ``c - a``, and with itself."""
        origin, first, second = self._networks
        total = torch.zeros(3, dtype=torch.float64)
        for name in self._names:
            base = origin[name].double()
            step = (state[name].double() - base).reshape(-1)
            sides = (first[name].double() - base, second[name].double() - base, step)
            total += torch.stack([step @ side.reshape(-1) for side in sides]).cpu()
        one, other, own = total.tolist()
        return one, other, own
