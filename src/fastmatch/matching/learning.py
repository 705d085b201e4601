"""Learning a permutation from labels: batches to learn from, and examples held back to judge it by."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from fastmatch.data import Split
from fastmatch.errors import OptionError
from fastmatch.interpolation.evaluator import check_labels
from fastmatch.matching.match import Match, Stop, bare_groups
from fastmatch.matching.midpoint import Midpoint, hold_back
from fastmatch.matching.mixture import State
from fastmatch.matching.outcome import start_indices
from fastmatch.matching.several import finite_pair
from fastmatch.permutation import Permutation
from fastmatch.symmetry import Graph, Indices, PermutationSpec, export_at_home, float_type

STEPS = 120
BATCH_SIZE = 32
JUDGED_EVERY = 40  # Steps between two looks at the examples held back.
EXAMPLES = 2000  # That the start compares activations on.
Progress = Callable[[int, int], None]


class Run:
    """What such a method begins with, and how the best of its permutations is kept.

    Raises
    ------
    OptionError
        ``steps`` is below 1.
    PermutationError
        A state dict does not fit the spec or holds NaN, or ``start`` does not fit.
    DataError
        Too few examples, or the network has no logit for a label.

    Attributes
    ----------
    start
        Index arrays to begin with; None if none were given.
    fit
        Training examples to learn from; ``held`` are the others, which it is judged by.
    notes
        For the match.
    """

    def __init__(
        self,
        spec: PermutationSpec,
        module: nn.Module,
        a: State,
        b: State,
        data: Split,
        seed: int,
        start: Permutation | None,
        steps: int,
    ) -> None:
        if steps < 1:
            raise OptionError(f"steps must be at least 1, received {steps}")
        self.began = time.perf_counter()
        self.a, self.b = a, b = finite_pair(spec, a, b)
        self.spec, self.module = spec, module
        self.seed, self.steps = seed, steps
        self.start = None if start is None else start_indices(spec, start)
        self.examples = len(data)
        self.fit, self.held = hold_back(data)
        check_labels(module, a, data)
        self.judge = Midpoint(spec, module, a, b, self.held)
        self.notes: tuple[str, ...] = ()
        self._random = np.random.default_rng(seed)

    def graph(self) -> Graph:
        """The network, exported where its weights are and moved to where the examples are."""
        return export_at_home(self.module, self.fit.inputs[:5].to(float_type(self.module.state_dict())))

    def batches(self) -> Iterator[tuple[float, Tensor, Tensor]]:
        """For every step, a number from 0 to 1, and a batch; examples come round in a random order."""
        order = self._random.permutation(len(self.fit))
        size = min(BATCH_SIZE, len(order))
        for step in range(self.steps):
            places = torch.from_numpy(order[(step * size + np.arange(size)) % len(order)]).to(self.fit.labels.device)
            yield self._random.uniform(), self.fit.inputs[places], self.fit.labels[places]

    def judges(self, step: int) -> bool:
        """Whether the permutation after so many steps is judged."""
        return step % JUDGED_EVERY == 0 or step == self.steps

    def best(self, method: str, path: Iterator[Indices], progress: Progress | None) -> Match:
        """The best permutation on the path, of which the start comes first, among those that are judged.

        A loss that is NaN, of a network that overflows half-way, counts as infinite.
        """
        losses: list[float] = []
        kept: Indices = {}
        status, done = "all steps", 0
        try:
            for done, indices in enumerate(path):
                if self.judges(done):
                    loss = self.judge.loss(indices)
                    losses.append(math.inf if math.isnan(loss) else loss)
                    if losses.index(min(losses)) == len(losses) - 1:
                        kept = dict(indices)
                if progress is not None and done:
                    progress(done, self.steps)
        except Stop:
            status = "stopped"
        before = self.judge.loss(self.spec.identity())
        return Match(
            permutation=Permutation(self.spec, kept),
            method=method,
            seed=self.seed,
            objective_before=before,
            objective_after=min(losses),
            groups=bare_groups(self.spec, kept),
            sweeps=done,
            status=status,
            restarts=(),
            examples=self.examples,
            seconds=time.perf_counter() - self.began,
            measure="loss",
            midpoints={"unaligned": before, "start": losses[0], method: min(losses)},
            notes=self.notes,
        )
