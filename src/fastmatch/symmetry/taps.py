"""Where the units of a group can be observed while a network runs."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, fx

from fastmatch.errors import SymmetryError
from fastmatch.symmetry.extract import Extraction
from fastmatch.symmetry.graph import Graph, shape_of
from fastmatch.symmetry.labels import Axis, Mismatch
from fastmatch.symmetry.layout import Occurrence, TensorLayout
from fastmatch.symmetry.tracer import Tracer


def find_taps(tracer: Tracer, extraction: Extraction) -> dict[str, Occurrence]:
    """For each group, the last elementwise result that carries it; the tensor of the occurrence is a graph node.

    A group that stands nowhere behind an elementwise operation is observed where it was last seen.
    """
    found: dict[str, Occurrence] = {}
    elementwise: set[str] = set()
    for node in _dependent_on_inputs(tracer.graph):
        if node not in tracer.labels or not isinstance(node.meta["val"], Tensor):
            continue  # the entries of a tuple are nodes of their own
        strong = isinstance(node.target, torch._ops.OpOverload) and torch.Tag.pointwise in node.target.tags
        for place in _observed(node, tracer.labels.lazy(node), extraction):
            if strong or place.group not in elementwise:
                found[place.group] = place
                elementwise |= {place.group} if strong else set()
    return {group.name: found[group.name] for group in extraction.spec.groups if group.name in found}


def _dependent_on_inputs(graph: Graph) -> list[fx.Node]:
    """Operations that see the data; the others are functions of the weights alone."""
    seen = {node for node, source in graph.placeholders() if source.kind == "input"}
    result: list[fx.Node] = []
    for node in graph.module.graph.nodes:
        if node.op == "call_function" and any(source in seen for source in node.all_input_nodes):
            seen.add(node)
            result.append(node)
    return result


def _observed(node: fx.Node, axes: list[Axis], extraction: Extraction) -> Iterator[Occurrence]:
    try:
        layout = TensorLayout(tuple(shape_of(node)), tuple(extraction.boxes(axis) for axis in axes))
        places = list(layout.occurrences(node.name, extraction.spec.bases))
    except (Mismatch, SymmetryError):
        return  # an undecided view, or units of which only some are here
    sizes = node.meta["val"].shape
    for place in places:
        if all(isinstance(sizes[axis], int) for axis in (place.axis, *(axis for axis, _, _ in place.bases))):
            yield place
