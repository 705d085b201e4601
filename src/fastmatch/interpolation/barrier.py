"""Barriers: how far the loss and the error rise on the straight line between two networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from fastmatch.data import DataSet
from fastmatch.errors import OptionError
from fastmatch.interpolation.evaluation import Evaluation, Precision, standard_error
from fastmatch.interpolation.evaluator import BatchNormMode, Evaluator
from fastmatch.permutation import Permutation

DEFINITIONS = ("linear", "mean", "max")


@dataclass(frozen=True)
class BarrierHeight:
    """One barrier under three definitions, each with its standard error, and where ``linear`` is attained.

    linear
        Largest deviation above the straight line between the end values (Entezari et al. 2022, eq. 1).
    mean
        Largest value minus the mean of the ends (Frankle et al. 2020).
    max
        Largest value minus the larger end (epsilon of Kalaivanan 2023).

    The standard errors are those of the difference at the attaining alpha, paired over examples. The largest of noisy
    values is biased upward: a barrier within two standard errors of zero is no barrier.
    """

    linear: float
    mean: float
    max: float
    linear_se: float
    mean_se: float
    max_se: float
    alpha: float


@dataclass(frozen=True)
class Curve:
    """Loss and error along ``theta(alpha) = (1 - alpha) a + alpha b``."""

    alphas: np.ndarray
    evaluation: Evaluation

    @property
    def loss(self) -> BarrierHeight:
        """Barrier of the cross-entropy, in nats."""
        return barrier_height(self.alphas, self.evaluation.losses)

    @property
    def error(self) -> BarrierHeight:
        """Barrier of the 0-1 error, as a fraction."""
        return barrier_height(self.alphas, self.evaluation.errors.astype(np.float64))


@dataclass(frozen=True)
class Barrier:
    """Curves and barriers of a pair: ``curves["unaligned" | "aligned"]["train" | "test"]``."""

    alphas: np.ndarray
    curves: Mapping[str, Mapping[str, Curve]]

    @property
    def precision(self) -> Precision:
        """Precision of the figures."""
        return self.curves["unaligned"]["test"].evaluation.precision

    def to_json(self) -> dict[str, Any]:
        """Plain data: alphas, curves with standard errors and number of examples, barriers."""
        return {
            "alphas": self.alphas.tolist(),
            "curves": self._map(lambda curve: evaluation_to_json(curve.evaluation)),
            "barriers": self._map(lambda curve: {"loss": vars(curve.loss), "error": vars(curve.error)}),
        }

    def _map(self, function: Callable[[Curve], Any]) -> dict[str, dict[str, Any]]:
        return {
            pair: {split: function(curve) for split, curve in splits.items()} for pair, splits in self.curves.items()
        }


def evaluation_to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Plain data: a list of means and one of standard errors for loss and error, and the number of examples."""
    values = {name: getattr(evaluation, name).tolist() for name in ("loss", "loss_se", "error", "error_se")}
    return {**values, "examples": evaluation.examples}


def barrier_height(alphas: np.ndarray, values: np.ndarray) -> BarrierHeight:
    """Barrier of per-example ``values``, shape [alphas, examples], under the three definitions.

    ``alphas`` starts at 0 and ends at 1.
    """
    heights, at = heights_above(values, np.stack([1 - alphas, alphas], 1), values[[0, -1]])
    return BarrierHeight(**heights, alpha=float(alphas[at]))


def heights_above(values: np.ndarray, coefficients: np.ndarray, ends: np.ndarray) -> tuple[dict[str, float], int]:
    """Largest rise of per-example ``values`` above those of the ``ends``, and the row where ``linear`` is attained.

    Parameters
    ----------
    values
        Shape [rows, examples].
    coefficients
        Of the ends in each row, shape [rows, ends].
    ends
        Values of the networks that the rows combine, shape [ends, examples].
    """
    mean = values.mean(1)
    linear = values.copy()
    for shares, end in zip(coefficients.T, ends, strict=True):
        linear -= np.outer(shares, end)
    at, top = int(linear.mean(1).argmax()), int(mean.argmax())
    largest = ends[int(ends.mean(1).argmax())]
    differences = {"linear": linear[at], "mean": values[top] - ends.mean(0), "max": values[top] - largest}
    heights = {name: float(difference.mean()) for name, difference in differences.items()}
    errors = {f"{name}_se": float(standard_error(difference)) for name, difference in differences.items()}
    return heights | errors, at


