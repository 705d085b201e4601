"""The fibre rule: which atoms have a permutation of their own for each index of another.

Coordinates inside attention heads may be permuted differently in each head, channels in each group of a grouped
convolution. Atom a may vary with the index of b only if in every joint index space each a occurs with exactly one b.
The relation is transitive. Atoms that vary with each other are never told apart and move as one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from fastmatch.symmetry.algebra import force
from fastmatch.symmetry.labels import Atom, Axis, Concat, Inner, Mismatch, Outer, Product, pin, resolve, runs


def fibres(spaces: Iterable[list[Axis]]) -> dict[Atom, set[Atom]]:
    """Return for each atom the atoms that it may vary with.

    Parameters
    ----------
    spaces
        Lists of labels whose indices occur together; see ``Labels.spaces``.
    """
    spaces = list(spaces)
    _decide(spaces)
    result: dict[Atom, set[Atom]] = {}
    seen: set[frozenset[tuple[Axis, int]]] = set()
    for space in spaces:
        # What could not be decided is pinned, and nothing varies with what is missing here.
        leaves = [leaf for leaf in _leaves(space) if _is_decided(leaf)]
        key = frozenset(Counter(leaves).items())
        if key not in seen:
            seen.add(key)
            _restrict(result, leaves)
    return result


def _decide(spaces: list[list[Axis]]) -> None:
    """Decide views of which a space has only a part."""
    for leaf in (leaf for space in spaces for leaf in _leaves(space)):
        if not _is_decided(leaf):
            try:
                force(leaf)
            except Mismatch as reason:
                pin(leaf, str(reason))


def _is_decided(axis: Axis) -> bool:
    axis = resolve(axis)
    children = axis.parts if isinstance(axis, Concat) else axis.factors if isinstance(axis, Product) else ()
    return not isinstance(axis, Outer | Inner) and all(_is_decided(child) for child in children)


def _leaves(space: list[Axis]) -> list[Axis]:
    """Factors of a space, undecided views taken back together; each factor is one atom or a concatenation."""
    leaves = [leaf for axis in space for leaf in _factors(axis)]
    while pair := _undecided(leaves):
        outer, inner = pair
        leaves = [leaf for leaf in leaves if leaf is not outer and leaf is not inner]
        leaves += _factors(inner.view.source)
    return [leaf for leaf in leaves if leaf.size > 1]


def _factors(axis: Axis) -> list[Axis]:
    axis = resolve(axis)
    return list(axis.factors) if isinstance(axis, Product) else [axis]


def _undecided(leaves: list[Axis]) -> tuple[Outer, Inner] | None:
    outers = {leaf.view: leaf for leaf in leaves if isinstance(leaf, Outer)}
    for leaf in leaves:
        if isinstance(leaf, Inner) and leaf.view in outers:
            return outers[leaf.view], leaf
    return None


def _restrict(result: dict[Atom, set[Atom]], leaves: list[Axis]) -> None:
    """Keep of what atoms may vary with what occurs exactly once beside them in this space."""
    counts = [[Counter(atom for atom, _ in run.factors) for run in runs(leaf)] for leaf in leaves]
    constant = [_constant(options) for options in counts]
    total: Counter[Atom] = Counter()
    for certain in constant:
        total.update(certain)
    for options, certain in zip(counts, constant, strict=True):
        varying_elsewhere = _varying(counts, constant, options)
        for option in options:
            beside = Counter(total)
            beside.subtract(certain)
            beside.update(option)
            allowed = {atom for atom, count in beside.items() if count == 1 and atom not in varying_elsewhere}
            for atom in option:
                result[atom] = (result[atom] & allowed if atom in result else allowed) - {atom}


def _constant(options: list[Counter[Atom]]) -> Counter[Atom]:
    """Occurrences that all segments of an axis have in common, in equal number."""
    first = options[0]
    return Counter({atom: count for atom, count in first.items() if all(option[atom] == count for option in options)})


def _varying(counts: list[list[Counter[Atom]]], constant: list[Counter[Atom]], own: list[Counter[Atom]]) -> set[Atom]:
    """Atoms that occur on some segments of another axis and not on others."""
    return {
        atom
        for options, certain in zip(counts, constant, strict=True)
        if options is not own
        for option in options
        for atom in option
        if atom not in certain
    }
