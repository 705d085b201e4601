"""Views: reshaping multiplies and divides labels, the rest reorders them."""

from __future__ import annotations

import math

from torch import fx

from fastmatch.symmetry.graph import shape_of
from fastmatch.symmetry.labels import Atom, Axis, Mismatch, Product, factor
from fastmatch.symmetry.rules.registry import Labels, rule


@rule(
    "aten.view", "aten._unsafe_view", "aten.reshape", "aten.flatten", "aten.unflatten", "aten.squeeze", "aten.unsqueeze"
)
def view(labels: Labels, node: fx.Node) -> list[Axis]:
    """Row-major regrouping: axes are multiplied until both sides agree in size, then divided."""
    x, sizes = [axis for axis in labels[node.args[0]] if axis.size != 1], shape_of(node)
    result: list[Axis] = []
    pending: list[Axis] = []
    wanted: list[int] = []
    for size in sizes:
        if size == 1:
            continue
        wanted.append(size)
        while math.prod(axis.size for axis in pending) < math.prod(wanted) and x:
            pending.append(x.pop(0))
        if math.prod(axis.size for axis in pending) == math.prod(wanted):
            result += _divide(Product(tuple(pending)), wanted)
            pending, wanted = [], []
    if pending or wanted or x:
        raise Mismatch("sizes of a view do not meet")
    wide = iter(result)
    return [Atom(1) if size == 1 else next(wide) for size in sizes]


def _divide(axis: Axis, sizes: list[int]) -> list[Axis]:
    result: list[Axis] = []
    for size in sizes[:-1]:
        head, axis = factor(axis, size)
        result.append(head)
    return [*result, axis]


@rule("aten.slice")
def whole_slice(labels: Labels, node: fx.Node) -> list[Axis]:
    """``x[:, None]`` leaves slices of whole axes behind; any other slice picks positions by number."""
    x, sizes = list(labels[node.args[0]]), shape_of(node)
    if [axis.size for axis in x] != sizes:
        raise Mismatch("positions picked by number")
    return x


@rule("aten.permute")
def permute(labels: Labels, node: fx.Node) -> list[Axis]:
    """Axes in another order."""
    x = labels[node.args[0]]
    return [x[place] for place in node.args[1]]  # type: ignore[union-attr, index]


@rule("aten.transpose", "aten.t")
def transpose(labels: Labels, node: fx.Node) -> list[Axis]:
    """Two axes exchanged; ``t`` exchanges the only two."""
    x = list(labels[node.args[0]])
    first, second = node.args[1:3] if len(node.args) > 1 else (0, -1)
    if len(x) > 1:
        x[first], x[second] = x[second], x[first]  # type: ignore[index]
    return x


@rule("aten.expand")
def expand(labels: Labels, node: fx.Node) -> list[Axis]:
    """New positions along an axis of size one are copies: any order of them is the same."""
    x, sizes = labels[node.args[0]], shape_of(node)
    x = [Atom(1)] * (len(sizes) - len(x)) + x
    return [axis if axis.size == size else Atom(size) for axis, size in zip(x, sizes, strict=True)]
