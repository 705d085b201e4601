"""Axis labels: the algebra that the tracer computes with.

Every axis of every tensor carries a label. A label is an atom, a concatenation of labels (segments one after the other)
or a product of labels (row-major blocks). Two axes with one label must be permuted together. Labels start as atoms;
operations unify them, views refine atoms into products, cuts refine them into concatenations. An atom that must stay in
order is pinned, and keeps the reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass


class Mismatch(Exception):
    """Two structures have no common refinement. Never escapes the tracer: it pins both."""


class Atom:
    """An axis without visible structure: ``size`` units, permuted as one."""

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


Axis = Atom | Concat | Product


def resolve(axis: Axis) -> Axis:
    """Return the normal form: root atoms, no nested structure, leading concatenations pulled out of products."""
    if isinstance(axis, Atom):
        return axis if axis.replacement is None else resolve(axis.replacement)
    if isinstance(axis, Concat):
        return _concat([resolve(part) for part in axis.parts])
    return _product([resolve(factor) for factor in axis.factors])


def _concat(parts: list[Axis]) -> Axis:
    flat: list[Axis] = []
    for part in parts:
        flat.extend(part.parts if isinstance(part, Concat) else [part])
    flat = [part for part in flat if part.size > 0] or flat[:1]
    return flat[0] if len(flat) == 1 else Concat(tuple(flat))


def _product(factors: list[Axis]) -> Axis:
    flat: list[Axis] = []
    for factor in factors:
        flat.extend(factor.factors if isinstance(factor, Product) else [factor])
    flat = [factor for factor in flat if factor.size != 1] or flat[:1]
    if len(flat) == 1:
        return flat[0]
    if isinstance(flat[0], Concat):
        return _concat([_product([part, *flat[1:]]) for part in flat[0].parts])
    return Product(tuple(flat))


def atoms(axis: Axis) -> Iterator[Atom]:
    """Root atoms of a label, in order of position, with repetition."""
    axis = resolve(axis)
    if isinstance(axis, Atom):
        yield axis
    else:
        for child in axis.parts if isinstance(axis, Concat) else axis.factors:
            yield from atoms(child)


def pin(axis: Axis, reason: str) -> None:
    """Forbid any permutation along ``axis``. The first reason stays."""
    for atom in atoms(axis):
        atom.reason = atom.reason or reason


def split(axis: Axis, position: int) -> tuple[Axis, Axis]:
    """Cut a label in two at ``position``, refining atoms where the cut falls inside one.

    Raises
    ------
    Mismatch
        The cut falls inside a block of a product.
    """
    axis = resolve(axis)
    if isinstance(axis, Atom):
        halves = Atom(position), Atom(axis.size - position)
        _refine(axis, Concat(halves))
        return halves
    if isinstance(axis, Product):
        head, *rest = axis.factors
        inner = math.prod(factor.size for factor in rest)
        if position % inner:
            raise Mismatch(f"a cut at {position} falls inside blocks of {inner}")
        left_head, right_head = split(head, position // inner)
        return Product((left_head, *rest)), Product((right_head, *rest))
    before: list[Axis] = []
    for index, part in enumerate(axis.parts):
        if position < part.size:
            after = axis.parts[index + 1 :]
            if position == 0:
                return Concat(tuple(before)), Concat((part, *after))
            left, right = split(part, position)
            return Concat((*before, left)), Concat((right, *after))
        before.append(part)
        position -= part.size
    raise Mismatch("a cut beyond the end")


def factor(axis: Axis, outer: int) -> tuple[Axis, Axis]:
    """Write a label as a product of ``outer`` blocks and what is inside one block.

    Raises
    ------
    Mismatch
        The label's own structure has no such blocks.
    """
    axis = resolve(axis)
    if outer == 1:
        return Atom(1), axis
    if outer == axis.size:
        return axis, Atom(1)
    if axis.size % outer:
        raise Mismatch(f"{axis.size} positions are not {outer} blocks")
    if isinstance(axis, Atom):
        blocks, inside = Atom(outer), Atom(axis.size // outer)
        _refine(axis, Product((blocks, inside)))
        return blocks, inside
    if isinstance(axis, Concat):
        return _factor_concat(axis, axis.size // outer)
    return _factor_product(axis, outer)


def _factor_product(axis: Product, outer: int) -> tuple[Axis, Axis]:
    taken = 1
    for index, item in enumerate(axis.factors):
        if taken * item.size <= outer:
            taken *= item.size
            if taken == outer:
                return Product(axis.factors[: index + 1]), Product(axis.factors[index + 1 :])
            continue
        if outer % taken:
            raise Mismatch(f"blocks of a product do not divide into {outer}")
        blocks, inside = factor(item, outer // taken)
        return Product((*axis.factors[:index], blocks)), Product((inside, *axis.factors[index + 1 :]))
    raise Mismatch("fewer positions than blocks")


def _factor_concat(axis: Concat, inner: int) -> tuple[Axis, Axis]:
    if any(part.size % inner for part in axis.parts):
        raise Mismatch(f"segments do not divide into blocks of {inner}")
    blocks, insides = zip(*(factor(part, part.size // inner) for part in axis.parts), strict=True)
    for inside in insides[1:]:
        unify(insides[0], inside)
    return Concat(blocks), insides[0]


def unify(first: Axis, second: Axis) -> None:
    """Make two labels equal by the coarsest common refinement.

    Raises
    ------
    Mismatch
        There is none. What was unified up to there stays so, which is sound: it only removes symmetries.
    """
    first, second = resolve(first), resolve(second)
    if first is second:
        return
    if first.size != second.size:
        raise Mismatch(f"sizes {first.size} and {second.size}")
    if isinstance(first, Atom):
        _refine(first, second)
    elif isinstance(second, Atom):
        _refine(second, first)
    elif isinstance(first, Concat) or isinstance(second, Concat):
        cut = min(side.parts[0].size for side in (first, second) if isinstance(side, Concat))
        (head, tail), (other_head, other_tail) = split(first, cut), split(second, cut)
        unify(head, other_head)
        unify(tail, other_tail)
    else:
        inner = min(first.factors[-1].size, second.factors[-1].size)
        (head, tail), (other_head, other_tail) = (
            factor(first, first.size // inner),
            factor(second, second.size // inner),
        )
        unify(tail, other_tail)
        unify(head, other_head)


def _refine(atom: Atom, replacement: Axis) -> None:
    if not isinstance(replacement, Atom) and any(item is atom for item in atoms(replacement)):
        raise Mismatch("a label would contain itself")
    atom.replacement = replacement
    if atom.reason:
        pin(replacement, atom.reason)


@dataclass(frozen=True)
class Run:
    """Part of an axis: position ``offset + sum(index * stride)`` over (atom, stride) pairs, outermost first."""

    offset: int
    factors: tuple[tuple[Atom, int], ...]


def runs(axis: Axis) -> list[Run]:
    """Boxes of a label, which together cover every position of the axis once."""
    axis = resolve(axis)
    if isinstance(axis, Atom):
        return [Run(0, ((axis, 1),) if axis.size != 1 else ())]
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
