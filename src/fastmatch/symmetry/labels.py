"""Axis labels: what the tracer knows about one axis of one tensor.

Every axis of every tensor carries a label. A label is an atom, a concatenation of labels (segments one after the other)
or a product of labels (row-major blocks). Two axes with one label must be permuted together. Labels start as atoms;
operations unify them, cuts refine atoms into concatenations, and views refine them into products: but not at once,
because ``x.view(3, n)`` may be three things beside each other (picked apart later) or three blocks alike (computed with
later). Until one of the two happens, the two axes of a view are labelled :class:`Outer` and :class:`Inner`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field


class Mismatch(Exception):
    """Two structures have no common refinement. Never escapes the tracer: it pins both."""


class Atom:
    """An axis without visible structure: ``size`` units, permuted as one. A pinned atom has a ``reason``."""

    __slots__ = ("reason", "replacement", "size")

    def __init__(self, size: int, reason: str | None = None) -> None:
        self.size = size
        self.reason = reason
        self.replacement: Axis | None = None


@dataclass(frozen=True, eq=False)
class Concat:
    """Segments that follow each other along one axis."""

    parts: tuple[Axis, ...]

    @property
    def size(self) -> int:
        """Number of positions along the axis."""
        return sum(part.size for part in self.parts)


@dataclass(frozen=True, eq=False)
class Product:
    """Row-major blocks: the last factor varies fastest."""

    factors: tuple[Axis, ...]

    @property
    def size(self) -> int:
        """Number of positions along the axis."""
        return math.prod(factor.size for factor in self.factors)


@dataclass(eq=False)
class View:
    """``source`` seen as ``outer`` blocks, undecided until ``decided`` holds the labels of blocks and insides.

    ``picked`` holds the narrower views that were taken of it, by (start, stop): what makes them agree with each other.
    """

    source: Axis
    outer: int
    decided: tuple[Axis, Axis] | None = None
    picked: dict[tuple[View, int, int], View] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Outer:
    """Which block of a view."""

    view: View

    @property
    def size(self) -> int:
        """Number of blocks."""
        return self.view.outer


@dataclass(frozen=True, eq=False)
class Inner:
    """Where inside a block of a view."""

    view: View

    @property
    def size(self) -> int:
        """Positions in one block."""
        return self.view.source.size // self.view.outer


Axis = Atom | Concat | Product | Outer | Inner


def resolve(axis: Axis) -> Axis:
    """Return the normal form: root atoms, nothing nested, no view beside its own inside, leading segments outermost."""
    if isinstance(axis, Atom):
        end = _end(axis)
        return end if end.replacement is None else resolve(end.replacement)
    if isinstance(axis, Concat):
        return concat([resolve(part) for part in axis.parts])
    if isinstance(axis, Product):
        return product([resolve(factor) for factor in axis.factors])
    if axis.view.decided is None:
        return axis
    return resolve(axis.view.decided[isinstance(axis, Inner)])


def _end(atom: Atom) -> Atom:
    """Last atom of a chain of replacements, which all then point to it."""
    chain = []
    while isinstance(atom.replacement, Atom):
        chain.append(atom)
        atom = atom.replacement
    for link in chain:
        link.replacement = atom
    return atom


def concat(parts: list[Axis]) -> Axis:
    """Concatenation of resolved labels in normal form."""
    flat: list[Axis] = []
    for part in parts:
        flat.extend(part.parts if isinstance(part, Concat) else [part])
    flat = [part for part in flat if part.size > 0] or flat[:1]
    return flat[0] if len(flat) == 1 else Concat(tuple(flat))


def product(factors: list[Axis]) -> Axis:
    """Product of resolved labels in normal form."""
    flat: list[Axis] = []
    for factor in factors:
        for item in factor.factors if isinstance(factor, Product) else [factor]:
            if item.size != 1 or isinstance(item, Outer | Inner):
                _append(flat, item)
    if not flat:
        return factors[0]
    if len(flat) == 1:
        return flat[0]
    if isinstance(flat[0], Concat):
        return concat([product([part, *flat[1:]]) for part in flat[0].parts])
    return Product(tuple(flat))


def _append(flat: list[Axis], item: Axis) -> None:
    """Append a factor; the inside of a view behind its blocks gives back what was viewed."""
    if isinstance(item, Inner) and flat and isinstance(flat[-1], Outer) and flat[-1].view is item.view:
        flat.pop()
        source = resolve(item.view.source)
        for child in source.factors if isinstance(source, Product) else [source]:
            _append(flat, child)
    else:
        flat.append(item)


def atoms(axis: Axis) -> Iterator[Atom]:
    """Root atoms of a label, in order of position, with repetition; of an undecided view, those of its source."""
    axis = resolve(axis)
    if isinstance(axis, Atom):
        yield axis
    elif isinstance(axis, Outer | Inner):
        yield from atoms(axis.view.source)
    else:
        for child in axis.parts if isinstance(axis, Concat) else axis.factors:
            yield from atoms(child)


def pin(axis: Axis, reason: str) -> None:
    """Forbid any permutation along ``axis``. The first reason stays."""
    for atom in atoms(axis):
        atom.reason = atom.reason or reason


def is_pinned(axis: Axis) -> bool:
    """True where nothing along ``axis`` may move."""
    return all(atom.reason is not None for atom in atoms(axis))


@dataclass(frozen=True)
class Run:
    """Part of an axis: position ``offset + sum(index * stride)`` over (atom, stride) pairs, outermost first."""

    offset: int
    factors: tuple[tuple[Atom, int], ...]


def runs(axis: Axis) -> list[Run]:
    """Boxes of a label without undecided views, which together cover every position of the axis once."""
    axis = resolve(axis)
    if isinstance(axis, Atom):
        return [Run(0, ((axis, 1),) if axis.size != 1 else ())]
    if isinstance(axis, Outer | Inner):
        raise Mismatch("the axis belongs to an undecided view")
    if isinstance(axis, Concat):
        result, offset = [], 0
        for part in axis.parts:
            result += [Run(offset + run.offset, run.factors) for run in runs(part)]
            offset += part.size
        return result
    result = [Run(0, ())]
    for child in axis.factors:
        inner = child.size
        result = [
            Run(
                outer.offset * inner + run.offset,
                tuple((atom, stride * inner) for atom, stride in outer.factors) + run.factors,
            )
            for outer in result
            for run in runs(child)
        ]
    return result
