"""Lowered networks: exported once, and cheaper to run with one combination of weights after the other."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from fastmatch.interpolation import fused
from fastmatch.interpolation.batchnorm import Moments, moments, pool, write
from fastmatch.interpolation.layers import (
    NORM,
    RESHAPES,
    Layer,
    arguments,
    find_layers,
    folded,
    in_place,
    reads_input,
)
from fastmatch.symmetry import Graph, GraphRunner

_aten = torch.ops.aten
State = Mapping[str, Tensor]


class Lowered(GraphRunner):
    """A network as a graph in which what does not depend on the data is done once for each combination of weights.

    Normalisations by running statistics are folded into the layers before them, in float64, biases and ReLUs are one
    operation with their layer, sums and other ReLUs work in place, and images lie channels last. A linear layer that
    reads the inputs themselves is linear in its weights: its outputs are the same combination of the networks' own
    outputs, which :class:`FirstLayers` computes once.

    Parameters
    ----------
    graph
        Result of :func:`export_graph` with one input; it is changed.
    dtype
        Type of the layers' operands, that of the weights if None. The layer of the logits keeps the type of the
        weights: logits of a half type tie. So does the shared one.
    """

    def __init__(self, graph: Graph, dtype: torch.dtype | None = None) -> None:
        super().__init__(graph, ())
        self._dtype = dtype
        self._names = {node: source.name for node, source in graph.placeholders() if source.kind == "state"}
        nodes = list(graph.module.graph.nodes)
        inputs = [node for node, source in graph.placeholders() if source.kind == "input"]
        self._layers = find_layers(graph.module.graph, self._names)
        self._first = next((node for node in self._layers if reads_input(node, inputs)), None)
        if self._first is not None and self._layers[self._first].norm is not None:
            self._layers[self._first] = Layer(self._first)  # what is shared comes before the normalisation
        self._last = arguments(nodes[-1])[0][0]
        self._passed = {after: before for layer in self._layers.values() for before, after in layer.passed}
        self._in_place = {node for node in nodes if in_place(node)}
        self._state: State = {}
        self._weights: dict[fx.Node, tuple[Tensor, Tensor | None]] = {}
        self._given: Tensor | None = None
        self._plain = False
        self.env: dict[fx.Node, Any]
        for node in nodes:
            if node.target in RESHAPES:
                node.target = _aten.reshape.default  # channels last, what was a view may be a copy
        graph.module.recompile()

    def first_size(self, network: State) -> int:
        """Bytes for one example of the outputs of a linear layer that reads the inputs; 0 if there is none."""
        if self._first is None:
            return 0
        weight, _ = self.first_layer(network)
        return math.prod(self._first.meta["val"].shape[1:]) * weight.element_size()

    def first_layer(self, network: State) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the linear layer that reads the inputs, in the type that combinations have."""
        assert self._first is not None
        weight, bias = (*arguments(self._first)[1:], None)[:2]
        given = [None if node is None else network[self._names[node]] for node in (weight, bias)]
        first, second = (None if t is None else t.to(torch.promote_types(t.dtype, torch.float32)) for t in given)
        assert first is not None
        return first, second

    def first_inputs(self, inputs: Tensor) -> Tensor:
        """What that layer reads."""
        assert self._first is not None
        return inputs.reshape(len(inputs), *arguments(self._first)[0].meta["val"].shape[1:])

    def load(self, state: State) -> None:
        """Take the weights and statistics of ``state`` for the runs to come."""
        self._state = state
        for node, layer in self._layers.items():
            weight, bias = self._value(arguments(node)[1]), self._value((*arguments(node), None)[2])
            assert weight is not None
            if layer.norm is not None:
                _, *norm, _, epsilon = arguments(layer.norm)
                weight, bias = folded(weight, bias, [self._value(given) for given in norm], epsilon)
            if node is not self._last:
                weight, bias = self._cast(weight), None if bias is None else self._cast(bias)
            self._weights[node] = _channels_last(weight), bias

    def unload(self) -> None:
        """Let go of the weights."""
        self._state, self._given = {}, None
        self._weights.clear()

    def _value(self, node: fx.Node | None) -> Tensor | None:
        return None if node is None else self._state[self._names[node]]

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor if self._dtype is None else tensor.to(self._dtype)

    def logits(self, inputs: Tensor, first: Tensor | None = None) -> Any:
        """Output for one batch; ``first`` is the output of the first linear layer if it is known."""
        self._given, self._plain = first, False
        (output,) = self.outputs(self._state, (_channels_last(self._cast(inputs)),))
        return output

    def settle(self, state: State, batches: Sequence[Tensor]) -> list[Tensor]:
        """Outputs of all batches, with statistics of every normalisation that are those of all batches together.

        The running statistics in ``state`` are changed in place, as by :func:`reset_statistics`. All batches wait in
        front of a normalisation until its statistics are known, so that each example runs once.
        """
        runs = [self._until_normalised(state, batch) for batch in batches]
        while True:
            waiting, outputs = [], []
            for run in runs:
                try:
                    waiting.append(next(run))
                except StopIteration as end:
                    outputs.append(end.value)
            if outputs:
                return outputs
            _, mean, variance = waiting[0]
            write(pool(found for found, _, _ in waiting), mean, variance)

    def _until_normalised(
        self, state: State, inputs: Tensor
    ) -> Generator[tuple[Moments, Tensor, Tensor], None, Tensor]:
        """Run node by node; before each normalisation, yield moments of its input and its running statistics."""
        values: dict[fx.Node, Any] = {}
        given = iter(self.arguments(state, (_channels_last(inputs),)))
        for node in self.graph.nodes:
            if node.target == NORM and arguments(node)[3] in self._names:
                source, _, _, mean, variance, *_ = arguments(node)
                yield moments(values[source]), values[mean], values[variance]
            self.env, self._plain = values, True
            values[node] = next(given) if node.op == "placeholder" else self.run_node(node)
            for last in self.user_to_last_uses.get(node, []):
                del values[last]
        (output,) = values[node]
        return output

    def run_node(self, n: fx.Node) -> Any:
        """Run one node, or what it was folded to."""
        if n in self._layers:
            return self._run_plain_layer(n) if self._plain else self._run_layer(n)
        if n in self._passed and not self._plain:
            return self.env[self._passed[n]]
        if n in self._in_place:
            value, *others = (self.env[given] if isinstance(given, fx.Node) else given for given in arguments(n))
            return value.relu_() if n.target == _aten.relu.default else value.add_(*others, **n.kwargs)
        return super().run_node(n)

    def _run_layer(self, n: fx.Node) -> Tensor:
        layer, (weight, bias) = self._layers[n], self._weights[n]
        relu = layer.relu is not None
        if n is self._first and self._given is not None:
            return self._cast(self._given.relu_() if relu else self._given)
        other = None if layer.other is None else self.env[layer.other].to(weight.dtype)
        return _run(n, self.env[arguments(n)[0]].to(weight.dtype), weight, bias, other, relu)

    def _run_plain_layer(self, n: fx.Node) -> Tensor:
        inputs, weight, *bias = (None if given is None else self.env[given] for given in arguments(n)[:3])
        return _run(n, inputs, weight, bias[0] if bias else None, None, False)


def _run(n: fx.Node, inputs: Any, weight: Any, bias: Tensor | None, other: Tensor | None, relu: bool) -> Tensor:
    if n.target == _aten.linear.default:
        return fused.linear(inputs, weight, bias, relu)
    _, _, _, stride, padding, dilation, _, _, groups = arguments(n)
    return fused.convolution(inputs, weight, bias, (stride, padding, dilation, groups), other, relu)


def _channels_last(values: Tensor) -> Tensor:
    """Images, and weights of convolutions, in the order that convolutions are fastest with."""
    return values.contiguous(memory_format=torch.channels_last) if values.dim() == 4 else values
