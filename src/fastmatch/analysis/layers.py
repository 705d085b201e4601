"""Layers of a network in order of execution: where their features stand, and where the network can be cut in two."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, fx, nn

from fastmatch.errors import SymmetryError
from fastmatch.interpolation.layers import arguments
from fastmatch.symmetry import Graph, GraphRunner, export_at_home, tied_names

_aten = torch.ops.aten
_LAYERS = (_aten.convolution.default, _aten.linear.default)
_NORMS = (
    _aten._native_batch_norm_legit_no_training.default,
    _aten.native_group_norm.default,
    _aten.native_layer_norm.default,
)
_MOVES = (_aten.view.default, _aten._unsafe_view.default, _aten.permute.default, _aten.clone.default)


@dataclass(frozen=True, eq=False)
class Layer:
    """A convolution or linear layer with what is done elementwise to its outputs.

    Attributes
    ----------
    name
        Module of its weight; a layer that runs again has its turn behind it.
    node
        The operation. None for the outputs of the network, where another operation than a layer gives them.
    weight
        Name of its weight.
    feature
        Node of the features: the last elementwise operation or normalisation on the layer's outputs, and on what such
        operations make of them, before the next layer runs, with the units on the axis of the layer's outputs. The sum
        of a residual block belongs to the layer before it.
    relu
        Node that the last ReLU among these operations reads; None without one.
    cut
        Names of the entries of the state dict that are read up to here, where nothing but the features is passed on to
        the rest of the network and no entry is read on both sides; else None.
    """

    name: str
    node: fx.Node | None
    weight: str | None
    feature: str
    relu: str | None
    cut: frozenset[str] | None

    @property
    def unit_axis(self) -> int:
        """Axis of the units in the features."""
        return 1 if self.node is not None and self.node.target == _aten.convolution.default else -1

    @property
    def reads(self) -> str:
        """Node that the layer reads."""
        assert self.node is not None
        return str(arguments(self.node)[0].name)

    def units_first(self, weight: Tensor) -> Tensor:
        """The layer's weight with the units on its first axis: a transposed convolution has its inputs there."""
        assert self.node is not None
        if self.node.target != _aten.convolution.default or not arguments(self.node)[6]:
            return weight
        groups: int = arguments(self.node)[8]
        return weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)

    def apply(self, inputs: Tensor, weight: Tensor) -> Tensor:
        """The layer's linear map, without a bias."""
        assert self.node is not None
        target: Any = self.node.target
        result: Tensor = target(inputs, weight, None, *arguments(self.node)[3:])
        return result


@dataclass(frozen=True, eq=False)
class Layered:
    """A network as a graph, with its layers in the order in which they run."""

    graph: Graph
    layers: tuple[Layer, ...]

    def runner(self, nodes: Collection[str | None]) -> GraphRunner:
        """What runs the network with given weights and returns the values of some nodes."""
        return GraphRunner(self.graph, [node for node in nodes if node is not None])


def find_layers(module: nn.Module, inputs: Tensor) -> Layered:
    """Layers of ``module``: convolutions and linear layers with weights of their own, and the outputs.

    The network is exported where its weights are, and runs where ``inputs`` are.

    Raises
    ------
    SymmetryError
        The network cannot be exported, or has no such layer.
    """
    try:
        graph = export_at_home(module, inputs)
    except SymmetryError as error:  # what helps tracing does not help here
        raise SymmetryError(
            f"layers are read off the exported network: {str(error).partition('; trace')[0]}"
        ) from error
    layers = tuple(_Finder(graph, module).find())
    if not layers:
        raise SymmetryError("the network has no convolution or linear layer with a weight of its own to look behind")
    return Layered(graph, layers)


