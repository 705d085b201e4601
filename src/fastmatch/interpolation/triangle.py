"""Barriers over triangles: how far the loss and the error rise among the combinations of three networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor, nn

from fastmatch.data import DataSet
from fastmatch.errors import OptionError
from fastmatch.interpolation.barrier import Curve, Shape, evaluation_to_json, heights_above, sharpen
from fastmatch.interpolation.evaluation import Evaluation, Precision
from fastmatch.interpolation.evaluator import BatchNormMode, Evaluator

EDGES = {"ab": (0, 1), "ac": (0, 2), "bc": (1, 2)}


@dataclass(frozen=True)
class TriangleHeight:
    """One barrier of a triangle under three definitions, with standard errors, and where ``linear`` is attained.

    linear
        Largest deviation above the plane through the corner values: eq. 1 of Entezari et al. 2022 with three networks.
        Networks that are connected simultaneously (Sharma et al. 2024) have none.
    mean
        Largest value minus the mean of the corners.
    max
        Largest value minus the largest corner.

    The standard errors are those of the difference at the attaining point, paired over examples; the largest of noisy
    values is biased upward. ``coefficients`` are those of the three networks.
    """

    linear: float
    mean: float
    max: float
    linear_se: float
    mean_se: float
    max_se: float
    coefficients: tuple[float, float, float]


@dataclass(frozen=True)
class Surface:
    """Loss and error over the barycentric grid, a row of ``evaluation`` for each point; see :func:`triangle`."""

    evaluation: Evaluation

    @property
    def loss(self) -> TriangleHeight:
        """Barrier of the cross-entropy, in nats."""
        return triangle_height(self.evaluation.coefficients, self.evaluation.losses)

    @property
    def error(self) -> TriangleHeight:
        """Barrier of the 0-1 error, as a fraction."""
        return triangle_height(self.evaluation.coefficients, self.evaluation.errors.astype(np.float64))

    @cached_property
    def edges(self) -> dict[str, Curve]:
        """Curves ``"ab"``, ``"ac"`` and ``"bc"``; alpha 0 is the network named first."""
        whole, curves = self.evaluation, {}
        for name, (start, end) in EDGES.items():
            rows = np.flatnonzero(whole.coefficients[:, 3 - start - end] == 0)
            line = whole.at(rows[np.argsort(whole.coefficients[rows, end])])
            curves[name] = Curve(line.coefficients[:, end], line)
        return curves


@dataclass(frozen=True)
class Triangle:
    """Surfaces and barriers of three networks: ``surfaces["train" | "test"]``.

    ``coefficients`` has a row of three for each point of the grid, in the order of :func:`triangle`.
    """

    grid: int
    coefficients: np.ndarray
    surfaces: Mapping[str, Surface]

    @property
    def precision(self) -> Precision:
        """Precision of the figures."""
        return self.surfaces["test"].evaluation.precision

    def to_json(self) -> dict[str, Any]:
        """Plain data: the grid, surfaces with standard errors and number of examples, barriers, those of the edges."""
        return {
            "grid": self.grid,
            "coefficients": self.coefficients.tolist(),
            "surfaces": {split: evaluation_to_json(surface.evaluation) for split, surface in self.surfaces.items()},
            "barriers": {split: _heights(surface) for split, surface in self.surfaces.items()},
            "edges": {
                edge: {split: _heights(surface.edges[edge]) for split, surface in self.surfaces.items()}
                for edge in EDGES
            },
        }


def _heights(part: Surface | Curve) -> dict[str, Any]:
    return {"loss": vars(part.loss), "error": vars(part.error)}


def triangle_height(coefficients: np.ndarray, values: np.ndarray) -> TriangleHeight:
    """Barrier of per-example ``values``, shape [points, examples], under the three definitions.

    ``coefficients``, shape [points, 3], holds the three corners among its rows.
    """
    corners = values[coefficients.argmax(0)]
    heights, at = heights_above(values, coefficients, corners)
    first, second, third = coefficients[at].tolist()
    return TriangleHeight(**heights, coefficients=(first, second, third))


def barycentric_grid(grid: int) -> np.ndarray:
    """Coefficients of the points of a triangle with ``grid`` points on each edge, shape [grid (grid + 1) / 2, 3].

    The share of a falls from row to row, and where it is the same that of b: the first row is a, the last is c.
    """
    steps = grid - 1
    counts = [(i, j, steps - i - j) for i in range(steps, -1, -1) for j in range(steps - i, -1, -1)]
    return np.array(counts, dtype=np.float64) / steps


def triangle(
    module: nn.Module,
    networks: Sequence[Mapping[str, Tensor]],
    data: DataSet,
    *,
    grid: int = 9,
    bn: BatchNormMode = "reset",
    precision: Precision = "highest",
    memory: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Triangle:
    """Loss and error over the triangle that three networks span, and its barriers.

    Every point of the grid is evaluated once: corners and edges are points of it.

    Parameters
    ----------
    module
        The architecture; its own weights are neither used nor changed.
    networks
        Three state dicts a, b and c of ``module``, each after its permutation.
    data
        Both splits are evaluated; the training split also gives BatchNorm and repair their statistics.
    grid
        Points on each edge, corners included: grid (grid + 1) / 2 in all. The share of a falls from row to row, and
        where it is the same that of b, so that the first row is a and the last is c.
    bn, memory
        See :func:`fastmatch.evaluate`.
    precision
        See :func:`fastmatch.evaluate`; corners and maxima are evaluated in ``"highest"`` in any case.
    progress
        Called with (points done, points).

    Raises
    ------
    OptionError
        Other than three networks, or fewer than two points on an edge.
    ModelError, DataError
        As :func:`fastmatch.evaluate`.
    """
    if len(networks) != 3:
        raise OptionError(f"a triangle has three corners, received {len(networks)} networks")
    if grid < 2:
        raise OptionError(f"grid must be at least 2 (the corners), received {grid}")
    rows = barycentric_grid(grid)
    splits = {"train": data.train, "test": data.test}
    evaluator = Evaluator(module, splits, data.train, bn=bn, precision=precision, memory=memory)
    results = sharpen(
        evaluator.evaluate(networks, rows, progress=progress),
        [Shape(list(range(len(rows))), rows, rows.argmax(0).tolist())],
        lambda places: evaluator.evaluate(networks, rows[places], exact=True),
    )
    return Triangle(grid, rows, {split: Surface(result) for split, result in results.items()})
