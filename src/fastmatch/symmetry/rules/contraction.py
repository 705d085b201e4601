"""Sums of products: linear layers, matrix products and convolutions."""

from __future__ import annotations

from torch import fx

from fastmatch.symmetry.graph import shape_of
from fastmatch.symmetry.labels import Atom, Axis, pin, unify
from fastmatch.symmetry.rules.pointwise import broadcast
from fastmatch.symmetry.rules.registry import Labels, rule


@rule("aten.linear")
def linear(labels: Labels, node: fx.Node) -> list[Axis]:
    """``x W^T + b``."""
    x, weight = labels[node.args[0]], labels[node.args[1]]
    unify(x[-1], weight[1])
    if len(node.args) > 2 and node.args[2] is not None:
        unify(labels[node.args[2]][0], weight[0])
    return [*x[:-1], weight[0]]


@rule("aten.mm", "aten.bmm", "aten.matmul", "aten.mv", "aten.dot")
def matmul(labels: Labels, node: fx.Node) -> list[Axis]:
    """Batched ``a @ b`` with broadcast leading axes; one-axis operands as in ``torch.matmul``."""
    return _product(labels[node.args[0]], labels[node.args[1]])


def _product(left: list[Axis], right: list[Axis]) -> list[Axis]:
    unify(left[-1], right[-2] if len(right) > 1 else right[0])
    ahead, behind = left[:-2], right[:-2]
    rank = max(len(ahead), len(behind))
    batch = [broadcast([axes[place] for axes in (ahead, behind) if len(axes) >= -place]) for place in range(-rank, 0)]
    return batch + left[-2:-1] + (right[-1:] if len(right) > 1 else [])


@rule("aten.addmm", "aten.baddbmm")
def addmm(labels: Labels, node: fx.Node) -> list[Axis]:
    """``bias + a @ b``."""
    result = _product(labels[node.args[1]], labels[node.args[2]])
    bias = labels[node.args[0]]
    for place in range(-len(bias), 0):
        broadcast([result[place], bias[place]])
    return result


@rule("aten.convolution")
def convolution(labels: Labels, node: fx.Node) -> list[Axis]:
    """Channels are contracted; spatial axes stay in order. Grouped channels are pinned."""
    x, weight = labels[node.args[0]], labels[node.args[1]]
    bias, transposed, groups = node.args[2], node.args[6], node.args[8]
    incoming, outgoing = (weight[0], weight[1]) if transposed else (weight[1], weight[0])
    for axis in (*x[2:], *weight[2:]):
        pin(axis, "spatial axis of a convolution")
    if groups != 1:
        reason = f"channels of a convolution in {groups} groups"
        outgoing = Atom(shape_of(node)[1], reason)
        for axis in (x[1], weight[0], weight[1]):
            pin(axis, reason)
    else:
        unify(x[1], incoming)
    if bias is not None:
        unify(labels[bias][0], outgoing)
    return [x[0], outgoing, *spatial(node, "convolution")]


def spatial(node: fx.Node, operation: str) -> list[Axis]:
    """Fresh labels, in order, for the axes behind batch and channels."""
    return [Atom(size, f"spatial axis of a {operation}") for size in shape_of(node)[2:]]