class _Finder:
    """Reads layers off a graph."""

    def __init__(self, graph: Graph, module: nn.Module) -> None:
        self._nodes = list(graph.module.graph.nodes)
        self._place = {node: place for place, node in enumerate(self._nodes)}
        self._names = {node: source.name for node, source in graph.placeholders() if source.kind == "state"}
        given = {node for node, source in graph.placeholders() if source.kind == "input"}
        self._data = set(given)  # nodes with tensors that depend on the examples
        for node in self._nodes:
            if node.op == "call_function" and _holds_tensors(node) and self._data.intersection(node.all_input_nodes):
                self._data.add(node)
        self._uses = _uses(self._names, self._data, self._place, tied_names(module.state_dict(keep_vars=True)))

    def find(self) -> Iterator[Layer]:
        """Layers in order, then the outputs where they are none of the layers' features."""
        found = [node for node in self._nodes if node.target in _LAYERS and arguments(node)[1] in self._names]
        found = [node for node in found if node in self._data]
        turns: dict[str, int] = {}
        feature: fx.Node | None = None
        for node, after in pairwise([*found, self._nodes[-1]]):
            weight = self._names[arguments(node)[1]]
            name = weight.rpartition(".")[0] or weight
            turns[name] = turns.get(name, 0) + 1
            feature, relu = self._follow(node, after)
            title = name if turns[name] == 1 else f"{name} ({turns[name]})"
            yield Layer(title, node, weight, feature.name, relu, self._cut(feature))
        output, *_ = arguments(self._nodes[-1])[0]
        if found and _moved(output) is not feature:
            yield Layer("output", None, None, output.name, None, frozenset(self._uses))

    def _follow(self, layer: fx.Node, after: fx.Node) -> tuple[fx.Node, str | None]:
        """The last elementwise operation that is reached from a layer before the next, and what a ReLU reads."""
        axes: dict[fx.Node, int | None] = {layer: _home(layer, layer)}
        feature, relu = layer, None
        for node in self._nodes[self._place[layer] + 1 : self._place[after]]:
            before = {axes[source] for source in node.all_input_nodes if source in axes}
            if node not in self._data or not before or not _is_passed(node):
                continue
            axis = axes[node] = _units_after(node, before.pop()) if len(before) == 1 else None
            if node.target in _MOVES or not isinstance(node.meta["val"], Tensor) or axis != _home(layer, node):
                continue
            feature = node
            if node.target == _aten.relu.default:
                relu = str(arguments(node)[0].name)
        return feature, relu

    def _cut(self, feature: fx.Node) -> frozenset[str] | None:
        place = self._place[feature]
        others = [node for node in self._data if node is not feature and self._place[node] <= place]
        if any(user in self._data and self._place[user] > place for node in others for user in node.users):
            return None
        before = {name for name, uses in self._uses.items() if min(uses) <= place}
        return None if any(max(self._uses[name]) > place for name in before) else frozenset(before)


def _is_passed(node: fx.Node) -> bool:
    """Whether an operation treats every entry by itself, normalises, or only moves entries."""
    if node.target is operator.getitem:
        source, place = arguments(node)
        return source.target in _NORMS and bool(place == 0)
    pointwise = isinstance(node.target, torch._ops.OpOverload) and torch.Tag.pointwise in node.target.tags
    return pointwise or node.target in _NORMS or node.target in _MOVES


def _moved(node: fx.Node) -> fx.Node:
    """Node whose entries a node has, in another order or shape at most."""
    while node.target in _MOVES:
        node = arguments(node)[0]
    return node


def _home(layer: fx.Node, node: fx.Node) -> int:
    """Axis, from the last, on which a layer's units are to be."""
    return 1 - node.meta["val"].dim() if layer.target == _aten.convolution.default else -1


def _units_after(node: fx.Node, axis: int | None) -> int | None:
    """Axis of the units, from the last, behind an operation; None where they are not one axis any more."""
    if axis is None or node.target not in _MOVES:
        return axis  # operands of other shapes are lined up from the last axis on
    before, after = (list(value.meta["val"].shape) for value in (arguments(node)[0], node))
    if node.target == _aten.permute.default:
        return [place % len(before) for place in arguments(node)[1]].index(len(before) + axis) - len(after)
    if before[axis:] == after[axis:]:
        return axis
    ahead = len(before) + axis + 1
    return ahead - 1 - len(after) if before[:ahead] == after[:ahead] else None


def _holds_tensors(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) or (isinstance(value, list | tuple) and any(isinstance(v, Tensor) for v in value))


def _uses(
    names: Mapping[fx.Node, str], data: Collection[fx.Node], place: Mapping[fx.Node, int], tied: Mapping[str, list[str]]
) -> dict[str, set[int]]:
    """Places of the operations on examples that read each entry of the state dict, under any of its names."""
    uses: dict[str, set[int]] = {}
    for node, name in names.items():
        if found := {place[reader] for reader in _readers(node, data)}:
            for other in tied.get(name, [name]):
                uses.setdefault(other, set()).update(found)
    return uses


def _readers(node: fx.Node, data: Collection[fx.Node]) -> Iterator[fx.Node]:
    """Operations on examples that read a weight, or what is made of it alone."""
    for user in node.users:
        if user in data:
            yield user
        else:
            yield from _readers(user, data)
