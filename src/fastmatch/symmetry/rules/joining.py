"""Joining: segments one after the other."""

from __future__ import annotations

from torch import fx

from fastmatch.symmetry.algebra import segment, unify
from fastmatch.symmetry.labels import Atom, Axis, Concat, Mismatch
from fastmatch.symmetry.rules.indexing import bounds, moved
from fastmatch.symmetry.rules.pointwise import broadcast_all
from fastmatch.symmetry.rules.registry import Axes, Labels, argument, rule


@rule("aten.cat")
def cat(labels: Labels, node: fx.Node) -> Axes:
    """Tensors one after the other along one axis, alike along the others."""
    tensors = [labels[source] for source in argument(node, 0)]
    tensors = [axes for axes in tensors if len(axes) > 1 or axes[0].size] or tensors[:1]
    place = argument(node, 1, "dim", 0) % len(tensors[0])
    parts = [axes[place] for axes in tensors]
    alike = [axes[:place] + axes[place + 1 :] for axes in tensors]
    for axes in alike[1:]:
        for own, other in zip(alike[0], axes, strict=True):
            unify(own, other)
    return [*alike[0][:place], _joined(parts), *alike[0][place:]]


def _joined(parts: list[Axis]) -> Axis:
    if len(parts) > 1 and all(part.size == 1 for part in parts):
        return Atom(len(parts), "tensors joined in order")
    return Concat(tuple(parts))


@rule("aten.stack")
def stack(labels: Labels, node: fx.Node) -> Axes:
    """Tensors alike, beside each other in order along a new axis."""
    tensors = [labels[source] for source in argument(node, 0)]
    result = broadcast_all(tensors)
    place = argument(node, 1, "dim", 0) % (len(result) + 1)
    return [*result[:place], Atom(len(tensors), "tensors joined in order"), *result[place:]]


@rule("aten.constant_pad_nd")
def pad(labels: Labels, node: fx.Node) -> Axes:
    """Constants before and behind, of which any order is the same."""
    x, amounts = labels[node.args[0]], argument(node, 1)
    if any(amount < 0 for amount in amounts):
        raise Mismatch("a pad that cuts")
    for back in range(len(amounts) // 2):
        before, behind = amounts[2 * back : 2 * back + 2]
        x[-1 - back] = Concat((Atom(before), x[-1 - back], Atom(behind)))
    return x


@rule("aten.slice_scatter", "aten.select_scatter")
def scatter(labels: Labels, node: fx.Node) -> Axes:
    """The first tensor with the second written over one segment, which both label alike."""
    x, source = labels[node.args[0]], labels[node.args[1]]
    place = argument(node, 2, "dim", 0) % len(x)
    if "select" in str(node.target):
        start = argument(node, 3, "index") % x[place].size
        source.insert(place, Atom(1))
        stop, step = start + 1, 1
    else:
        start, stop, step = bounds(node, 3, x[place].size)
    for other, (own, axis) in enumerate(zip(x, source, strict=True)):
        if other != place:
            unify(own, axis)
    if step != 1:
        return moved(labels, x, place, x[place].size, f"positions picked by number in {node.target}", source[place])
    unify(segment(x[place], start, stop), source[place])
    return x
