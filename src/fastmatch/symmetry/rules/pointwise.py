"""Operations that treat all positions alike: elementwise with broadcasting, and copies."""

from __future__ import annotations

from torch import fx

from fastmatch.symmetry.graph import shape_of
from fastmatch.symmetry.labels import Atom, Axis, unify
from fastmatch.symmetry.rules.registry import Labels, rule


@rule("pointwise")
def pointwise(labels: Labels, node: fx.Node) -> list[Axis]:
    """Axes that line up under broadcasting share a label."""
    operands = [labels[argument] for argument in node.all_input_nodes if argument in labels]
    rank = max(len(axes) for axes in operands)
    return [broadcast([axes[place] for axes in operands if len(axes) >= -place]) for place in range(-rank, 0)]


def broadcast(axes: list[Axis]) -> Axis:
    """Label of axes that are combined elementwise: those of size one take part in nothing."""
    wide = [axis for axis in axes if axis.size != 1]
    for axis in wide[1:]:
        unify(wide[0], axis)
    return wide[0] if wide else Atom(1)


@rule("getitem")
def getitem(labels: Labels, node: fx.Node) -> list[Axis]:
    """The first entry of a tuple carries its labels; where others are used, the tracer has pinned the operation."""
    if node.args[1] == 0:
        return list(labels[node.args[0]])
    return [Atom(size, "secondary output") for size in shape_of(node)]


@rule("aten.clone", "aten.alias", "aten.detach", "aten._to_copy", "aten.dropout")
def same(labels: Labels, node: fx.Node) -> list[Axis]:
    """The value itself."""
    return list(labels[node.args[0]])


@rule("aten.full", "aten.full_like", "aten.zeros_like", "aten.ones_like", "aten.scalar_tensor")
def fill(labels: Labels, node: fx.Node) -> list[Axis]:
    """One value everywhere: any order of it is the same."""
    return [Atom(size) for size in shape_of(node)]


@rule("aten._softmax", "aten._log_softmax")
def softmax(labels: Labels, node: fx.Node) -> list[Axis]:
    """Normalising over an axis does not see its order."""
    return list(labels[node.args[0]])
