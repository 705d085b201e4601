"""Operations that treat all positions alike: elementwise with broadcasting, and copies."""

from __future__ import annotations

from torch import fx

from fastmatch.symmetry.algebra import unify
from fastmatch.symmetry.graph import shape_of
from fastmatch.symmetry.labels import Atom, Axis
from fastmatch.symmetry.rules.registry import Axes, Labels, argument, rule


@rule("pointwise", "aten._prelu_kernel")
def pointwise(labels: Labels, node: fx.Node) -> Axes:
    """Axes that line up under broadcasting share a label."""
    return broadcast_all([labels[source] for source in node.all_input_nodes if source in labels])


def broadcast_all(operands: list[Axes]) -> Axes:
    """Labels of tensors combined elementwise, lined up from the last axis."""
    rank = max(len(axes) for axes in operands)
    return [broadcast([axes[place] for axes in operands if len(axes) >= -place]) for place in range(-rank, 0)]


def broadcast(axes: list[Axis]) -> Axis:
    """Label of axes that are combined elementwise: those of size one take part in nothing."""
    wide = [axis for axis in axes if axis.size != 1]
    for axis in wide[1:]:
        unify(wide[0], axis)
    return wide[0] if wide else Atom(1)


@rule("getitem")
def getitem(labels: Labels, node: fx.Node) -> Axes:
    """One entry of a tuple; what produced an entry without labels of its own is pinned by the tracer."""
    source, place = argument(node, 0), argument(node, 1)
    if place >= labels.outputs(source):
        return [Atom(size, "secondary output") for size in shape_of(node)]
    return labels.lazy(source, place)


@rule(
    "aten.clone",
    "aten.alias",
    "aten.contiguous",
    "aten.detach",
    "aten._to_copy",
    "aten.to",
    "aten.dropout",
    "aten.native_dropout",
    "aten.lift_fresh_copy",
)
def same(labels: Labels, node: fx.Node) -> Axes:
    """The value itself."""
    return labels.lazy(node.args[0])


@rule("aten._softmax", "aten._log_softmax", "aten._safe_softmax")
def softmax(labels: Labels, node: fx.Node) -> Axes:
    """Normalising over an axis does not see its order."""
    x = labels[node.args[0]]
    place = argument(node, 1) % len(x)
    labels.joint(*x[:place], *x[place + 1 :])
    return x
