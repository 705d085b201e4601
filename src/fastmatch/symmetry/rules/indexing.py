"""Indexing: what picks or moves positions by number keeps them in order, except for whole segments."""

from __future__ import annotations

from torch import Tensor, fx

from fastmatch.symmetry.algebra import force, narrow, segment
from fastmatch.symmetry.graph import shape_of
from fastmatch.symmetry.labels import Atom, Axis, Mismatch, Outer, is_pinned, pin, resolve
from fastmatch.symmetry.rules.pointwise import broadcast_all
from fastmatch.symmetry.rules.registry import Axes, Labels, argument, places, rule

_BY_NUMBER = "positions picked by number"


def bounds(node: fx.Node, first: int, size: int) -> tuple[int, int, int]:
    """Start, stop and step of a slice whose arguments begin at ``first``, within ``size`` positions."""
    start, stop, step = (argument(node, first + offset, name) for offset, name in enumerate(("start", "end", "step")))
    numbers = [None if value is None else int(value) for value in (start, stop, step)]
    start, stop, step = slice(*numbers).indices(size)
    return start, max(start, stop), step


def moved(labels: Labels, x: Axes, place: int, size: int, reason: str, *others: Axis) -> Axes:
    """Labels after positions along one axis were moved by number: both the old and the new axis stay in order."""
    x = [force(axis) for axis in x]
    for axis in (x[place], *others):
        pin(axis, reason)
    new = Atom(size, reason)
    labels.joint(*x, new)
    return [*x[:place], new, *x[place + 1 :]]


def _cut(labels: Labels, x: Axes, place: int, start: int, stop: int) -> Axes:
    """Labels of a segment of one axis; cutting what stays in order anyway would only add detail."""
    if stop - start == x[place].size:
        return x
    if stop == start:
        return [*x[:place], Atom(0), *x[place + 1 :]]
    if isinstance(resolve(x[place]), Outer):
        return narrow(x, place, start, stop)
    if not is_pinned(x[place]):
        try:
            return [*x[:place], segment(x[place], start, stop), *x[place + 1 :]]
        except Mismatch:
            pass  # inside a block: nothing is left but the order
    return moved(labels, x, place, stop - start, _BY_NUMBER)


@rule("aten.slice")
def slice_(labels: Labels, node: fx.Node) -> Axes:
    """A segment of one axis, or every so many positions."""
    x = labels.lazy(node.args[0])
    place = argument(node, 1, "dim", 0) % len(x)
    start, stop, step = _static(node, x[place].size, shape_of(node)[place])
    if step != 1:
        return moved(labels, labels[node.args[0]], place, shape_of(node)[place], _BY_NUMBER)
    return _cut(labels, x, place, start, stop)


def _static(node: fx.Node, size: int, result: int) -> tuple[int, int, int]:
    if result == size:
        return 0, size, 1
    try:
        return bounds(node, 2, size)
    except TypeError as error:
        raise Mismatch("a slice of a size that varies") from error


@rule("aten.select")
def select(labels: Labels, node: fx.Node) -> Axes:
    """One position of an axis: it alone stays where it is."""
    x = labels.lazy(node.args[0])
    place, number = argument(node, 1) % len(x), argument(node, 2)
    if not isinstance(number, int):
        raise Mismatch("a position that varies")
    number %= x[place].size
    x = _cut(labels, x, place, number, number + 1)
    pin(x[place], _BY_NUMBER)
    return x[:place] + x[place + 1 :]


@rule("aten.unbind")
def unbind(labels: Labels, node: fx.Node) -> tuple[Axes, ...]:
    """Every position of an axis as a tensor of its own."""
    x = labels.lazy(node.args[0])
    place = argument(node, 1, "dim", 0) % len(x)
    if not isinstance(resolve(x[place]), Outer):
        x = labels[node.args[0]]
        pin(x[place], _BY_NUMBER)
        return tuple(x[:place] + x[place + 1 :] for _ in range(x[place].size))
    cuts = [narrow(x, place, number, number + 1) for number in range(x[place].size)]
    return tuple(cut[:place] + cut[place + 1 :] for cut in cuts)


