"""Re-basin by Sinkhorn: descent on the training loss through soft permutations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from fastmatch import assignment
from fastmatch.data import Split
from fastmatch.errors import OptionError
from fastmatch.matching.activations import match_activations
from fastmatch.matching.learning import EXAMPLES, STEPS, Progress, Run
from fastmatch.matching.match import Match
from fastmatch.matching.mixture import Mixture
from fastmatch.matching.relaxed import State, held_note, soft_groups, soft_permute
from fastmatch.matching.sinkhorn_operator import sinkhorn, starting_score
from fastmatch.permutation import Permutation
from fastmatch.symmetry import Indices, PermutationSpec, wide

RATE = 0.3  # Of Adam on the scores; falls linearly to nothing.
SHARE = 0.65  # Of every row that lies on the start at first: less blurs deep networks, more is hard to move.
Loss = Literal["midpoint", "random"]


def match_sinkhorn(
    spec: PermutationSpec,
    module: nn.Module,
    a: State,
    b: State,
    data: Split,
    *,
    loss: Loss = "midpoint",
    seed: int = 0,
    start: Permutation | None = None,
    steps: int = STEPS,
    progress: Progress | None = None,
) -> Match:
    """Descend on the training loss between a and softly permuted b.

    Every group has a matrix of scores; Sinkhorn's operator makes it doubly stochastic, and b's units are averaged by
    that. Adam lowers the cross-entropy of ``(1 - alpha) a + alpha P b`` on batches, BatchNorm taking their statistics.
    The nearest permutations are judged, the best is kept, and the arguments are, as in :func:`match_straight_through`;
    a planted permutation is where activation matching starts. Groups inside others, those around them (heads and their
    coordinates), and those on buffers alone keep the order of the start.

    Parameters
    ----------
    loss
        ``"midpoint"``: alpha is 1/2; ``"random"``: uniform in [0, 1], anew at every step.

    Raises
    ------
    OptionError
        ``loss`` is unknown, or ``steps`` is below 1.
    PermutationError, DataError
        As :func:`match_straight_through`.
    SymmetryError
        The network cannot be exported, or a group is nowhere observed and there is no ``start``.

    References
    ----------
    Pena et al. 2023 (arXiv 2212.12042), sections 3.2 and 3.3: C_Mid and C_Rnd.
    """
    if loss not in ("midpoint", "random"):
        raise OptionError(f"loss {loss!r} is unknown; choose midpoint or random")
    run = Run(spec, module, a, b, data, seed, start, steps)
    return run.best("sinkhorn" if loss == "midpoint" else "sinkhorn_random", descend(run, loss), progress)


def descend(run: Run, loss: Loss) -> Iterator[Indices]:
    """The start, and after each step the nearest permutation where it is judged, else the start again."""
    spec = run.spec
    first = run.start
    if first is None:
        found = match_activations(spec, run.module, run.a, run.b, run.fit.take(EXAMPLES))
        first = dict(found.permutation.indices)
    run.notes = held_note(spec, "are in the order of the start")
    yield first
    scores = _Scores(spec, first, run.a, run.b)
    if not scores.leaves:
        return
    mixture = Mixture(spec, run.graph(), run.a, soft_groups(spec))
    for step, (number, inputs, labels) in enumerate(run.batches(), start=1):
        alpha = 0.5 if loss == "midpoint" else number
        scores.descend(mixture, alpha, inputs, labels, RATE * (1 - (step - 1) / run.steps))
        yield first | scores.rounded() if run.judges(step) else first


class _Scores:
    """A matrix of scores for every soft group, and Adam on them."""

    def __init__(self, spec: PermutationSpec, first: Indices, a: State, b: State) -> None:
        self._spec = spec
        self.leaves: dict[str, Tensor] = {}
        for group in soft_groups(spec):
            like = wide(a[spec.matched(group)[0].tensor])
            matrix = like.new_zeros(group.size, group.size)
            chosen = torch.tensor(first[group.name], device=like.device)
            matrix[torch.arange(group.size), chosen] = starting_score(group.size, SHARE)
            self.leaves[group.name] = matrix.requires_grad_()
        held = {name: index for name, index in first.items() if name not in self.leaves}
        self._b = {name: tensor.to(wide(a[name]).dtype) for name, tensor in spec.permute(b, held).items()}
        self._adam = torch.optim.Adam(list(self.leaves.values())) if self.leaves else None
        self._prices: dict[str, Tensor | None] = dict.fromkeys(self.leaves)

    def soft(self) -> dict[str, Tensor]:
        """Doubly stochastic matrices, with the way back to the scores."""
        found = {}
        for name, leaf in self.leaves.items():
            found[name], self._prices[name] = sinkhorn(leaf, self._prices[name])
        return found

    def descend(self, mixture: Mixture, alpha: float, inputs: Tensor, labels: Tensor, rate: float) -> None:
        """One step down the loss on a batch."""
        assert self._adam is not None
        with torch.enable_grad():
            b = self._b | dict(soft_permute(self._spec, self._b, self.soft(), mixture.moving))
        detached = {name: tensor.detach() for name, tensor in b.items()}
        weights = mixture.weight_gradients(detached, alpha, inputs, labels)
        self._adam.zero_grad()
        torch.autograd.backward(
            [b[name] for name in mixture.moving], [alpha * weights[name].to(b[name].dtype) for name in mixture.moving]
        )
        for group in self._adam.param_groups:
            group["lr"] = rate
        self._adam.step()

    def rounded(self) -> dict[str, np.ndarray]:
        """The permutations nearest to the matrices."""
        with torch.no_grad():
            matrices: Mapping[str, Tensor] = self.soft()
        answers = assignment.solve_batch([matrix.cpu().numpy() for matrix in matrices.values()])
        return {name: answer.columns for name, answer in zip(matrices, answers, strict=True)}
