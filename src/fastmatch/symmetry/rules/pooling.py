"""Pooling, upsampling and reductions: they act on spatial or averaged axes and leave the others alone."""

from __future__ import annotations

import re

from torch import fx

from fastmatch.symmetry.graph import shape_of
from fastmatch.symmetry.labels import Atom, pin
from fastmatch.symmetry.rules.convolution import ordered
from fastmatch.symmetry.rules.registry import Axes, Labels, argument, places, rule

_WINDOWS = [f"aten.upsample_{kind}" for kind in ("linear1d", "bilinear2d", "bicubic2d", "trilinear3d")]
_WINDOWS += [
    f"aten.{kind}{count}d"
    for count in (1, 2, 3)
    for kind in (
        "max_pool",
        "avg_pool",
        "adaptive_avg_pool",
        "_adaptive_avg_pool",
        "adaptive_max_pool",
        "upsample_nearest",
        "_upsample_nearest_exact",
        "reflection_pad",
        "replication_pad",
    )
]


@rule("aten.max_pool2d_with_indices", "aten.max_pool3d_with_indices", *_WINDOWS)
def windows(labels: Labels, node: fx.Node) -> Axes:
    """Windows run over the last axes, which stay in order."""
    x = labels[node.args[0]]
    count = int(re.findall(r"(\d)d", str(node.target))[0])
    for axis in x[-count:]:
        pin(axis, "spatial axis of a pooling")
    result = [*x[:-count], *ordered(shape_of(node)[-count:], "spatial axis of a pooling")]
    labels.joint(*x, *result[-count:])
    return result


_REDUCTIONS = ("mean", "sum", "amax", "amin", "var", "prod", "any", "all", "std", "logsumexp", "nansum")


@rule(*(f"aten.{name}" for name in _REDUCTIONS))
def reduction(labels: Labels, node: fx.Node) -> Axes:
    """A reduced axis is gone, and its order was not seen."""
    x = labels[node.args[0]]
    return _without(x, places(argument(node, 1, "dim"), len(x)), len(shape_of(node)) == len(x))


@rule("aten.linalg_vector_norm", "aten.norm")
def vector_norm(labels: Labels, node: fx.Node) -> Axes:
    """As other reductions; the axes come after the order of the norm."""
    x = labels[node.args[0]]
    return _without(x, places(argument(node, 2, "dim"), len(x)), len(shape_of(node)) == len(x))


@rule("aten.var_mean")
def var_mean(labels: Labels, node: fx.Node) -> tuple[Axes, Axes]:
    """Two reductions at once."""
    reduced = reduction(labels, node)
    return reduced, reduced


@rule("aten.max", "aten.min")
def extremum(labels: Labels, node: fx.Node) -> Axes:
    """Over everything, or over one axis; which position won is a secondary output."""
    return reduction(labels, node)


@rule("aten.argmax", "aten.argmin")
def arg_extremum(labels: Labels, node: fx.Node) -> Axes:
    """The winner's number depends on the order of the reduced axis."""
    x = labels[node.args[0]]
    for place in places(argument(node, 1, "dim"), len(x)):
        pin(x[place], "axis of an argmax")
    return reduction(labels, node)


def _without(x: Axes, reduced: list[int], kept: bool) -> Axes:
    return [Atom(1) if place in reduced else axis for place, axis in enumerate(x) if place not in reduced or kept]
