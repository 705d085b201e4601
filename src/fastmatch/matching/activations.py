"""Activation matching: the permutation under which the units of b respond most like those of a."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fastmatch import assignment, kernels
from fastmatch.data import Split, batch_count
from fastmatch.errors import DataError, OptionError, SymmetryError
from fastmatch.matching.joint import Similarity as JointSimilarity
from fastmatch.matching.joint import insides, solve_group
from fastmatch.matching.match import GroupMatch, Match
from fastmatch.matching.several import States, pairs_of, side_by_side
from fastmatch.matching.ties import settle_ties
from fastmatch.permutation import Permutation
from fastmatch.symmetry import GraphRunner, Group, PermutationSpec, Tap, float_type, observe

Similarity = Literal["linear", "pearson"]
BATCH_SIZE = 250


def match_activations(
    spec: PermutationSpec,
    module: nn.Module,
    a: States,
    b: States,
    data: Split,
    *,
    similarity: Similarity = "pearson",
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int, int], None] | None = None,
) -> Match:
    """One pass of both networks over the same batches, then one exact assignment for each group.

    Where a group is only seen together with others (the tokens of a mixer beside its channels), those are lined up
    first and a second pass follows.

    A group is observed at the last elementwise operation before it is consumed (after the nonlinearity); all axes but
    that of the units are samples. Similarities are streamed: the activations of one batch are in memory at a time. Both
    networks run in evaluation mode. Units that activations cannot tell apart (dead ones, duplicates) are matched among
    themselves by their weights.

    Parameters
    ----------
    a, b
        State dicts of ``module``. b is aligned to a. With a sequence on each side, such as the checkpoints of two
        training runs, one permutation is found for all pairs: their similarities are added up.
    data
        Examples to compare on: training examples, so that test figures stay clean.
    similarity
        ``"pearson"``: correlation over the samples, 0 for dead units (Li et al. 2016); ``"linear"``: the inner product,
        whose assignment minimises the Euclidean distance of activations (Sharma et al. 2024, appendix A).
    progress
        Called with (batches done, batches) after each.

    Raises
    ------
    OptionError
        ``similarity`` is unknown, or the sides have different numbers of state dicts.
    PermutationError
        A state dict does not fit the spec.
    DataError
        Fewer than two examples.
    SymmetryError
        The network cannot be traced, or a group is nowhere observed.
    """
    if similarity not in ("linear", "pearson"):
        raise OptionError(f"similarity {similarity!r} is unknown; choose linear or pearson")
    if len(data) < 2:
        raise DataError(f"activations of {len(data)} example cannot be compared; use at least 2, better thousands")
    began = time.perf_counter()
    pairs = pairs_of(spec, a, b)
    taps, runner = _observe(spec, module, data, batch_size)
    indices: dict[str, np.ndarray] = {}
    views: dict[str, _View] = {}
    while taps:
        ready = [name for name, tap in taps.items() if not tap.beside - indices.keys()] or list(taps)
        chosen = {name: taps.pop(name) for name in ready}
        moments = {name: [kernels.Moments() for _ in pairs] for name in chosen}
        current = [(first, spec.permute(second, indices)) for first, second in pairs]
        for done, (inputs, _) in enumerate(data.batches(batch_size), start=1):
            for number, pair in enumerate(current):
                parts = {name: several[number] for name, several in moments.items()}
                _update(parts, chosen, *(runner.activations(state, (inputs.to(float_type(state)),)) for state in pair))
            if progress is not None:
                progress(done, batch_count(len(data), batch_size))
        matrices = {name: _matrix(parts, similarity) for name, parts in moments.items()}
        step = _solve(spec, matrices, indices.keys())
        indices = spec.compose(indices, step)
        views |= {
            name: _View(matrix, _columns(spec, spec.group(name), step), moments[name])
            for name, matrix in matrices.items()
        }
    plain = {name: view.matrix for name, view in views.items() if not spec.group(name).base}
    indices = settle_ties(*side_by_side(spec, pairs), indices, plain)
    groups = [_figures(spec, group, views, indices) for group in spec.groups]
    return Match(
        permutation=Permutation(spec, indices),
        method=f"activation ({similarity})",
        seed=0,
        objective_before=sum(group.objective_before for group in groups if group.name in views),
        objective_after=sum(group.objective_after for group in groups if group.name in views),
        groups=tuple(groups),
        sweeps=1,
        status="converged",
        restarts=(),
        examples=len(data),
        seconds=time.perf_counter() - began,
    )


class _View(NamedTuple):
    """What was seen of a group: similarities over all its bases, the columns chosen, and the moments of every pair."""

    matrix: np.ndarray
    columns: np.ndarray
    moments: list[kernels.Moments]

    @property
    def dead(self) -> int:
        """Units that no pair of networks sees alive, in the network that has more of them."""
        seen = zip(*(part.alive() for part in self.moments), strict=True)
        return max(int((~torch.stack(alive).any(0)).sum()) for alive in seen)


def _observe(
    spec: PermutationSpec, module: nn.Module, data: Split, batch_size: int
) -> tuple[dict[str, Tap], GraphRunner]:
    """Taps of the groups without insides; what has insides is judged by theirs."""
    example = next(iter(data.batches(batch_size)))[0].to(float_type(module.state_dict()))
    taps, runner = observe(spec, module, (example,))
    carriers = {name for group in spec.groups for name in group.base}
    leaves = [group.name for group in spec.groups if group.name not in carriers]
    if blind := [name for name in leaves if name not in taps]:
        raise SymmetryError(f"group {blind[0]!r} has no activation to compare; use --method weight")
    return {name: taps[name] for name in leaves}, runner


def _update(
    moments: Mapping[str, kernels.Moments],
    taps: Mapping[str, Tap],
    values_a: Mapping[str, Tensor],
    values_b: Mapping[str, Tensor],
) -> None:
    for name, tap in taps.items():
        (first, axes), (second, _) = (tap.place.view(values[tap.place.tensor]) for values in (values_a, values_b))
        moments[name].update(first, second, axes=axes)


def _matrix(moments: Sequence[kernels.Moments], similarity: Similarity) -> np.ndarray:
    """Similarities of all pairs of networks, added up."""
    parts = (part.pearson() if similarity == "pearson" else part.linear() for part in moments)
    return functools.reduce(torch.add, parts).cpu().numpy()


def _solve(spec: PermutationSpec, matrices: Mapping[str, np.ndarray], done: Collection[str]) -> dict[str, np.ndarray]:
    """Exact assignments of the groups that were observed, from the outermost to those inside."""
    alone = [name for name in matrices if not spec.group(name).base and not insides(spec, spec.group(name))]
    answers = assignment.solve_batch([matrices[name] for name in alone])
    indices = {name: answer.columns for name, answer in zip(alone, answers, strict=True)}
    for group in sorted(spec.groups, key=lambda group: len(group.base)):
        seen = any(part.name in matrices for part in (group, *insides(spec, group)))
        if seen and group.name not in indices and group.name not in done:
            indices |= solve_group(spec, group, _blocks(spec, matrices, indices))
    return indices


def _blocks(
    spec: PermutationSpec, matrices: Mapping[str, np.ndarray], solved: Mapping[str, np.ndarray]
) -> JointSimilarity:
    """Blocks of the similarity matrices, with the units of b where the groups solved so far take them."""

    def similarity(group: Group, order: Sequence[int], trailing: int) -> np.ndarray | None:
        if group.name not in matrices:
            return None
        shape = spec.shape(group)
        matrix = matrices[group.name][:, _columns(spec, group, solved)].reshape(*shape, *shape)
        sizes = [shape[axis] for axis in order]
        lead, size = sizes[: len(sizes) - trailing], math.prod(sizes[len(sizes) - trailing :])
        matrix = matrix.transpose(*order, *(axis + len(shape) for axis in order))
        copies = np.arange(math.prod(lead))
        return matrix.reshape(len(copies), size, len(copies), size)[copies, :, copies].reshape(*lead, size, size)

    return similarity


def _columns(spec: PermutationSpec, group: Group, indices: Mapping[str, np.ndarray]) -> np.ndarray:
    """Number of the unit of b, over all bases, that ``indices`` take to each place."""
    shape = spec.shape(group)
    source = np.broadcast_arrays(*spec.source(group, indices))
    return np.ravel_multi_index(source, shape).ravel()


def _figures(
    spec: PermutationSpec, group: Group, views: Mapping[str, _View], indices: Mapping[str, np.ndarray]
) -> GroupMatch:
    """Figures of one group: of its own activations, or of those of the groups inside it."""
    before = after = 0.0
    dead = 0
    for part in [group] if group.name in views else insides(spec, group):
        if part.name in views:
            matrix, columns, _ = views[part.name]
            columns = columns if part.base else indices[part.name]  # ties were settled since
            before += float(np.trace(matrix))
            after += float(matrix[np.arange(len(matrix)), columns].sum())
            dead = views[part.name].dead if part is group else 0
    return GroupMatch(
        name=group.name,
        size=group.size,
        objective_before=before,
        objective_after=after,
        fixed_points=int((indices[group.name] == np.arange(group.size)).sum()),
        dead_units=dead,
    )