@rule("aten.split", "aten.split_with_sizes", "aten.unsafe_split", "aten.chunk", "aten.tensor_split")
def split(labels: Labels, node: fx.Node) -> tuple[Axes, ...]:
    """Segments of one axis."""
    x = labels.lazy(node.args[0])
    place, start, result = argument(node, 2, "dim", 0) % len(x), 0, []
    for value in node.meta["val"]:
        stop = start + int(value.shape[place])
        result.append(_cut(labels, x, place, start, stop))
        start = stop
    return tuple(result)


@rule("aten.flip", "aten.roll", "aten.cumsum", "aten.cumprod", "aten.unfold", "aten.tril", "aten.triu")
def reorder(labels: Labels, node: fx.Node) -> Axes:
    """Axes along which the result depends on the order."""
    x, sizes = labels[node.args[0]], shape_of(node)
    name = str(node.target)
    place = {"roll": 2, "tril": None, "triu": None}.get(name.split(".")[1], 1)
    listed = [-2, -1] if place is None else places(argument(node, place, "dim"), len(x))
    if "unfold" in name:
        x = [*x, Atom(1)]
        listed = [*listed, -1]
    for number in listed:
        x = moved(labels, x, number % len(x), sizes[number], f"order counts in {name}")
    return x


@rule("aten.embedding")
def embedding(labels: Labels, node: fx.Node) -> Axes:
    """Rows of a table by number."""
    table, numbers = labels[node.args[0]], labels[node.args[1]]
    pin(table[0], "rows of an embedding")
    labels.joint(*table, *numbers)
    return [*numbers, *table[1:]]


@rule("aten.index_select")
def index_select(labels: Labels, node: fx.Node) -> Axes:
    """Positions of one axis by number."""
    x, numbers = labels[node.args[0]], labels[node.args[2]]
    place = argument(node, 1) % len(x)
    pin(x[place], _BY_NUMBER)
    labels.joint(*x, *numbers)
    return [*x[:place], *(numbers or [Atom(1)]), *x[place + 1 :]]


@rule("aten.index", "aten._unsafe_index")
def index(labels: Labels, node: fx.Node) -> Axes:
    """Positions of some axes by tensors of numbers, which are combined elementwise."""
    x, listed = labels[node.args[0]], list(argument(node, 1))
    used = [place for place, source in enumerate(listed) if source is not None]
    if any("val" in listed[place].meta and _is_mask(listed[place].meta["val"]) for place in used):
        raise Mismatch("an index by a mask")
    numbers = broadcast_all([labels[listed[place]] for place in used])
    for place in used:
        pin(x[place], _BY_NUMBER)
    labels.joint(*x, *numbers)
    rest = [axis for place, axis in enumerate(x) if place not in used]
    front = used[0] if used == list(range(used[0], used[-1] + 1)) else 0
    return [*rest[:front], *numbers, *rest[front:]]


def _is_mask(value: Tensor) -> bool:
    return not value.dtype.is_floating_point and str(value.dtype) in ("torch.bool", "torch.uint8")


@rule("aten.gather")
def gather(labels: Labels, node: fx.Node) -> Axes:
    """One position by number for each place of the others, which must be all there."""
    x, numbers = labels[node.args[0]], labels[node.args[2]]
    place = argument(node, 1) % len(x)
    if any(own.size != other.size for at, (own, other) in enumerate(zip(x, numbers, strict=True)) if at != place):
        raise Mismatch("a gather from part of an axis")
    pin(x[place], _BY_NUMBER)
    result = [own if at == place else broadcast_all([[own], [x[at]]])[0] for at, own in enumerate(numbers)]
    labels.joint(*result, x[place])
    return result
