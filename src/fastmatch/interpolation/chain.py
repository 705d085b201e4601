"""Plain multilayer perceptrons: linear layers with elementwise functions between them, read off the exported graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from fastmatch.errors import SymmetryError
from fastmatch.interpolation.layers import RESHAPES, arguments, is_layer, reads_input
from fastmatch.symmetry import Graph, PermutationSpec, export_at_home, float_type

_aten = torch.ops.aten


class Linear(NamedTuple):
    """A linear layer by the names of its weight [units, inputs] and bias, and the group of its units if they move."""

    weight: str
    bias: str | None
    group: str | None


class Chain(NamedTuple):
    """Layers in order; ``activations[h]`` stands between layers h and h + 1."""

    layers: tuple[Linear, ...]
    activations: tuple[Callable[[Tensor], Tensor], ...]


def find_chain(module: nn.Module, spec: PermutationSpec, state: Mapping[str, Tensor], inputs: Tensor) -> Chain | None:
    """The network as a chain of linear layers, or None if it is anything else.

    It is one if its first layer reads the inputs (flattened at most), every other the one before it through elementwise
    functions without parameters, no weight is used twice, and a permutation of hidden units moves the rows of one layer
    and the columns of the next.
    """
    if inputs.is_floating_point():
        inputs = inputs.to(float_type(state))
    try:
        graph = export_at_home(module, inputs)
    except SymmetryError:
        return None
    found = _read(graph)
    if found is None:
        return None
    names, activations = found
    groups = _groups(spec, names)
    if groups is None:
        return None
    return Chain(tuple(Linear(*pair, group) for pair, group in zip(names, groups, strict=True)), activations)


def _read(graph: Graph) -> tuple[list[tuple[str, str | None]], tuple[Callable[[Tensor], Tensor], ...]] | None:
    """Names of weights and biases of all layers, and what stands between them."""
    names = {node: source.name for node, source in graph.placeholders() if source.kind == "state"}
    inputs = [node for node, source in graph.placeholders() if source.kind == "input"]
    layers: list[fx.Node] = []
    segments: list[list[fx.Node]] = []
    for node in graph.module.graph.nodes:
        if node.op == "placeholder":
            continue
        if node.op == "output":
            (result, *others) = arguments(node)[0]
            return _chain(layers, segments, names) if not others and layers and [result] == segments[-1] else None
        if not isinstance(node.meta.get("val"), Tensor):
            continue  # sizes, and what is known of them
        if _is_next(node, names, inputs, segments):
            layers.append(node)
            segments.append([node])
        elif segments and _is_elementwise(node, segments[-1]):
            segments[-1].append(node)
        elif segments or node.target not in RESHAPES:
            return None
    return None


def _is_next(
    node: fx.Node, names: Mapping[fx.Node, str], inputs: Sequence[fx.Node], segments: Sequence[Sequence[fx.Node]]
) -> bool:
    """Whether a node is a linear layer of vectors that reads what the chain has come to."""
    if node.target != _aten.linear.default or not is_layer(node, names) or node.meta["val"].dim() != 2:
        return False
    return arguments(node)[0] is segments[-1][-1] if segments else reads_input(node, inputs)


def _is_elementwise(node: fx.Node, segment: Sequence[fx.Node]) -> bool:
    """Whether a node is a function of single entries of values since the last layer, and of constants."""
    tags = getattr(node.target, "tags", ())
    if torch.Tag.pointwise not in tags or torch.Tag.nondeterministic_seeded in tags:
        return False
    return all(source in segment for source in node.all_input_nodes)


def _chain(
    layers: Sequence[fx.Node], segments: Sequence[Sequence[fx.Node]], names: Mapping[fx.Node, str]
) -> tuple[list[tuple[str, str | None]], tuple[Callable[[Tensor], Tensor], ...]] | None:
    pairs = [(*arguments(node), None)[1:3] for node in layers]
    used = [given for pair in pairs for given in pair if given is not None]
    if len(set(used)) < len(used):
        return None
    found = [(names[weight], None if bias is None else names[bias]) for weight, bias in pairs]
    return found, tuple(_function(segment) for segment in segments[:-1])


def _function(segment: Sequence[fx.Node]) -> Callable[[Tensor], Tensor]:
    start, *nodes = segment

    def run(values: Tensor) -> Tensor:
        known: dict[fx.Node, Any] = {start: values}
        for node in nodes:
            given = fx.node.map_arg((node.args, node.kwargs), known.__getitem__)
            known[node] = node.target(*given[0], **given[1])  # type: ignore[operator]
        result: Tensor = known[segment[-1]]
        return result

    return run


def _groups(spec: PermutationSpec, names: Sequence[tuple[str, str | None]]) -> list[str | None] | None:
    """Group of the units of each layer; None if a group of the spec is anything but that."""
    places = {
        frozenset((place.tensor, place.axis) for place in group.occurrences): group
        for group in spec.groups
        if not group.base and all(place.whole(group.size) for place in group.occurrences)
    }
    found: list[str | None] = []
    for (weight, bias), (after, _) in pairwise(names):
        axes = {(weight, 0), (after, 1)} | ({(bias, 0)} if bias is not None else set())
        group = places.get(frozenset(axes))
        found.append(None if group is None else group.name)
    if {name for name in found if name is not None} != {group.name for group in spec.groups}:
        return None
    return [*found, None]
