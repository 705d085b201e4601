"""Views: reshaping multiplies and divides labels, the rest reorders them. None of them decides what a view means."""

from __future__ import annotations

import math

from torch import fx

from fastmatch.symmetry.algebra import divide
from fastmatch.symmetry.graph import shape_of
from fastmatch.symmetry.labels import Atom, Axis, Mismatch, Product, pin
from fastmatch.symmetry.rules.registry import Axes, Labels, argument, rule


@rule(
    "aten.view",
    "aten._unsafe_view",
    "aten._reshape_alias",
    "aten.reshape",
    "aten.flatten",
    "aten.unflatten",
    "aten.squeeze",
    "aten.unsqueeze",
)
def view(labels: Labels, node: fx.Node) -> Axes:
    """Row-major regrouping: axes are multiplied until both sides agree in size, then divided."""
    x, sizes = [axis for axis in labels.lazy(node.args[0]) if axis.size != 1], shape_of(node)
    result: Axes = []
    pending: Axes = []
    wanted: list[int] = []
    for size in sizes:
        if size == 1:
            continue
        wanted.append(size)
        while math.prod(axis.size for axis in pending) < math.prod(wanted) and x:
            pending.append(x.pop(0))
        if math.prod(axis.size for axis in pending) == math.prod(wanted):
            result += divide(Product(tuple(pending)), wanted)
            pending, wanted = [], []
    if pending or wanted or x:
        raise Mismatch("sizes of a view do not meet")
    wide = iter(result)
    return [Atom(1) if size == 1 else next(wide) for size in sizes]


@rule("aten.permute")
def permute(labels: Labels, node: fx.Node) -> Axes:
    """Axes in another order."""
    x = labels.lazy(node.args[0])
    return [x[place] for place in argument(node, 1)]


@rule("aten.transpose", "aten.transpose_", "aten.t", "aten.swapaxes")
def transpose(labels: Labels, node: fx.Node) -> Axes:
    """Two axes exchanged; ``t`` exchanges the only two."""
    x = labels.lazy(node.args[0])
    first, second = argument(node, 1, default=0), argument(node, 2, default=-1)
    if len(x) > 1:
        x[first], x[second] = x[second], x[first]
    return x


@rule("aten.movedim")
def movedim(labels: Labels, node: fx.Node) -> Axes:
    """One axis taken to another place."""
    x = labels.lazy(node.args[0])
    x.insert(argument(node, 2) % len(x), x.pop(argument(node, 1)))
    return x


@rule("aten.expand", "aten.expand_as", "aten.copy")
def expand(labels: Labels, node: fx.Node) -> Axes:
    """New positions along an axis of size one are copies: any order of them is the same."""
    # A copy gives the second value the shape of the first.
    x, sizes = labels.lazy(argument(node, 1 if "copy" in str(node.target) else 0)), shape_of(node)
    x = [Atom(1)] * (len(sizes) - len(x)) + x
    return [axis if axis.size == size else Atom(size) for axis, size in zip(x, sizes, strict=True)]


@rule("aten.repeat")
def repeat(labels: Labels, node: fx.Node) -> Axes:
    """Copies one after the other: any order of the copies is the same."""
    x, counts = labels[node.args[0]], argument(node, 1)
    x = [Atom(1)] * (len(counts) - len(x)) + x
    return [_copies(size // axis.size, axis) for axis, size in zip(x, shape_of(node), strict=True)]


def _copies(count: int, axis: Axis) -> Axis:
    return axis if count == 1 else Product((Atom(count), axis))


@rule("aten.view_as_complex", "aten.view_as_real")
def complex_view(labels: Labels, node: fx.Node) -> Axes:
    """A last axis of real and imaginary part, which stay in order."""
    x, reason = labels[node.args[0]], "real and imaginary part"
    if "as_real" in str(node.target):
        return [*x, Atom(2, reason)]
    pin(x[-1], reason)
    return x[:-1]


@rule("aten.as_strided")
def as_strided(labels: Labels, node: fx.Node) -> Axes:
    """The value itself, where sizes and strides are its own."""
    before, after = (source.meta["val"] for source in (argument(node, 0), node))
    wide = [place for place, size in enumerate(before.shape) if size != 1]
    same = before.shape == after.shape and before.storage_offset() == after.storage_offset()
    if not same or any(before.stride()[place] != after.stride()[place] for place in wide):
        raise Mismatch("strides of another layout")
    return labels.lazy(node.args[0])
