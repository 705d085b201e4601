"""Operations that treat all positions alike: elementwise with broadcasting, and copies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx

from fastmatch.symmetry.graph import shape_of
from fastmatch.symmetry.labels import Atom, Axis, unify
from fastmatch.symmetry.rules.registry import rule

if TYPE_CHECKING:
    from fastmatch.symmetry.tracer import Tracer


@rule("pointwise")
def pointwise(tracer: Tracer, node: fx.Node) -> list[Axis]:
    """Axes that line up under broadcasting share a label."""
    operands = [tracer.axes(argument) for argument in node.all_input_nodes if argument in tracer.labels]
    rank = max(len(axes) for axes in operands)
    return [broadcast([axes[place] for axes in operands if len(axes) >= -place]) for place in range(-rank, 0)]


def broadcast(axes: list[Axis]) -> Axis:
    """Label of axes that are combined elementwise: those of size one take part in nothing."""
    wide = [axis for axis in axes if axis.size != 1]
    for axis in wide[1:]:
        unify(wide[0], axis)
    return wide[0] if wide else Atom(1)


@rule("getitem")
def getitem(tracer: Tracer, node: fx.Node) -> list[Axis]:
    """The first entry of a tuple carries its labels; where others are used, the tracer has pinned the operation."""
    if node.args[1] == 0:
        return list(tracer.axes(node.args[0]))
    return [Atom(size, "secondary output") for size in shape_of(node)]


@rule("aten.clone", "aten.alias", "aten.detach", "aten._to_copy", "aten.dropout")
def same(tracer: Tracer, node: fx.Node) -> list[Axis]:
    """The value itself."""
    return list(tracer.axes(node.args[0]))


@rule("aten._softmax", "aten._log_softmax")
def softmax(tracer: Tracer, node: fx.Node) -> list[Axis]:
    """Normalising over an axis does not see its order."""
    return list(tracer.axes(node.args[0]))
