"""Matching by functional difference: how much a layer's outputs change when two units share their weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from fastmatch.data import Split
from fastmatch.errors import DataError, OptionError, SymmetryError
from fastmatch.matching.activations import columns_of, solve_groups
from fastmatch.matching.joint import insides
from fastmatch.matching.match import GroupMatch, Match
from fastmatch.matching.several import finite_pair
from fastmatch.matching.writers import BATCH_SIZE, State, Writer, find_writers, second_moments
from fastmatch.permutation import Permutation
from fastmatch.symmetry import Group, Indices, PermutationSpec, float_type

MAX_SWEEPS = 10
DAMPING = 1e-9  # Of the mean second moment: what float64 needs where inputs are dead or depend on each other.


def match_functional(
    spec: PermutationSpec,
    module: nn.Module,
    a: State,
    b: State,
    data: Split,
    *,
    assignment: Literal["exact", "greedy"] = "exact",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Match:
    """Assign units layer by layer to the ones with the smallest functional difference.

    The difference of unit i of a and unit j of b is ``1/2 (w_i - w_j)^T (H_a^-1 + H_b^-1)^-1 (w_i - w_j)``: w are the
    weights that write the unit, with the bias, and H the second moments of what the layer reads, which approximate the
    Hessian. What b's layer reads is in a's order, since layers are matched from the inputs on. Convolutions read their
    patches (im2col); moments are means over examples, summed over places.

    Where H is singular (dead inputs, constant pixels), the parallel sum ``H_a (H_a + H_b)^+ H_b`` is meant, which the
    inverses become without damping: directions that one of the networks never uses do not count. It is computed with
    1e-9 of the mean second moment on the diagonal of the sum.

    A group with several writers, such as a residual stream, has the sum of their differences. Writers that read groups
    which are not matched yet wait for a second sweep; further ones follow while the summed difference falls. Weights
    of normalisations, embeddings, grouped and transposed convolutions are ignored. A planted permutation is recovered
    where no two units have the same weights.

    Parameters
    ----------
    a, b
        State dicts of ``module``. b is aligned to a.
    data
        Training examples.
    assignment
        ``"exact"``: the smallest sum of differences; ``"greedy"``: the pair with the smallest difference is taken, then
        the next of those left, as published.
    seed
        Plays no part: nothing is random.
    progress
        Called with (batches done, batches) of each network.

    Raises
    ------
    OptionError
        ``assignment`` is unknown, or greedy for units with units inside them (attention heads).
    PermutationError
        A state dict does not fit the spec, or holds NaN or infinite weights.
    DataError
        Fewer than two examples.
    SymmetryError
        The network cannot be exported, or a group is written by no linear layer or convolution.

    References
    ----------
    He et al. 2018, "Multi-Task Zipping via Layer-wise Neuron Sharing", equation 12; Entezari et al. 2022, appendix B,
    equation 2.
    """
    began = time.perf_counter()
    a, b = finite_pair(spec, a, b)
    _check(spec, data, assignment)
    writers, runner = find_writers(module, next(iter(data.batches(BATCH_SIZE)))[0].to(float_type(module.state_dict())))
    writers = [writer for writer in writers if any(_places(spec, writer))]
    moments = [second_moments(runner, writers, state, data, progress) for state in (a, b)]
    layers = [_Layer(spec, *given) for given in zip(writers, *moments, strict=True)]
    task = _Task(spec, layers, a, b, assignment)
    indices, sweeps, converged = task.solve()
    before, after = task.differences(spec.identity()), task.differences(indices)
    return Match(
        permutation=Permutation(spec, indices),
        method="functional" if assignment == "exact" else "functional (greedy)",
        seed=seed,
        objective_before=sum(before.values()),
        objective_after=sum(after.values()),
        groups=tuple(_figures(spec, group, before, after, indices) for group in spec.groups),
        sweeps=sweeps,
        status="converged" if converged else "sweep limit",
        restarts=(),
        examples=len(data),
        seconds=time.perf_counter() - began,
        measure="difference",
    )


def greedy(difference: np.ndarray) -> np.ndarray:
    """Take the smallest entry, then the smallest without its row and column, and so on; column of each row, int64."""
    matrix = difference.copy()
    columns = np.full(len(matrix), -1)
    nearest = matrix.argmin(1)
    lowest = matrix.min(1)
    for _ in range(len(matrix)):
        row = int(lowest.argmin())
        column = int(nearest[row])
        columns[row] = column
        matrix[:, column] = np.inf
        lowest[row] = np.inf
        stale = np.flatnonzero((nearest == column) & (columns < 0))
        nearest[stale] = matrix[stale].argmin(1)
        lowest[stale] = matrix[stale, nearest[stale]]
    return columns


class _Layer:
    """One writer, and the second moments of what it reads in both networks."""

    def __init__(self, spec: PermutationSpec, writer: Writer, first: Tensor, second: Tensor) -> None:
        self.spec, self.writer = spec, writer
        self._first, self._second = first, second
        self.places = _places(spec, writer)
        self.before = writer.before(spec)

    def differences(self, a: State, b: State, indices: Indices) -> np.ndarray:
        """Functional differences of the outputs of a and b, whose inputs ``indices`` line up, float64."""
        columns = self.writer.columns(self.spec, indices).to(self._second.device)
        metric = _parallel_sum(self._first, self._second[columns][:, columns])
        left, right = self.writer.rows(a), self.writer.rows(b)[:, columns]
        half = left @ metric
        squares = (half * left).sum(1)[:, None] + ((right @ metric) * right).sum(1)[None]
        return (squares / 2 - half @ right.T).clamp_min(0.0).cpu().numpy()


class _Task:
    """Groups of two networks and the layers that write them."""

    def __init__(
        self,
        spec: PermutationSpec,
        layers: Sequence[_Layer],
        a: State,
        b: State,
        assignment: Literal["exact", "greedy"],
    ) -> None:
        self.spec, self.layers, self.a, self.b, self.assignment = spec, layers, a, b, assignment
        written = {name for layer in layers for name in layer.places}
        if blind := [name for name in spec.leaves if name not in written]:
            raise SymmetryError(
                f"group {blind[0]!r} is written by no linear layer or convolution that can be compared; use --method "
                "weight"
            )

    def solve(self) -> tuple[dict[str, np.ndarray], int, bool]:
        """Index arrays, sweeps, and whether the last sweep gained nothing."""
        indices, complete = self._first_sweep()
        if complete:
            return indices, 1, True
        lowest = sum(self.differences(indices).values())
        for sweep in range(2, MAX_SWEEPS + 1):
            candidate = dict(indices)
            for cluster in self._clusters():
                candidate |= self._assign(cluster, self.layers, candidate)
            total = sum(self.differences(candidate).values())
            if total >= lowest:
                return indices, sweep, True
            indices, lowest = candidate, total
        return indices, MAX_SWEEPS, False

    def differences(self, indices: Indices) -> dict[str, float]:
        """Summed difference of the units of every group under these index arrays."""
        found = {}
        for name, matrix in self._matrices(self.spec.leaves, self.layers, indices).items():
            columns = columns_of(self.spec, self.spec.group(name), indices)
            found[name] = float(matrix[np.arange(len(matrix)), columns].sum())
        return found

    def _first_sweep(self) -> tuple[dict[str, np.ndarray], bool]:
        """Match from the inputs on, with what is lined up; and whether no writer was left out."""
        indices: dict[str, np.ndarray] = {}
        waiting, complete = self._clusters(), True
        while waiting:
            ready = [layer for layer in self.layers if layer.before <= indices.keys()]
            cluster = max(waiting, key=lambda cluster: self._readiness(cluster, ready))
            waiting.remove(cluster)
            whole = self._readiness(cluster, ready) == (True, True)
            chosen = ready if self._readiness(cluster, ready)[1] else self.layers
            indices |= self._assign(cluster, chosen, indices)
            complete &= whole
        return indices, complete

    def _clusters(self) -> list[list[str]]:
        """Groups that are assigned together, the first written first: those inside the units of one."""
        names = {group.name for group in self.spec.groups}
        order = [name for layer in self.layers for name in layer.places]
        found: dict[str, list[str]] = {}
        for name in sorted(self.spec.leaves, key=order.index):
            around = [base for base in self.spec.group(name).base if base in names]
            found.setdefault((*around, name)[0], []).append(name)
        return list(found.values())

    def _readiness(self, cluster: Sequence[str], ready: Sequence[_Layer]) -> tuple[bool, bool]:
        """Whether all writers of a cluster are ready, and whether each of its groups has one that is."""
        writing = [layer for layer in self.layers if any(name in layer.places for name in cluster)]
        some = all(any(name in layer.places for layer in ready) for name in cluster)
        return all(layer in ready for layer in writing), some

    def _assign(self, cluster: Sequence[str], layers: Sequence[_Layer], indices: Indices) -> dict[str, np.ndarray]:
        matrices = self._matrices(cluster, layers, indices)
        if self.assignment == "greedy":
            return {name: greedy(matrix) for name, matrix in matrices.items()}
        return solve_groups(self.spec, {name: -matrix for name, matrix in matrices.items()}, ())

    def _matrices(self, names: Sequence[str], layers: Sequence[_Layer], indices: Indices) -> dict[str, np.ndarray]:
        """Differences of the units of a and b over all bases, summed over the layers that write them."""
        found: dict[str, np.ndarray] = {}
        for layer in layers:
            wanted = [name for name in names if name in layer.places]
            matrix = layer.differences(self.a, self.b, indices) if wanted else np.empty(0)
            for name in wanted:
                for units in layer.places[name]:
                    found[name] = found.get(name, 0.0) + matrix[np.ix_(units, units)]
        return found


def _places(spec: PermutationSpec, writer: Writer) -> dict[str, list[np.ndarray]]:
    """For each group that a layer writes, the outputs that its units are, over its bases."""
    found: dict[str, list[np.ndarray]] = {}
    for group in spec.groups:
        for place in spec.matched(group):
            if place.tensor == writer.weight and {place.axis, *(axis for axis, _, _ in place.bases)} == {0}:
                found.setdefault(group.name, []).append(writer.units(spec, place))
    return found


def _parallel_sum(first: Tensor, second: Tensor) -> Tensor:
    """``(first^-1 + second^-1)^-1`` of positive semidefinite matrices."""
    total = first + second
    damping = max(DAMPING * float(total.diagonal().mean()), torch.finfo(total.dtype).tiny)
    factor = torch.linalg.cholesky(total + damping * torch.eye(len(total), dtype=total.dtype, device=total.device))
    result = first @ torch.cholesky_solve(second, factor)
    return (result + result.T) / 2


def _check(spec: PermutationSpec, data: Split, assignment: str) -> None:
    if assignment not in ("exact", "greedy"):
        raise OptionError(f"assignment {assignment!r} is unknown; choose exact or greedy")
    if assignment == "greedy" and any(group.base for group in spec.groups):
        raise OptionError("units with units inside them, such as attention heads, are not matched greedily; use exact")
    if len(data) < 2:
        raise DataError(f"second moments of {len(data)} example say nothing; use at least 2, better thousands")


def _figures(
    spec: PermutationSpec,
    group: Group,
    before: Mapping[str, float],
    after: Mapping[str, float],
    indices: Indices,
) -> GroupMatch:
    """Figures of one group, or of those inside it."""
    parts = [group.name] if group.name in before else [part.name for part in insides(spec, group)]
    was, now = (sum(found.get(name, 0.0) for name in parts) for found in (before, after))
    return GroupMatch.of(group, indices[group.name], was, now)
