"""Ties between units, settled by weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from fastmatch import assignment, kernels
from fastmatch.symmetry import Group, PermutationSpec

MAX_SWEEPS = 50
_TIE = 1e-5  # Of the largest similarity: a difference below it is rounding of float32 activations and products.


def settle_ties(
    spec: PermutationSpec,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    indices: Mapping[str, np.ndarray],
    similarities: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Among assignments that are equally good to rounding, take the one with the most similar weights.

    Dead units have no activation and units that fire on one example have the same one up to scale: which of them goes
    where is arbitrary to activations, but not to the interpolated network. Groups share parameters, so this is a
    coordinate descent as in weight matching, over the tied units alone.

    Parameters
    ----------
    indices
        Optimal assignment of every group.
    similarities
        The matrices it is optimal for, shape [n, n], of the groups to settle.
    """
    result = dict(indices)
    tied = {name: _tied(matrix, result[name]) for name, matrix in similarities.items()}
    groups = [group for group in spec.groups if len(tied.get(group.name, ())) > 1 and spec.matched(group)]
    current = spec.permute(b, result)
    for _ in range(MAX_SWEEPS):
        changed = False
        for group in groups:
            step = _step(group, spec, a, current, similarities[group.name][:, result[group.name]], tied[group.name])
            if step is not None:
                result = spec.compose(result, {group.name: step})
                current |= spec.permute(current, {group.name: step}, [place.tensor for place in group.occurrences])
                changed = True
        if not changed:
            break
    return result


def _tied(similarity: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Places whose unit could be exchanged for another at no loss to rounding."""
    matrix = similarity[:, index]
    slack = _TIE * np.abs(matrix).max(initial=0.0)
    own = np.diag(matrix).copy()
    loss = own[:, None] + own[None, :] - matrix - matrix.T
    np.fill_diagonal(loss, np.inf)
    return np.flatnonzero(loss.min(1, initial=np.inf) <= 2 * slack)


def _step(
    group: Group,
    spec: PermutationSpec,
    a: Mapping[str, Tensor],
    current: Mapping[str, Tensor],
    similarity: np.ndarray,
    tied: np.ndarray,
) -> np.ndarray | None:
    """Exchange of tied places that gains in weights and loses nothing in similarity, or None."""
    weights = kernels.gram(
        (place.units(a[place.tensor])[tied], place.units(current[place.tensor])[tied]) for place in spec.matched(group)
    )
    matrix = _unit_scale(similarity[np.ix_(tied, tied)]) + _TIE * _unit_scale(weights.double().cpu().numpy())
    columns = assignment.solve(matrix).columns
    gain = matrix[np.arange(len(tied)), columns].sum() - np.trace(matrix)
    if gain <= 1e-6 * _TIE:
        return None
    step = np.arange(group.size)
    step[tied] = tied[columns]
    return step


def _unit_scale(matrix: np.ndarray) -> np.ndarray:
    return matrix / max(np.abs(matrix).max(initial=0.0), np.finfo(np.float64).tiny)
