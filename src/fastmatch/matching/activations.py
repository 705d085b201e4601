"""Activation matching: the permutation under which the units of b respond most like those of a."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fastmatch import assignment
from fastmatch.data import Split, batch_count
from fastmatch.errors import DataError, OptionError
from fastmatch.matching.joint import Similarity as JointSimilarity
from fastmatch.matching.joint import insides, solve_group
from fastmatch.matching.match import GroupMatch, Match
from fastmatch.matching.observed import SIMILARITIES, Observed, Places, Similarity, find_places, runner_of
from fastmatch.matching.several import State, States, pairs_of, side_by_side
from fastmatch.matching.ties import settle_ties
from fastmatch.permutation import Permutation
from fastmatch.symmetry import Graph, Group, PermutationSpec, float_type

BATCH_SIZE = 250


def match_activations(
    spec: PermutationSpec,
    module: nn.Module,
    a: States,
    b: States,
    data: Split,
    *,
    similarity: Similarity = "summed",
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int, int], None] | None = None,
) -> Match:
    """One pass of both networks over the same batches, then one exact assignment for each group.

    Where a group is only seen together with others (the tokens of a mixer beside its channels), those are lined up
    first and a second pass follows.

    All axes but that of the units are samples; the activations of one batch are in memory at a time. Both networks run
    in evaluation mode. Units that activations cannot tell apart (dead ones, duplicates) are matched among themselves by
    their weights. A planted permutation is recovered.

    Parameters
    ----------
    a, b
        State dicts of ``module``. b is aligned to a. With a sequence on each side, such as the checkpoints of two
        training runs, one permutation is found for all pairs: their similarities are added up.
    data
        Examples to compare on: training examples, so that test figures stay clean.
    similarity
        ``"summed"``: correlations over the samples (0 for dead units; Li et al. 2016) after and before the
        nonlinearity, added up, each the mean over all blocks of a residual stream; ``"pearson"``: the correlation where
        a group stands last before it is consumed (after the nonlinearity); ``"linear"``: the inner product there, whose
        assignment minimises the Euclidean distance of activations (Sharma et al. 2024, appendix A).
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
    began = time.perf_counter()
    _check(similarity, data)
    pairs = pairs_of(spec, a, b)
    indices, views, _ = compare(spec, module, pairs, data, similarity, batch_size, progress)
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


def _check(similarity: str, data: Split) -> None:
    if similarity not in SIMILARITIES:
        raise OptionError(
            f"similarity {similarity!r} is unknown; choose {', '.join(SIMILARITIES[:-1])} or {SIMILARITIES[-1]}"
        )
    if len(data) < 2:
        raise DataError(f"activations of {len(data)} example cannot be compared; use at least 2, better thousands")


class View(NamedTuple):
    """What was seen of a group: similarities over all its bases, the columns chosen, and the moments of every pair."""

    matrix: np.ndarray
    columns: np.ndarray
    pairs: list[Observed]

    @property
    def dead(self) -> int:
        """Units that no pair of networks sees alive, in the network that has more of them."""
        seen = zip(*(part.alive() for part in self.pairs), strict=True)
        return max(int((~torch.stack(alive).any(0)).sum()) for alive in seen)


def compare(
    spec: PermutationSpec,
    module: nn.Module,
    pairs: Sequence[tuple[State, State]],
    data: Split,
    similarity: Similarity,
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, View], Graph]:
    """Best index arrays, ties settled, what was seen of every group without insides, and the graph that was run.

    Similarities are of the units of a with those of b in the order of its state dict.
    """
    waiting, graph = find_places(spec, module, next(iter(data.batches(batch_size)))[0], similarity)
    runner = runner_of(graph, waiting)
    indices: dict[str, np.ndarray] = {}
    views: dict[str, View] = {}
    while waiting:
        chosen = next_places(waiting, indices.keys())
        observed = {name: [Observed(places) for _ in pairs] for name, places in chosen.items()}
        current = [(first, spec.permute(second, indices)) for first, second in pairs]
        for done, (inputs, _) in enumerate(data.batches(batch_size), start=1):
            for number, pair in enumerate(current):
                parts = [several[number] for several in observed.values()]
                _update(parts, *(runner.activations(state, (inputs.to(float_type(state)),)) for state in pair))
            if progress is not None:
                progress(done, batch_count(len(data), batch_size))
        matrices = {name: _matrix(several, similarity) for name, several in observed.items()}
        step = solve_groups(spec, matrices, indices.keys())
        indices = spec.compose(indices, step)
        views |= {
            name: View(matrix, columns_of(spec, spec.group(name), step), observed[name])
            for name, matrix in matrices.items()
        }
    plain = {name: view.matrix for name, view in views.items() if not spec.group(name).base}
    return settle_ties(*side_by_side(spec, pairs), indices, plain), views, graph


def next_places(waiting: dict[str, Places], done: Collection[str]) -> dict[str, Places]:
    """Take out the groups whose samples correspond once those in ``done`` are lined up; all if there are none."""
    ready = [name for name, places in waiting.items() if not places.beside - set(done)] or list(waiting)
    return {name: waiting.pop(name) for name in ready}


def _update(parts: Iterable[Observed], a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    for part in parts:
        part.update(a, b)


def _matrix(pairs: Sequence[Observed], similarity: Similarity) -> np.ndarray:
    """Similarities of all pairs of networks, added up."""
    return functools.reduce(torch.add, (part.matrix(similarity) for part in pairs)).cpu().numpy()


def solve_groups(
    spec: PermutationSpec, matrices: Mapping[str, np.ndarray], done: Collection[str]
) -> dict[str, np.ndarray]:
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
        matrix = matrices[group.name][:, columns_of(spec, group, solved)].reshape(*shape, *shape)
        sizes = [shape[axis] for axis in order]
        lead, size = sizes[: len(sizes) - trailing], math.prod(sizes[len(sizes) - trailing :])
        matrix = matrix.transpose(*order, *(axis + len(shape) for axis in order))
        copies = np.arange(math.prod(lead))
        return matrix.reshape(len(copies), size, len(copies), size)[copies, :, copies].reshape(*lead, size, size)

    return similarity


def columns_of(spec: PermutationSpec, group: Group, indices: Mapping[str, np.ndarray]) -> np.ndarray:
    """Number of the unit of b, over all bases, that ``indices`` take to each place."""
    shape = spec.shape(group)
    source = np.broadcast_arrays(*spec.source(group, indices))
    return np.ravel_multi_index(source, shape).ravel()


def _figures(
    spec: PermutationSpec, group: Group, views: Mapping[str, View], indices: Mapping[str, np.ndarray]
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
    return GroupMatch.of(group, indices[group.name], before, after, dead)
