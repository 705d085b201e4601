"""Lowered networks: exported once, and cheaper to run with one combination of weights after the other."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from fastmatch.symmetry import Graph, GraphRunner

_aten = torch.ops.aten
_NORM = _aten._native_batch_norm_legit_no_training.default
_RESHAPES = (_aten.view.default, _aten.reshape.default, _aten._unsafe_view.default)
State = Mapping[str, Tensor]


class _Fold(NamedTuple):
    """A convolution with what follows it and nothing else reads: a normalisation by fixed statistics, and a ReLU."""

    norm: fx.Node | None
    relu: fx.Node | None


class Lowered(GraphRunner):
    """A network as a graph in which what does not depend on the data is done once for each combination of weights.

    Normalisations by running statistics are folded into the convolutions before them, in float64, a ReLU behind works
    in place, and images lie channels last. A linear layer that reads the inputs themselves is linear in its weights:
    its outputs are the same combination of the networks' own outputs, which :meth:`share` computes once.

    Parameters
    ----------
    graph
        Result of :func:`export_graph` with one input; it is changed.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph, ())
        self._names = {node: source.name for node, source in graph.placeholders() if source.kind == "state"}
        inputs = [node for node, source in graph.placeholders() if source.kind == "input"]
        nodes = list(graph.module.graph.nodes)
        self._folds = {node: self._fold(node) for node in nodes if self._is_convolution(node)}
        self._passed = {node for fold in self._folds.values() for node in fold if node is not None}
        self._first = next((node for node in nodes if self._reads(node, inputs)), None)
        self._state: State = {}
        self._weights: dict[fx.Node, tuple[Tensor, Tensor | None]] = {}
        self._given: Tensor | None = None
        for node in nodes:
            if node.target in _RESHAPES:
                node.target = _aten.reshape.default  # channels last, what was a view may be a copy
        graph.module.recompile()

    def _is_convolution(self, node: fx.Node) -> bool:
        """Whether a node is a convolution of images with weights of its own that may be folded."""
        if node.target != _aten.convolution.default or node.meta["val"].dim() != 4:
            return False
        _, weight, bias, _, _, _, transposed, *_ = _arguments(node)
        return not transposed and weight in self._names and (bias is None or bias in self._names)

    def _fold(self, node: fx.Node) -> _Fold:
        norm = _only_user(node, _NORM)
        if norm is not None and all(given is None or given in self._names for given in norm.args[1:5]):
            result = _only_user(norm, operator.getitem)
            if result is not None and result.args[1] == 0:
                return _Fold(norm, _only_user(result, _aten.relu.default))
        return _Fold(None, _only_user(node, _aten.relu.default))

    def _reads(self, node: fx.Node, inputs: Sequence[fx.Node]) -> bool:
        """Whether a node is a linear layer on the reshaped inputs."""
        if node.target != _aten.linear.default or any(given not in self._names for given in _arguments(node)[1:]):
            return False
        source = _arguments(node)[0]
        sizes = source.meta["val"].shape[1:]
        while source.target in _RESHAPES:
            source = _arguments(source)[0]
        return source in inputs and all(isinstance(size, int) for size in sizes)

    def shared_size(self, networks: Sequence[State], examples: int) -> float:
        """Bytes of :meth:`share`; infinite if the inputs go elsewhere than into a linear layer."""
        if self._first is None:
            return math.inf
        weight = networks[0][self._names[_arguments(self._first)[1]]]
        return len(networks) * examples * math.prod(self._first.meta["val"].shape[1:]) * weight.element_size()

    def share(self, networks: Sequence[State], inputs: Tensor) -> Tensor:
        """Outputs of the linear layer that reads the inputs, shape [networks, examples, ...]."""
        assert self._first is not None
        source, *parameters = _arguments(self._first)
        values = inputs.reshape(len(inputs), *source.meta["val"].shape[1:])
        names = [self._names[node] for node in parameters]
        return torch.stack([F.linear(values, *(network[name] for name in names)) for network in networks])

    def load(self, state: State) -> None:
        """Take the weights and statistics of ``state`` for the runs to come."""
        self._state = state
        for node, fold in self._folds.items():
            weight, bias = (self._value(given) for given in node.args[1:3])
            assert weight is not None
            if fold.norm is not None:
                _, *norm, _, epsilon = _arguments(fold.norm)
                weight, bias = _folded(weight, bias, [self._value(given) for given in norm], epsilon)
            self._weights[node] = weight.contiguous(memory_format=torch.channels_last), bias

    def _value(self, node: Any) -> Tensor | None:
        return None if node is None else self._state[self._names[node]]

    def logits(self, inputs: Tensor, first: Tensor | None = None) -> Any:
        """Output for one batch; ``first`` is the output of the first linear layer if it is known."""
        self._given = first
        if inputs.dim() == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        (output,) = self.outputs(self._state, (inputs,))
        return output

    def run_node(self, n: fx.Node) -> Any:
        """Run one node, or what it was folded to."""
        if n is self._first and self._given is not None:
            return self._given
        if n in self._folds:
            weight, bias = self._weights[n]
            source, _, _, stride, padding, dilation, _, _, groups = _arguments(n)
            output = torch.conv2d(self.env[source], weight, bias, stride, padding, dilation, groups)
            return output if self._folds[n].relu is None else output.relu_()
        if n in self._passed:
            value = self.env[_arguments(n)[0]]
            return (value,) if n.target == _NORM else value
        return super().run_node(n)


def _arguments(node: fx.Node) -> Sequence[Any]:
    """What a node is called with; the types of fx say less than what operations are known to take."""
    return node.args


def _only_user(node: fx.Node, target: Any) -> fx.Node | None:
    """The one node that reads this one, if it is of that kind."""
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].target == target else None


def _folded(
    weight: Tensor, bias: Tensor | None, norm: Sequence[Tensor | None], epsilon: float
) -> tuple[Tensor, Tensor]:
    """Weights and bias of a convolution with a normalisation (gain, offset, mean, variance) behind it."""
    gain, offset, mean, variance = norm
    assert mean is not None
    assert variance is not None
    scale = (variance.double() + epsilon).rsqrt() * (1.0 if gain is None else gain.double())
    shift = (0.0 if bias is None else bias.double()) - mean.double()
    moved = shift * scale + (0.0 if offset is None else offset.double())
    return (weight.double() * scale[:, None, None, None]).to(weight.dtype), moved.to(weight.dtype)