class Shape(NamedTuple):
    """Rows of an evaluation that make a curve or a surface.

    ``coefficients`` are those of the corners, shape [rows, corners]; ``corners`` are places in ``rows``.
    """

    rows: list[int]
    coefficients: np.ndarray
    corners: list[int]


def sharpen(
    found: Mapping[str, Evaluation], shapes: Sequence[Shape], again: Callable[[np.ndarray], Mapping[str, Evaluation]]
) -> dict[str, Evaluation]:
    """Evaluate what barriers of the loss are read off again in full precision: corners and maxima.

    With other figures another row may be the largest: it is evaluated too, until all that are read off were.

    Parameters
    ----------
    again
        Figures of some rows in full precision, by their numbers.
    """
    if all(evaluation.precision == "highest" for evaluation in found.values()):
        return dict(found)
    result, known = dict(found), set[int]()
    while wanted := _decisive(result, shapes) - known:
        places = np.array(sorted(wanted))
        result = {name: result[name].replaced(places, sharp) for name, sharp in again(places).items()}
        known |= wanted
    return result


def _decisive(found: Mapping[str, Evaluation], shapes: Sequence[Shape]) -> set[int]:
    """Rows that barriers of the loss are read off."""
    rows = {shape.rows[corner] for shape in shapes for corner in shape.corners}
    for evaluation in found.values():
        for shape in shapes:
            losses = evaluation.losses[shape.rows]
            _, at = heights_above(losses, shape.coefficients, losses[shape.corners])
            rows |= {shape.rows[at], shape.rows[int(losses.mean(1).argmax())]}
    return rows


def barrier(
    module: nn.Module,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    data: DataSet,
    *,
    permutation: Permutation | None = None,
    alphas: int = 25,
    bn: BatchNormMode = "reset",
    precision: Precision = "highest",
    memory: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Barrier:
    """Loss and error on the segment from a to b and, given a permutation, from a to ``permutation.apply(b)``.

    Parameters
    ----------
    a, b
        State dicts of ``module``.
    data
        Both splits are evaluated; the training split also gives BatchNorm and repair their statistics.
    alphas
        Number of points, ``linspace(0, 1, alphas)``, both ends included.
    bn, memory
        See :func:`fastmatch.evaluate`.
    precision
        See :func:`fastmatch.evaluate`; ends and maxima are evaluated in ``"highest"`` in any case.
    progress
        Called with (networks done, networks).

    Raises
    ------
    OptionError
        Fewer than two alphas.
    """
    grid = alpha_grid(alphas)
    networks, zeros = [a, b], np.zeros_like(grid)
    if permutation is None:
        rows = np.stack([1 - grid, grid], 1)
    else:
        networks.append(permutation.apply(b))
        # Alpha 0 is network a on both segments: evaluated once.
        rows = np.concatenate([np.stack([1 - grid, grid, zeros], 1), np.stack([1 - grid, zeros, grid], 1)[1:]])
    evaluator = Evaluator(
        module, {"train": data.train, "test": data.test}, data.train, bn=bn, precision=precision, memory=memory
    )
    picks = {"unaligned": list(range(alphas))}
    if permutation is not None:
        picks["aligned"] = [0, *range(alphas, 2 * alphas - 1)]
    line = np.stack([1 - grid, grid], 1)
    results = sharpen(
        evaluator.evaluate(networks, rows, progress=progress),
        [Shape(pick, line, [0, -1]) for pick in picks.values()],
        lambda places: evaluator.evaluate(networks, rows[places], exact=True),
    )
    curves = {
        pair: {split: Curve(grid, result.at(pick)) for split, result in results.items()} for pair, pick in picks.items()
    }
    return Barrier(grid, curves)


def alpha_grid(alphas: int) -> np.ndarray:
    """``linspace(0, 1, alphas)``.

    Raises
    ------
    OptionError
        Fewer than two alphas.
    """
    if alphas < 2:
        raise OptionError(f"alphas must be at least 2 (both ends), received {alphas}")
    return np.linspace(0.0, 1.0, alphas)
