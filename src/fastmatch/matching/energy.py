"""What annealing lowers: the error of averaged networks, or the barriers between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np
from torch import Tensor, nn

from fastmatch.data import Split
from fastmatch.errors import OptionError
from fastmatch.interpolation import alpha_grid, evaluate
from fastmatch.interpolation.chain_means import Quantity

Objective = Literal["error", "barrier"]


class Energy(NamedTuple):
    """Points between networks, and what their figures say of permutations.

    Attributes
    ----------
    rows
        Coefficients of the networks at each point, shape [points, networks].
    quantity
        What is measured at the points.
    lines
        What lies on the straight lines between the ends, shape [points]; 0 for errors.
    pairs
        Number of pairs that the points belong to, as many each; 0 for the error of the average.
    """

    rows: np.ndarray
    quantity: Quantity
    lines: np.ndarray
    pairs: int

    def of(self, values: np.ndarray) -> np.ndarray:
        """Energies, shape [K], of figures at the points, shape [K, points]."""
        above = values - self.lines
        if not self.pairs:
            return above[:, 0]
        heights: np.ndarray = above.reshape(len(values), self.pairs, -1).max(2)
        return np.maximum(heights, 0.0).mean(1)  # ends of a line lie on it


def energy_of(
    objective: Objective, module: nn.Module, networks: Sequence[Mapping[str, Tensor]], data: Split, alphas: int
) -> Energy:
    """Energy by the name of its objective.

    ``"error"``: the 0-1 error of the average of all networks (SA2 of Entezari et al. 2022). ``"barrier"``: the mean
    over pairs of the barrier of the loss by their equation 1 (SA1), on ``linspace(0, 1, alphas)``.

    Raises
    ------
    OptionError
        The objective is unknown, or there are fewer than three alphas.
    """
    count = len(networks)
    if objective == "error":
        return Energy(np.full((1, count), 1 / count), "error", np.zeros(1), 0)
    if objective != "barrier":
        raise OptionError(f"objective {objective!r} is unknown; choose error or barrier")
    if alphas < 3:
        raise OptionError(f"a barrier needs a point between the ends: at least 3 alphas, received {alphas}")
    inner = alpha_grid(alphas)[1:-1]
    pairs = list(combinations(range(count), 2))
    points = np.zeros((len(pairs), len(inner), count))
    for number, (first, second) in enumerate(pairs):
        points[number, :, first], points[number, :, second] = 1 - inner, inner
    rows = points.reshape(-1, count)
    ends = evaluate(module, networks, np.eye(count), data).loss
    return Energy(rows, "loss", rows @ ends, len(pairs))
