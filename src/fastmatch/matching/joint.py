"""Groups whose units carry groups of their own: heads with their coordinates, blocks of channels with their channels.

Which unit goes where can only be judged when the insides are lined up: so the inside of every pair of units is assigned
first, and its objective is the similarity of the pair.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from fastmatch import assignment, kernels
from fastmatch.symmetry import Group, PermutationSpec

# Called with a group, an order of its index axes [bases..., units], and how many of the last ones to compare along:
# similarities [sizes of the leading axes..., p, p], p the product of the trailing sizes; None where nothing is known.
Similarity = Callable[[Group, Sequence[int], int], np.ndarray | None]


def insides(spec: PermutationSpec, group: Group) -> list[Group]:
    """Groups with a permutation for each unit of ``group``, but not those further inside."""
    found = [other for other in spec.groups if group.name in other.base]
    return [other for other in found if not any(between.name in other.base for between in found)]


def solve_group(spec: PermutationSpec, group: Group, similarity: Similarity) -> dict[str, np.ndarray]:
    """Best index arrays of a group together with the groups inside it, all others held."""
    shape = spec.shape(group)
    own = similarity(group, range(len(shape)), 1)
    own = np.zeros((*shape, group.size)) if own is None else own
    orders = {other.name: _order(other, group) for other in insides(spec, group)}
    inner: dict[str, np.ndarray] = {}
    for name, order in orders.items():
        blocks = similarity(spec.group(name), order, 2)
        if blocks is not None:
            sides = (group.size, spec.sizes[name])
            inner[name] = blocks.reshape(math.prod(shape[:-1]), -1, *sides, *sides)
    solved = [
        solve_joint(own[index], {name: blocks[place] for name, blocks in inner.items()})
        for place, index in enumerate(np.ndindex(*shape[:-1]))
    ]
    result = {group.name: np.stack([columns for columns, _ in solved]).reshape(shape)}
    for name in inner:
        table = np.stack([parts[name] for _, parts in solved])
        sizes = spec.shape(spec.group(name))
        order = orders[name]
        result[name] = table.reshape([sizes[axis] for axis in order]).transpose(np.argsort(order))
    return result


def _order(inside: Group, group: Group) -> list[int]:
    """Index axes of ``inside`` with the bases of ``group`` first, ``group`` itself and the units last."""
    names = (*inside.base, inside.name)
    rest = [name for name in inside.base if name not in group.base and name != group.name]
    return [names.index(name) for name in (*group.base, *rest, group.name, inside.name)]


def solve_joint(own: np.ndarray, inner: Mapping[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Assign units together with their insides, exactly.

    Parameters
    ----------
    own
        Similarity of the units apart from their insides, shape [n, n].
    inner
        Group of the insides -> similarities, shape [f, n, m, n, m]: in each of f copies, units and insides of a
        against units and insides of b.

    Returns
    -------
    tuple
        Index array of the units [n], and those of the insides [f, n, m] by name, in the order of a.
    """
    if not inner:
        return assignment.solve(own).columns, {}
    total = own.astype(np.float64)
    choices = {}
    for name, blocks in inner.items():
        copies, count, size = blocks.shape[:3]
        choices[name] = np.empty((copies, count, count, size), dtype=np.int64)
        for copy, first, second in np.ndindex(copies, count, count):
            best = assignment.solve(blocks[copy, first, :, second, :])
            choices[name][copy, first, second] = best.columns
            total[first, second] += best.objective
    columns = assignment.solve(total).columns
    return columns, {name: table[:, np.arange(len(columns)), columns] for name, table in choices.items()}


def grams(pairs: Sequence[tuple[Tensor, Tensor]], order: Sequence[int], trailing: int) -> np.ndarray:
    """Gram matrices of units [index axes..., everything else] in the sense of :data:`Similarity`, summed over pairs."""
    index = pairs[0][0].shape[:-1]
    sizes = [index[axis] for axis in order]
    lead, size = sizes[: len(sizes) - trailing], math.prod(sizes[len(sizes) - trailing :])
    flat = [
        tuple(side.permute(*order, side.dim() - 1).reshape(math.prod(lead), size, side.shape[-1]) for side in pair)
        for pair in pairs
    ]
    matrices = [kernels.gram((a[copy], b[copy]) for a, b in flat) for copy in range(math.prod(lead))]
    return torch.stack(matrices).cpu().numpy().reshape(*lead, size, size)
