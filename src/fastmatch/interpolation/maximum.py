"""Barriers alone, without the curves: alphas race for the largest deviation of the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from fastmatch.data import DataSet
from fastmatch.interpolation.barrier import alpha_grid
from fastmatch.interpolation.combinations import Combinations
from fastmatch.interpolation.evaluator import BatchNormMode, Evaluator
from fastmatch.interpolation.race import Maximum, race
from fastmatch.permutation import Permutation


@dataclass(frozen=True)
class BarrierMaxima:
    """Loss barriers (``linear``) of a pair: ``maxima["unaligned" | "aligned"]["train" | "test"]``."""

    alphas: np.ndarray
    maxima: Mapping[str, Mapping[str, Maximum]]

    def to_json(self) -> dict[str, Any]:
        """Plain data: alphas, and each barrier with its standard error, its alpha and what was evaluated for it."""
        return {
            "alphas": self.alphas.tolist(),
            "barriers": {
                pair: {split: {"loss": _to_json(found)} for split, found in splits.items()}
                for pair, splits in self.maxima.items()
            },
        }


def _to_json(found: Maximum) -> dict[str, Any]:
    return {
        "linear": found.height,
        "linear_se": found.height_se,
        "alpha": found.alpha,
        "evaluated": found.evaluated,
        "total": found.total,
    }


def barrier_maxima(
    module: nn.Module,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    data: DataSet,
    *,
    permutation: Permutation | None = None,
    alphas: int = 25,
    bn: BatchNormMode = "reset",
    memory: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> BarrierMaxima:
    """Loss barriers of :func:`fastmatch.barrier` without evaluating every alpha on every example.

    See :func:`fastmatch.interpolation.race.race` for how sure the maximum is: it is that of the whole curve but for the
    chance of three standard errors.

    Parameters
    ----------
    a, b, data, permutation, alphas, bn, memory
        See :func:`fastmatch.barrier`.
    progress
        Called with (curves done, curves).

    Raises
    ------
    OptionError, ModelError, DataError
        As :func:`fastmatch.barrier`.
    """
    grid = alpha_grid(alphas)
    splits = {"train": data.train.shuffle(seed=0), "test": data.test.shuffle(seed=0)}
    evaluator = Evaluator(module, splits, splits["train"], bn=bn, memory=memory)
    others = {"unaligned": b} if permutation is None else {"unaligned": b, "aligned": permutation.apply(b)}
    maxima: dict[str, dict[str, Maximum]] = {}
    for number, (pair, other) in enumerate(others.items()):
        with evaluator.combinations([a, other], len(others) * alphas, again=True) as combinations:
            maxima[pair] = {}
            for place, (name, split) in enumerate(splits.items()):
                maxima[pair][name] = race(_losses(combinations, grid, name), grid, len(split))
                if progress is not None:
                    progress(number * len(splits) + place + 1, len(others) * len(splits))
    return BarrierMaxima(grid, maxima)


def _losses(combinations: Combinations, grid: np.ndarray, split: str) -> Callable[[int, slice], np.ndarray]:
    def losses(row: int, places: slice) -> np.ndarray:
        combinations.load(np.array([1 - grid[row], grid[row]]))
        found: np.ndarray = combinations.score(split, places).losses.cpu().numpy()
        return found

    return losses
