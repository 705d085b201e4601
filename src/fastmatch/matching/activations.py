"""Activation matching: the permutation under which the units of b respond most like those of a."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from torch import Tensor, nn

from fastmatch import assignment, kernels
from fastmatch.data import Split, batch_count
from fastmatch.errors import DataError, OptionError, SymmetryError
from fastmatch.matching.match import GroupMatch, Match
from fastmatch.matching.ties import settle_ties
from fastmatch.permutation import Permutation
from fastmatch.symmetry import GraphRunner, Group, PermutationSpec, Tap, trace_graph

Similarity = Literal["linear", "pearson"]
BATCH_SIZE = 250


def match_activations(
    spec: PermutationSpec,
    module: nn.Module,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    data: Split,
    *,
    similarity: Similarity = "pearson",
    batch_size: int = BATCH_SIZE,
    progress: Callable[[int, int], None] | None = None,
) -> Match:
    """One pass of both networks over the same batches, then one exact assignment for each group.

    A group is observed at the last elementwise operation before it is consumed (after the nonlinearity); all axes but
    that of the units are samples. Similarities are streamed: the activations of one batch are in memory at a time. Both
    networks run in evaluation mode. Units that activations cannot tell apart (dead ones, duplicates) are matched among
    themselves by their weights.

    Parameters
    ----------
    a, b
        State dicts of ``module``. b is aligned to a.
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
        ``similarity`` is unknown.
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
    spec.check_state(a, "network a")
    spec.check_state(b, "network b")
    taps, runner = _observe(spec, module, data, batch_size)
    moments = {name: kernels.Moments() for name in taps}
    for done, (inputs, _) in enumerate(data.batches(batch_size), start=1):
        _update(moments, taps, runner.activations(a, (inputs,)), runner.activations(b, (inputs,)))
        if progress is not None:
            progress(done, batch_count(len(data), batch_size))
    matrices = {name: _matrix(moment, similarity) for name, moment in moments.items()}
    indices = {name: assignment.solve(matrix).columns for name, matrix in matrices.items()}
    indices = settle_ties(spec, a, b, indices, matrices)
    groups = [_figures(group, matrices[group.name], indices[group.name], moments[group.name]) for group in spec.groups]
    return Match(
        permutation=Permutation(spec, indices),
        method=f"activation ({similarity})",
        seed=0,
        objective_before=sum(group.objective_before for group in groups),
        objective_after=sum(group.objective_after for group in groups),
        groups=tuple(groups),
        sweeps=1,
        status="converged",
        restarts=(),
        examples=len(data),
        seconds=time.perf_counter() - began,
    )


def _observe(
    spec: PermutationSpec, module: nn.Module, data: Split, batch_size: int
) -> tuple[dict[str, Tap], GraphRunner]:
    example = next(iter(data.batches(batch_size)))[0]
    tracer = trace_graph(module, (example,))
    taps = tracer.taps(spec)
    if blind := [group.name for group in spec.groups if group.name not in taps]:
        raise SymmetryError(f"group {blind[0]!r} has no activation to compare; use --method weight")
    return taps, GraphRunner(tracer.program, [tap.node for tap in taps.values()])


def _update(
    moments: Mapping[str, kernels.Moments],
    taps: Mapping[str, Tap],
    values_a: Mapping[str, Tensor],
    values_b: Mapping[str, Tensor],
) -> None:
    for name, tap in taps.items():
        units = (tap.box.unit_matrix(values[tap.node], tap.axis, tap.factor) for values in (values_a, values_b))
        moments[name].update(*units)


def _matrix(moments: kernels.Moments, similarity: Similarity) -> np.ndarray:
    return (moments.pearson() if similarity == "pearson" else moments.linear()).cpu().numpy()


def _figures(group: Group, matrix: np.ndarray, index: np.ndarray, moments: kernels.Moments) -> GroupMatch:
    alive_a, alive_b = moments.alive()
    return GroupMatch(
        name=group.name,
        size=group.size,
        objective_before=float(np.trace(matrix)),
        objective_after=float(matrix[np.arange(group.size), index].sum()),
        fixed_points=int((index == np.arange(group.size)).sum()),
        dead_units=int(max((~alive_a).sum(), (~alive_b).sum())),
    )
