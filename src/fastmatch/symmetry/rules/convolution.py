"""Convolutions, plain, transposed, grouped and depthwise."""

from __future__ import annotations

from torch import fx

from fastmatch.symmetry.algebra import factor, unify
from fastmatch.symmetry.graph import shape_of
from fastmatch.symmetry.labels import Atom, Axis, Product, pin
from fastmatch.symmetry.rules.registry import Axes, Labels, argument, rule


@rule("aten.convolution")
def convolution(labels: Labels, node: fx.Node) -> Axes:
    """Channels are contracted, inside each group; spatial axes stay in order."""
    x, weight = labels[node.args[0]], labels[node.args[1]]
    bias, transposed, groups = argument(node, 2), argument(node, 6), argument(node, 8)
    batched = len(x) == len(weight)
    batch, channels, space = (x[:1], x[1], x[2:]) if batched else ([], x[0], x[1:])
    for axis in (*space, *weight[2:]):
        pin(axis, "spatial axis of a convolution")
    blocks, incoming = factor(channels, groups)
    own_blocks, inside = factor(weight[0], groups)
    unify(blocks, own_blocks)
    unify(incoming, inside if transposed else weight[1])
    outgoing: Axis = Product((blocks, weight[1])) if transposed else weight[0]
    if bias is not None:
        unify(labels[bias][0], outgoing)
    result = [*batch, outgoing, *ordered(shape_of(node)[len(batch) + 1 :], "spatial axis of a convolution")]
    labels.joint(*result, incoming, *space, *weight[2:])
    return result


def ordered(sizes: list[int], reason: str) -> Axes:
    """Labels of new axes that stay in order."""
    return [Atom(size, reason) for size in sizes]
