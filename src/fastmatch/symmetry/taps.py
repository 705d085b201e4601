"""Where the units of a group can be observed while a network runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from fastmatch.errors import SymmetryError
from fastmatch.symmetry.extract import Extraction
from fastmatch.symmetry.graph import Graph, shape_of
from fastmatch.symmetry.labels import Axis, Mismatch
from fastmatch.symmetry.layout import Occurrence, TensorLayout
from fastmatch.symmetry.tracer import Tracer


@dataclass(frozen=True)
class Tap:
    """Where a group can be observed: ``place`` on the value of a graph node, its tensor.

    ``beside`` are the other groups on that value, but for those that the group varies with: where they are not lined up
    yet, samples of two networks do not correspond.
    """

    place: Occurrence
    beside: frozenset[str]


def find_taps(tracer: Tracer, extraction: Extraction) -> dict[str, Tap]:
    """For each group, the last elementwise result that carries it, if possible without other groups beside it.

    A group that stands nowhere behind an elementwise operation is observed where it was last seen.
    """
    found: dict[str, tuple[tuple[bool, bool], Tap]] = {}
    for node in _dependent_on_inputs(tracer.graph):
        if node not in tracer.labels or not isinstance(node.meta["val"], Tensor):
            continue  # the entries of a tuple are nodes of their own
        elementwise = isinstance(node.target, torch._ops.OpOverload) and torch.Tag.pointwise in node.target.tags
        for tap in _observed(node, tracer.labels.lazy(node), extraction):
            rank = (not tap.beside, elementwise)
            if tap.place.group not in found or rank >= found[tap.place.group][0]:
                found[tap.place.group] = rank, tap
    return {group.name: found[group.name][1] for group in extraction.spec.groups if group.name in found}


def _dependent_on_inputs(graph: Graph) -> list[fx.Node]:
    """Operations that see the data; the others are functions of the weights alone."""
    seen = {node for node, source in graph.placeholders() if source.kind == "input"}
    result: list[fx.Node] = []
    for node in graph.module.graph.nodes:
        if node.op == "call_function" and any(source in seen for source in node.all_input_nodes):
            seen.add(node)
            result.append(node)
    return result


def _observed(node: fx.Node, axes: list[Axis], extraction: Extraction) -> Iterator[Tap]:
    try:
        layout = TensorLayout(tuple(shape_of(node)), tuple(extraction.boxes(axis) for axis in axes))
        places = list(layout.occurrences(node.name, extraction.spec.bases))
    except (Mismatch, SymmetryError):
        return  # an undecided view, or units of which only some are here
    sizes = node.meta["val"].shape
    here = {place.group for place in places} - extraction.spec.fixed
    for place in places:
        if all(isinstance(sizes[axis], int) for axis in (place.axis, *(axis for axis, _, _ in place.bases))):
            yield Tap(place, frozenset(here - {place.group, *extraction.spec.bases.get(place.group, ())}))
