"""Where the units of a group can be observed while a network runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx

from fastmatch.errors import SymmetryError
from fastmatch.symmetry.extract import Extraction
from fastmatch.symmetry.graph import Graph, shape_of
from fastmatch.symmetry.labels import Mismatch
from fastmatch.symmetry.layout import Occurrence, TensorLayout
from fastmatch.symmetry.tracer import Tracer

_aten = torch.ops.aten
# Elementwise, but a correlation sees no difference: what stands before and behind them is one thing.
_LINEAR = {
    _aten.add.Tensor,
    _aten.sub.Tensor,
    _aten.mul.Tensor,
    _aten.div.Tensor,
    _aten.add.Scalar,
    _aten.sub.Scalar,
    _aten.mul.Scalar,
    _aten.div.Scalar,
    _aten.neg.default,
    _aten.clone.default,
}


@dataclass(frozen=True)
class Tap:
    """Where a group can be observed: ``place`` on the value of a graph node, its tensor.

    Attributes
    ----------
    beside
        The other groups on that value, but for those that the group varies with: where they are not lined up yet,
        samples of two networks do not correspond.
    before, after
        All places of the group on what goes into an elementwise nonlinearity and on what comes out, in every block of a
        residual stream; without other groups than ``beside``.
    """

    place: Occurrence
    beside: frozenset[str]
    before: tuple[Occurrence, ...] = ()
    after: tuple[Occurrence, ...] = ()


def find_taps(tracer: Tracer, extraction: Extraction) -> dict[str, Tap]:
    """For each group, the last elementwise result that carries it, if possible without other groups beside it.

    A group that stands nowhere behind an elementwise operation is observed where it was last seen.
    """
    found: dict[str, tuple[tuple[bool, bool], Tap]] = {}
    around: dict[str, list[tuple[Tap, bool]]] = {}
    for node in _dependent_on_inputs(tracer.graph):
        for tap in _observed(node, tracer, extraction):
            rank = (not tap.beside, _elementwise(node))
            if tap.place.group not in found or rank >= found[tap.place.group][0]:
                found[tap.place.group] = rank, tap
        if _elementwise(node) and node.target not in _LINEAR and len(node.all_input_nodes) == 1:
            for side, is_after in ((node.all_input_nodes[0], False), (node, True)):
                for tap in _observed(side, tracer, extraction):
                    around.setdefault(tap.place.group, []).append((tap, is_after))
    return {
        group.name: _with_places(found[group.name][1], around.get(group.name, ()))
        for group in extraction.spec.groups
        if group.name in found
    }


def _elementwise(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and torch.Tag.pointwise in node.target.tags


def _with_places(tap: Tap, around: Iterable[tuple[Tap, bool]]) -> Tap:
    """``tap`` with the places before and after nonlinearities, each once."""
    before, after = (
        tuple(dict.fromkeys(other.place for other, side in around if side == after and other.beside <= tap.beside))
        for after in (False, True)
    )
    return replace(tap, before=before, after=after)


def _dependent_on_inputs(graph: Graph) -> list[fx.Node]:
    """Operations that see the data; the others are functions of the weights alone."""
    seen = {node for node, source in graph.placeholders() if source.kind == "input"}
    result: list[fx.Node] = []
    for node in graph.module.graph.nodes:
        if node.op == "call_function" and any(source in seen for source in node.all_input_nodes):
            seen.add(node)
            result.append(node)
    return result


def _observed(node: fx.Node, tracer: Tracer, extraction: Extraction) -> Iterator[Tap]:
    if node not in tracer.labels or not isinstance(node.meta["val"], Tensor):
        return  # the entries of a tuple are nodes of their own
    try:
        axes = tracer.labels.lazy(node)
        layout = TensorLayout(tuple(shape_of(node)), tuple(extraction.boxes(axis) for axis in axes))
        places = list(layout.occurrences(node.name, extraction.spec.bases))
    except (Mismatch, SymmetryError):
        return  # an undecided view, or units of which only some are here
    sizes = node.meta["val"].shape
    here = {place.group for place in places} - extraction.spec.fixed
    for place in places:
        if all(isinstance(sizes[axis], int) for axis in (place.axis, *(axis for axis, _, _ in place.bases))):
            yield Tap(place, frozenset(here - {place.group, *extraction.spec.bases.get(place.group, ())}))
