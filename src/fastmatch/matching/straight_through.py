"""Straight-through descent: the assignment that lowers the training loss between two networks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from fastmatch import assignment
from fastmatch.assignment import Assignment
from fastmatch.data import Split
from fastmatch.errors import OptionError
from fastmatch.matching.activations import compare
from fastmatch.matching.joint import insides
from fastmatch.matching.mixture import Mixture, State
from fastmatch.permutation import Permutation
from fastmatch.symmetry import Indices, PermutationSpec

STEPS = 151
BATCH_SIZE = 100
JUDGED_EVERY = 10  # Steps between two looks at the examples held back.
_EXAMPLES = 2000  # That similarities are taken on.
_RATE = 0.03  # First step of a similarity, in standard deviations of its gradient; falls linearly to 0.
_MEMORY, _SCALE_MEMORY = 0.9, 0.99  # Of the mean gradient, and of its mean square over a group (Adam's).


class Descent:
    """Similarities that move along the gradient, and the assignments that are best for them.

    Parameters
    ----------
    similarities
        Of every group that moves, shape [n, n], float64.
    """

    def __init__(self, similarities: Mapping[str, np.ndarray]) -> None:
        self._similarities = dict(similarities)
        self._mean = {name: np.zeros_like(matrix) for name, matrix in similarities.items()}
        self._square = dict.fromkeys(similarities, 0.0)
        self._steps = 0
        self._last: dict[str, Assignment] = {}

    def step(self, gradients: Mapping[str, np.ndarray], rate: float) -> None:
        """Take the similarities against the gradient, by about ``rate`` an entry."""
        self._steps += 1
        for name, gradient in gradients.items():
            mean = self._mean[name]
            mean += (1 - _MEMORY) * (gradient - mean)
            self._square[name] += (1 - _SCALE_MEMORY) * (float(np.square(gradient).mean()) - self._square[name])
            scale = np.sqrt(self._square[name] / (1 - _SCALE_MEMORY**self._steps)) * (1 - _MEMORY**self._steps)
            if scale > 0:
                self._similarities[name] -= (rate / scale) * mean

    def solve(self) -> dict[str, np.ndarray]:
        """Best index array of every group."""
        for name, matrix in self._similarities.items():
            self._last[name] = assignment.solve(matrix, warm=self._last.get(name))
        return {name: answer.columns for name, answer in self._last.items()}
