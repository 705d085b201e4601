"""Pooling and reductions: they act on spatial or averaged axes and leave the others alone."""

from __future__ import annotations

from torch import fx

from fastmatch.symmetry.graph import shape_of
from fastmatch.symmetry.labels import Atom, Axis, pin
from fastmatch.symmetry.rules.registry import Labels, rule

_WINDOWS = {"1d": 1, "2d": 2, "3d": 3}


@rule(
    "aten.max_pool2d_with_indices",
    "aten.max_pool3d_with_indices",
    "aten.avg_pool1d",
    "aten.avg_pool2d",
    "aten.avg_pool3d",
    "aten._adaptive_avg_pool2d",
    "aten._adaptive_avg_pool3d",
    "aten.adaptive_avg_pool1d",
    "aten.adaptive_max_pool2d",
)
def pooling(labels: Labels, node: fx.Node) -> list[Axis]:
    """Windows run over the last axes, which stay in order."""
    x = labels[node.args[0]]
    count = next(axes for suffix, axes in _WINDOWS.items() if suffix in str(node.target))
    for axis in x[-count:]:
        pin(axis, "spatial axis of a pooling")
    return [*x[:-count], *(Atom(size, "spatial axis of a pooling") for size in shape_of(node)[-count:])]


@rule("aten.mean", "aten.sum", "aten.amax", "aten.amin", "aten.var", "aten.prod", "aten.any", "aten.all")
def reduction(labels: Labels, node: fx.Node) -> list[Axis]:
    """A reduced axis is gone, and its order was not seen."""
    x = labels[node.args[0]]
    listed = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    places = [listed] if isinstance(listed, int) else listed
    reduced = {place % len(x) for place in places} if places else set(range(len(x)))  # type: ignore[union-attr, operator]
    kept = len(shape_of(node)) == len(x)
    return [Atom(1) if place in reduced else axis for place, axis in enumerate(x) if place not in reduced or kept]
