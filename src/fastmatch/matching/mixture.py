"""The loss of a network between two others, and its gradient by which unit of the second goes where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from fastmatch.devices import full_float32
from fastmatch.symmetry import Graph, GraphRunner, Group, PermutationSpec, float_type, wide

_aten = torch.ops.aten
State = Mapping[str, Tensor]


class Mixture:
    """The training loss of ``(1 - alpha) a + alpha b`` on one batch, b with its units in some order.

    BatchNorm takes the statistics of the batch, as a network between two has none of its own; everything else is as in
    evaluation.

    Parameters
    ----------
    groups
        Those whose units may move. :meth:`gradients` is for groups that have parameters, and neither bases nor groups
        inside them.
    graph
        Of the network, on the device of a; it is changed.
    """

    def __init__(self, spec: PermutationSpec, graph: Graph, a: State, groups: Sequence[Group]) -> None:
        self._a = {name: wide(tensor) for name, tensor in a.items()}
        self._places = {group.name: spec.matched(group) for group in groups}
        self.moving = list(dict.fromkeys(place.tensor for places in self._places.values() for place in places))
        self._runner = GraphRunner(_with_batch_statistics(graph), ())
        self._dtype = float_type(self._a)

    def gradients(self, b: State, alpha: float, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Gradient by the assignment of every group, at the order in which b is given.

        Entry [i, j] of a group's matrix, shape [n, n], is by how much the loss grows with the share of unit j of b in
        place i. It is the sum, over all parameters and axes of the group, of the inner products of ``alpha dL/dW`` and
        b along all other axes, where b stays as it is.
        """
        weights = self.weight_gradients(b, alpha, inputs, labels)
        found = {}
        for name, places in self._places.items():
            sides = ((place.units(weights[place.tensor]), place.units(b[place.tensor])) for place in places)
            found[name] = alpha * _products(sides)
        return found

    def weight_gradients(self, b: State, alpha: float, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Gradient of the loss by the parameters that carry the groups, at their values in the mixture."""
        state = {name: _mixed(tensor, b[name], alpha) for name, tensor in self._a.items()}
        leaves = [state[name].requires_grad_() for name in self.moving]
        with torch.enable_grad(), full_float32():
            (logits,) = self._runner.module(*self._runner.arguments(state, (inputs.to(self._dtype),)))
            found = torch.autograd.grad(F.cross_entropy(logits, labels), leaves, materialize_grads=True)
        return dict(zip(self.moving, found, strict=True))


def _mixed(a: Tensor, b: Tensor, alpha: float) -> Tensor:
    return torch.lerp(a, b.to(a.dtype), alpha) if a.is_floating_point() else a


def _products(sides: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Inner products of units [n, everything else] of two sides, added up over all pairs."""
    (first, second), *others = sides
    total = first @ second.to(first.dtype).T
    for first, second in others:
        total.addmm_(first, second.to(first.dtype).T)
    return total


def _with_batch_statistics(graph: Graph) -> Graph:
    """The graph with every BatchNorm normalising by what it is given."""
    for node in graph.module.graph.nodes:
        if node.target == _aten._native_batch_norm_legit_no_training.default:
            values, weight, bias, _, _, momentum, epsilon = node.args
            node.target = _aten.native_batch_norm.default
            node.args = (values, weight, bias, None, None, True, momentum, epsilon)
    graph.module.recompile()
    return graph
