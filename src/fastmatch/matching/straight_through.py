"""Straight-through descent: the assignment that lowers the training loss between two networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fastmatch import assignment
from fastmatch.assignment import Assignment
from fastmatch.data import Split
from fastmatch.matching.activations import compare
from fastmatch.matching.learning import EXAMPLES, STEPS, Progress, Run
from fastmatch.matching.match import Match
from fastmatch.matching.mixture import Mixture, State
from fastmatch.matching.relaxed import held_note, soft_groups
from fastmatch.matching.weights import match_weights
from fastmatch.permutation import Permutation
from fastmatch.symmetry import Graph, Indices, PermutationSpec, wide

RATE = 0.03  # First step of a similarity, in standard deviations of its gradient; falls linearly to 0.
MEMORY, SCALE_MEMORY = 0.9, 0.99  # Of the mean gradient, and of its mean square over a group, as in Adam.
_WEIGHT_RATE = 1e-3  # Of Adam on the weights of the original form.
Matrices = Mapping[str, np.ndarray]


def match_straight_through(
    spec: PermutationSpec,
    module: nn.Module,
    a: State,
    b: State,
    data: Split,
    *,
    seed: int = 0,
    start: Permutation | None = None,
    steps: int = STEPS,
    progress: Progress | None = None,
) -> Match:
    """Descend on the training loss between a and permuted b, through the assignment.

    Every group keeps a matrix of similarities, whose best assignment P is its permutation. The loss is that of
    ``(1 - alpha) a + alpha P b`` on a batch, alpha 1/2 and uniform in [0.3, 0.7] in turns; its gradient by the entries
    of P, taken at P as if P were any matrix (straight through), moves the similarities, and P follows. Similarities
    begin as those of activation matching (``"summed"``). Now and then P is judged by the loss half-way on examples that
    are held back; the best is kept, the start among them. A planted permutation is where activation matching starts.

    Groups that have others inside them (attention heads), those inside, and those on buffers alone keep the order of
    the start.

    Parameters
    ----------
    a, b
        State dicts of ``module``. b is aligned to a.
    data
        Training examples with labels; some are held back.
    seed
        Seeds the order of the examples and alpha.
    start
        Permutation to begin with; that of activation matching if None.
    steps
        Gradients to take.
    progress
        Called with (steps done, steps).

    Raises
    ------
    OptionError
        ``steps`` is below 1.
    PermutationError
        A state dict does not fit the spec or holds NaN, or ``start`` does not fit.
    DataError
        Too few examples, or the network does not return logits for them and their labels.
    SymmetryError
        The network cannot be exported, or a group is nowhere observed.

    References
    ----------
    Ainsworth et al. 2023, section 3.3: descent through a projection to permutations, there of weights (see
    :func:`match_straight_through_original`), here of similarities. Bengio et al. 2013: straight-through gradients.
    """
    run = Run(spec, module, a, b, data, seed, start, steps)
    return run.best("straight_through", descend(run, similarities(run)), progress)


def match_straight_through_original(
    spec: PermutationSpec,
    module: nn.Module,
    a: State,
    b: State,
    data: Split,
    *,
    seed: int = 0,
    start: Permutation | None = None,
    steps: int = STEPS,
    progress: Progress | None = None,
) -> Match:
    """Descend on the training loss half-way between a and permuted b, through weights that b is matched with.

    Free weights, a's to begin with, are projected to the nearest permutation of b by weight matching; the gradient of
    the loss at ``(a + P b) / 2`` is applied to them (Adam). All groups move. What is kept, and the arguments, are as in
    :func:`match_straight_through`; ``start`` is where the first projection begins, the identity if None. A planted
    permutation is found where weight matching finds it.

    References
    ----------
    Ainsworth et al. 2023, section 3.3 and algorithm 3.
    """
    run = Run(spec, module, a, b, data, seed, start, steps)
    return run.best("straight_through_original", descend_in_weights(run), progress)


class Beginning(NamedTuple):
    """Index arrays to start from, similarities of activations of the groups that can move, and a graph to run."""

    indices: dict[str, np.ndarray]
    matrices: Matrices
    graph: Graph


def similarities(run: Run) -> Beginning:
    """Where to descend from: the start that was given, or that of activation matching."""
    spec = run.spec
    indices, views, graph = compare(spec, run.module, [(run.a, run.b)], run.fit.take(EXAMPLES), "summed")
    moving = soft_groups(spec)
    run.notes = held_note(spec, "are in the order of the start")
    matrices = {group.name: views[group.name].matrix for group in moving}
    return Beginning(run.start or indices, matrices, graph)


def descend(run: Run, begin: Beginning) -> Iterator[dict[str, np.ndarray]]:
    """The start, and the permutation after each step of the similarities of the groups that move."""
    indices = begin.indices
    yield indices
    if not begin.matrices:
        return
    mixture = Mixture(run.spec, begin.graph, run.a, [run.spec.group(name) for name in begin.matrices])
    moving = Similarities(begin.matrices, indices)
    for step, (number, inputs, labels) in enumerate(run.batches()):
        alpha = 0.3 + 0.4 * number if step % 2 else 0.5
        found = mixture.gradients(run.spec.permute(run.b, indices), alpha, inputs, labels)
        gradients = {name: in_given_order(matrix, indices[name]) for name, matrix in found.items()}
        moving.step(gradients, RATE * (1 - step / run.steps))
        indices = {**indices, **moving.solve()}
        yield indices


def in_given_order(gradient: Tensor, index: np.ndarray) -> np.ndarray:
    """A gradient by the units of permuted b as one by those of b as given: unit ``index[j]`` stands in place j."""
    result = np.empty(gradient.shape)
    result[:, index] = gradient.cpu().numpy()
    return result


class Similarities:
    """Similarities that move against a gradient, and the assignments that are best for them.

    Parameters
    ----------
    matrices
        Of every group that moves, units of a by units of b, shape [n, n].
    start
        Index arrays that are to be best to begin with: no unit of a has a larger similarity than the one there.
    """

    def __init__(self, matrices: Matrices, start: Indices) -> None:
        self.matrices = {name: matrix.astype(np.float64) for name, matrix in matrices.items()}
        for name, matrix in self.matrices.items():
            matrix[np.arange(len(matrix)), start[name]] = matrix.max(1)
        self._mean = {name: np.zeros_like(matrix) for name, matrix in self.matrices.items()}
        self._square = dict.fromkeys(self.matrices, 0.0)
        self._steps = 0
        self._last: dict[str, Assignment] = {}

    def step(self, gradients: Mapping[str, np.ndarray], rate: float) -> None:
        """Move by about ``rate``, as Adam does, but with one scale for a group."""
        self._steps += 1
        for name, gradient in gradients.items():
            mean = self._mean[name]
            mean += (1 - MEMORY) * (gradient - mean)
            self._square[name] += (1 - SCALE_MEMORY) * (float(np.square(gradient).mean()) - self._square[name])
            square = self._square[name] / (1 - SCALE_MEMORY**self._steps)
            if square > 0:
                self.matrices[name] -= rate / (1 - MEMORY**self._steps) / np.sqrt(square) * mean

    def solve(self) -> dict[str, np.ndarray]:
        """Best index array of every group."""
        for name, matrix in self.matrices.items():
            self._last[name] = assignment.solve(matrix, warm=self._last.get(name))
        return {name: answer.columns for name, answer in self._last.items()}


def descend_in_weights(run: Run) -> Iterator[dict[str, np.ndarray]]:
    """The first projection, and that after each step of the free weights."""
    spec = run.spec
    free = {name: wide(run.a[name]).clone() for name in spec.tensors}
    found = match_weights(spec, free, run.b, seed=run.seed, start=Permutation(spec, run.start or {}))
    yield dict(found.permutation.indices)
    if not any(spec.matched(group) for group in spec.groups):
        return
    mixture = Mixture(spec, run.graph(), run.a, spec.groups)
    optimizer = torch.optim.Adam([free[name] for name in mixture.moving], lr=_WEIGHT_RATE)
    for _, inputs, labels in run.batches():
        gradients = mixture.weight_gradients(found.permutation.apply(run.b), 0.5, inputs, labels)
        for name, gradient in gradients.items():
            free[name].grad = 0.5 * gradient
        optimizer.step()
        found = match_weights(spec, free, run.b, seed=run.seed, start=found.permutation)
        yield dict(found.permutation.indices)
