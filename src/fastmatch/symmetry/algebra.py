"""Operations on labels: cut, divide, unify, and the lazy division of views."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from fastmatch.symmetry.labels import (
    Atom,
    Axis,
    Concat,
    Inner,
    Mismatch,
    Outer,
    Product,
    View,
    atoms,
    concat,
    pin,
    product,
    resolve,
)


def split(axis: Axis, position: int) -> tuple[Axis, Axis]:
    """Cut a label in two at ``position``, refining atoms where the cut falls inside one.

    Raises
    ------
    Mismatch
        The cut falls inside a block of a product.
    """
    axis = force(axis)
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
    assert isinstance(axis, Concat)
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


def segment(axis: Axis, start: int, stop: int) -> Axis:
    """Part of a label from ``start`` up to ``stop``; see :func:`split`."""
    if stop < axis.size:
        axis, _ = split(axis, stop)
    return split(axis, start)[1] if start else axis


def factor(axis: Axis, outer: int) -> tuple[Axis, Axis]:
    """Write a label as a product of ``outer`` blocks and what is inside one block.

    Raises
    ------
    Mismatch
        The label's own structure has no such blocks.
    """
    return _factored(force(axis), outer, _halve)


def _factored(axis: Axis, outer: int, divide_leaf: Callable[[Axis, int], tuple[Axis, Axis]]) -> tuple[Axis, Axis]:
    if outer == 1:
        return Atom(1), axis
    if outer == axis.size:
        return axis, Atom(1)
    if axis.size % outer:
        raise Mismatch(f"{axis.size} positions are not {outer} blocks")
    if not isinstance(axis, Product):
        return divide_leaf(axis, outer)
    before, whole, after = _divide_product(axis, outer)
    if whole is None:
        return Product(before), Product(after)
    blocks, inside = divide_leaf(whole, outer // math.prod(item.size for item in before))
    return Product((*before, blocks)), Product((inside, *after))


def _halve(axis: Axis, outer: int) -> tuple[Axis, Axis]:
    if isinstance(axis, Concat):
        return _factor_concat(axis, axis.size // outer)
    assert isinstance(axis, Atom)
    halves = Atom(outer), Atom(axis.size // outer)
    _refine(axis, Product(halves))
    return halves


def _divide_product(axis: Product, outer: int) -> tuple[tuple[Axis, ...], Axis | None, tuple[Axis, ...]]:
    """Factors before the division into ``outer`` blocks, the one that it divides (or None), and those behind."""
    taken = 1
    for index, item in enumerate(axis.factors):
        if taken == outer:
            return axis.factors[:index], None, axis.factors[index:]
        if taken * item.size > outer:
            if outer % taken or item.size % (outer // taken):
                raise Mismatch(f"blocks of a product do not divide into {outer}")
            return axis.factors[:index], item, axis.factors[index + 1 :]
        taken *= item.size
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
    first, second = force(first), force(second)
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
        assert isinstance(first, Product)
        assert isinstance(second, Product)
        inner = min(first.factors[-1].size, second.factors[-1].size)
        (head, tail), (other_head, other_tail) = (
            factor(first, first.size // inner),
            factor(second, second.size // inner),
        )
        unify(tail, other_tail)
        unify(head, other_head)


def _refine(atom: Atom, replacement: Axis) -> None:
    if any(item is atom for item in atoms(replacement)):
        raise Mismatch("a label would contain itself")
    atom.replacement = replacement
    if atom.reason:
        pin(replacement, atom.reason)


def force(axis: Axis) -> Axis:
    """Return the normal form without undecided views: what is left of them becomes a product of blocks alike.

    Raises
    ------
    Mismatch
        What is viewed has no such blocks.
    """
    axis = resolve(axis)
    if isinstance(axis, Concat):
        return concat([force(part) for part in axis.parts])
    if isinstance(axis, Product):
        return product([force(item) for item in axis.factors])
    if isinstance(axis, Outer | Inner):
        axis.view.decided = factor(axis.view.source, axis.view.outer)
        return force(axis)
    return axis


def divide(axis: Axis, sizes: Sequence[int]) -> list[Axis]:
    """Labels of an axis that is viewed as several axes of ``sizes``, left undecided where nothing decides them yet.

    Raises
    ------
    Mismatch
        The label's own structure has no such blocks.
    """
    result: list[Axis] = []
    for size in sizes[:-1]:
        head, axis = _factored(resolve(axis), size, _undecided)
        result.append(head)
    return [*result, axis]


def _undecided(axis: Axis, outer: int) -> tuple[Axis, Axis]:
    view = View(axis, outer)
    return Outer(view), Inner(view)


def narrow(axes: list[Axis], place: int, start: int, stop: int) -> list[Axis]:
    """Labels of ``axes`` with only blocks ``start`` to ``stop`` kept of the undecided view at ``place``.

    Raises
    ------
    Mismatch
        The label at ``place`` is not an undecided view, or what is viewed has no such blocks.
    """
    outer = resolve(axes[place])
    if not isinstance(outer, Outer):
        raise Mismatch("not an undecided view")
    view, inner = outer.view, Inner(outer.view).size
    kept = View(segment(view.source, start * inner, stop * inner), stop - start)
    kept = view.picked.setdefault((view, start, stop), kept)
    result = [_substitute(axis, view, kept, (start, stop)) for axis in axes]
    result[place] = Outer(kept) if stop - start > 1 else Atom(1)
    return result


def _substitute(axis: Axis, view: View, kept: View, key: tuple[int, int]) -> Axis:
    axis = resolve(axis)
    if isinstance(axis, Concat | Product):
        children = axis.parts if isinstance(axis, Concat) else axis.factors
        return type(axis)(tuple(_substitute(child, view, kept, key) for child in children))
    if not isinstance(axis, Outer | Inner):
        return axis
    if axis.view is view:
        return axis if isinstance(axis, Outer) else (Inner(kept) if kept.outer > 1 else kept.source)
    source = _substitute(axis.view.source, view, kept, key)
    if source is resolve(axis.view.source):
        return axis
    inside = axis.view.picked.setdefault((view, *key), View(source, axis.view.outer))
    return type(axis)(inside)
