"""Weight matching as published: the plain algorithm that :func:`match_weights` must agree with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from fastmatch import kernels
from fastmatch.symmetry import Indices, Occurrence, PermutationSpec

_ROUNDING = 1e-5  # Of the similarities that an exchange gives and takes: what float32 sums cannot tell.
_TOLERANCE = 1e-12  # Of the norms' product: what float64 sums cannot tell.


def match_weights_plainly(
    spec: PermutationSpec,
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    *,
    seed: int = 0,
    start: Indices | None = None,
) -> tuple[dict[str, np.ndarray], int]:
    """Everything anew at every visit: b permuted, its Gram matrices, the assignment cold by scipy.

    Parameters
    ----------
    spec
        Of groups without a base.
    a, b
        State dicts.
    seed
        Of the order of groups, as in :func:`match_weights`.
    start
        Index array of every group to begin with; the identity if None.

    Returns
    -------
    tuple
        Index array of every group, and the number of sweeps.

    References
    ----------
    Ainsworth et al. 2023, algorithm 1.
    """
    generator = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])
    groups = [group for group in spec.groups if spec.matched(group)]
    indices = spec.identity() if start is None else dict(start)
    sweeps, moved = 0, True
    while moved:
        moved = False
        sweeps += 1
        for choice in generator.permutation(len(groups)):
            group = groups[choice]
            places = spec.matched(group)
            current = spec.permute(b, indices, [place.tensor for place in places])
            pairs = ((place.units(a[place.tensor]), place.units(current[place.tensor])) for place in places)
            matrix = kernels.gram(pairs).cpu().numpy()
            step = linear_sum_assignment(matrix, maximize=True)[1]
            rows = np.flatnonzero(step != np.arange(group.size))
            new, old = (matrix[rows, columns[rows]].astype(np.float64) for columns in (step, np.arange(group.size)))
            doubt = (new - old).sum() <= _ROUNDING * (np.abs(new) + np.abs(old)).sum()
            if len(rows) and (not doubt or _gains(places, a, current, torch.from_numpy(step))):
                indices[group.name] = indices[group.name][step]
                moved = True
    return indices, sweeps


def _gains(places: Sequence[Occurrence], a: Mapping[str, Tensor], current: Mapping[str, Tensor], step: Tensor) -> bool:
    """Whether a step gains in float64."""
    gain, first, second = 0.0, 0.0, 0.0
    for place in places:
        left, right = (place.units(state[place.tensor]).double() for state in (a, current))
        gain += float((left * (right[step] - right)).sum())
        first += float(left.square().sum())
        second += float(right.square().sum())
    return gain > _TOLERANCE * (first * second) ** 0.5
