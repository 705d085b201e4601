"""Read the permutation groups off the labels of a traced network."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fastmatch.symmetry.fibres import fibres
from fastmatch.symmetry.labels import Atom, Axis, Concat, Mismatch, Run, atoms, resolve, runs
from fastmatch.symmetry.layout import Box, Factor, TensorLayout
from fastmatch.symmetry.spec import PermutationSpec, Pin
from fastmatch.symmetry.tracer import Tracer

# Atoms that move as one, outermost first.
Unit = tuple[Atom, ...]
# One box: its offset, and (unit, size, stride) of its factors.
_Cell = tuple[int, list[tuple[Unit, int, int]]]


@dataclass(frozen=True)
class Extraction:
    """Spec of a traced network, with the atoms behind the names of its groups."""

    spec: PermutationSpec
    names: dict[Unit, str]
    units: set[Unit]

    def boxes(self, axis: Axis) -> tuple[Box, ...]:
        """Boxes of an axis in terms of the groups.

        Raises
        ------
        Mismatch
            Atoms that move as one are apart here.
        """
        cells = [_merge(_cell(run), self.units) for run in runs(axis)]
        joined = {atom for unit in self.units for atom in unit}
        for unit in (unit for _, factors in cells for unit, _, _ in factors):
            if unit not in self.names and any(atom in joined for atom in unit):
                raise Mismatch("units are divided here")
        return tuple(_box(cell, self.names) for cell in cells)


def extract(tracer: Tracer) -> Extraction:
    """Groups are the units of unpinned atoms that parameters or buffers carry."""
    varies = fibres(tracer.labels.spaces)
    order = sorted(tracer.module_state, key=lambda name: tracer.first_use.get(name, math.inf))
    cells = {name: [[_cell(run) for run in runs(axis)] for axis in tracer.state[name]] for name in order}
    units = _join(cells, varies)
    merged = {name: [[_merge(cell, units) for cell in axis] for axis in axes] for name, axes in cells.items()}
    appearance: dict[Unit, str] = {}
    for name, axes in merged.items():
        for _, factors in (cell for axis in axes for cell in axis):
            for unit, _, _ in factors:
                appearance.setdefault(unit, name)
    bases = _bases(list(appearance), varies)
    names = _names(appearance, bases)
    tensors = {
        name: TensorLayout(
            tuple(axis.size for axis in tracer.state[name]),
            tuple(tuple(_box(cell, names) for cell in axis) for axis in merged[name]),
            name in tracer.buffers,
        )
        for name in tracer.module_state
    }
    spec = PermutationSpec(
        tensors,
        tuple(_pins(tracer)),
        {names[unit]: tuple(names[base] for base in listed) for unit, listed in bases.items() if listed},
        frozenset(name for unit, name in names.items() if not _moves(unit)),
    )
    return Extraction(spec, names, units)


def _cell(run: Run) -> _Cell:
    return run.offset, [((atom,), atom.size, stride) for atom, stride in run.factors]


def _moves(unit: Unit) -> bool:
    return unit[0].reason is None


def _join(cells: dict[str, list[list[_Cell]]], varies: dict[Atom, set[Atom]]) -> set[Unit]:
    """Join atoms that vary with each other where they are neighbours everywhere; return the units that result."""
    everywhere = [cell for axes in cells.values() for axis in axes for cell in axis]
    units: set[Unit] = set()
    while True:
        merged = [_merge(cell, units) for cell in everywhere]
        pair = _inseparable(merged, varies)
        if pair is None:
            return units
        units.add(pair)


def _inseparable(cells: list[_Cell], varies: dict[Atom, set[Atom]]) -> Unit | None:
    """Two units, joined, that stand side by side wherever one of them stands."""
    total: dict[Unit, int] = {}
    beside: dict[tuple[Unit, Unit], int] = {}
    for _, factors in cells:
        for unit, _, _ in factors:
            total[unit] = total.get(unit, 0) + 1
        for (left, _, far), (right, size, near) in itertools.pairwise(factors):
            if far == size * near:
                beside[left, right] = beside.get((left, right), 0) + 1
    for (left, right), count in beside.items():
        together = right[0] in varies.get(left[0], ()) and left[0] in varies.get(right[0], ())
        if together and count == total[left] == total[right] and _moves(left) and _moves(right):
            return left + right
    return None


def _merge(cell: _Cell, units: Iterable[Unit]) -> _Cell:
    """Write a box with neighbouring atoms joined into units."""
    known = set(units)
    offset, factors = cell
    result: list[tuple[Unit, int, int]] = []
    for factor in factors:
        result.append(factor)
        while len(result) > 1:
            (left, left_size, far), (right, size, near) = result[-2:]
            if left + right not in known or far != size * near:
                break
            result[-2:] = [(left + right, left_size * size, near)]
    return offset, result


def _bases(units: list[Unit], varies: dict[Atom, set[Atom]]) -> dict[Unit, list[Unit]]:
    """For each unit that moves, what it varies with; of two that vary with each other, the later with the earlier."""
    found = {
        unit: [
            other
            for place, other in enumerate(units)
            if other != unit
            and other[0] in varies.get(unit[0], ())
            and (place < index or not _moves(other) or unit[0] not in varies.get(other[0], ()))
        ]
        for index, unit in enumerate(units)
        if _moves(unit)
    }
    return {unit: sorted(bases, key=lambda base: len(found.get(base, ()))) for unit, bases in found.items()}


def _names(appearance: dict[Unit, str], bases: dict[Unit, list[Unit]]) -> dict[Unit, str]:
    """Name every unit that moves, or that others vary with, after the layer where it is first used."""
    carriers = {base for listed in bases.values() for base in listed}
    names: dict[Unit, str] = {}
    for unit, tensor in appearance.items():
        if _moves(unit) or unit in carriers:
            role = "#blocks" if unit in carriers else "#inside" if bases.get(unit) else ""
            layer = re.sub(r"[\s()\[\]+]", "_", tensor.rpartition(".")[0] or tensor)
            names[unit] = _unused(layer + role, names)
    return names


def _unused(name: str, names: dict[Unit, str]) -> str:
    taken, candidate, count = set(names.values()), name, 2
    while candidate in taken:
        candidate, count = f"{name}{'' if '#' in name else '#'}{count}", count + 1
    return candidate


def _box(cell: _Cell, names: dict[Unit, str]) -> Box:
    offset, factors = cell
    return Box(offset, tuple(Factor(names.get(unit), size, stride) for unit, size, stride in factors))


def _pins(tracer: Tracer) -> Iterator[Pin]:
    for name in tracer.module_state:
        for place, axis in enumerate(tracer.state[name]):
            offset = 0
            for part in _segments(axis):
                where = f"{name}[{place}]" + (f" from {offset}" if offset else "")
                for atom in dict.fromkeys(atoms(part)):
                    if atom.reason is not None and axis.size > 1:
                        yield Pin(where, atom.reason)
                offset += part.size


def _segments(axis: Axis) -> tuple[Axis, ...]:
    axis = resolve(axis)
    return axis.parts if isinstance(axis, Concat) else (axis,)
