"""The network half-way between two, on training examples: what permutations are judged by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from fastmatch.data import Split
from fastmatch.errors import DataError
from fastmatch.interpolation import Evaluator
from fastmatch.symmetry import PermutationSpec

HELD = 500
_SHARE = 5  # Of few examples, one in five is held back.
_SEED = 7  # Not that of subsets and orders of training: what is held back is no prefix of either.


WITHOUT_DATA = "without data: weight matching; with data, activations would be tried too"


class Held(NamedTuple):
    """Training examples to learn a permutation from, and others to judge it by."""

    fit: Split
    held: Split


def hold_back(data: Split) -> Held:
    """Hold back a fixed random subset: 500 examples, or a fifth of fewer than 2500.

    Methods that learn from labels learn from ``fit`` and keep what is best on ``held``, so that what was learned by
    heart is not chosen.

    Raises
    ------
    DataError
        Fewer than four examples.
    """
    if len(data) < 4:
        raise DataError(f"{len(data)} training examples are too few to hold some back; give at least 4")
    mixed = data.shuffle(_SEED)
    count = max(2, min(HELD, len(data) // _SHARE))
    return Held(
        Split(mixed.inputs[count:], mixed.labels[count:]),
        Split(mixed.inputs[:count], mixed.labels[:count]),
    )


def lowest(losses: Mapping[str, float]) -> str:
    """Name of the lowest loss. NaN, of a network that overflows between others, counts as infinite."""
    return min(losses, key=lambda name: math.inf if math.isnan(losses[name]) else losses[name])


class Midpoint:
    """Loss half-way between a and permuted b, in nats; BatchNorm takes its statistics from the same examples.

    Parameters
    ----------
    a, b
        State dicts of ``module``.
    examples
        Training examples.
    """

    def __init__(
        self,
        spec: PermutationSpec,
        module: nn.Module,
        a: Mapping[str, Tensor],
        b: Mapping[str, Tensor],
        examples: Split,
    ) -> None:
        self._spec, self._a, self._b = spec, a, b
        self._evaluator = Evaluator(module, {"held": examples}, examples)

    def loss(self, indices: Mapping[str, np.ndarray]) -> float:
        """Mean cross-entropy of ``(a + P b) / 2``, P with these index arrays."""
        networks = [self._a, self._spec.permute(self._b, indices)]
        return float(self._evaluator.evaluate(networks, np.array([[0.5, 0.5]]))["held"].loss[0])
