"""REPAIR: combined networks whose pre-activations have the means and standard deviations of the networks' own."""

from __future__ import annotations

import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from fastmatch.data import Split
from fastmatch.interpolation.batchnorm import reset_statistics
from fastmatch.interpolation.forward import float_type
from fastmatch.interpolation.layers import NORM, arguments, only_user
from fastmatch.interpolation.stack import Stack
from fastmatch.symmetry import Graph, GraphRunner
from fastmatch.symmetry.graph import Source

EPSILON = 1e-5  # That of BatchNorm. It bounds what becomes of rounding errors where a unit is dead.
_aten = torch.ops.aten
_LAYERS = (_aten.convolution.default, _aten.linear.default)
_ENTRIES = ("weight", "bias", "running_mean", "running_var")


class Repair:
    """Corrections of the pre-activations of combined networks.

    A BatchNorm stands behind every convolution and every linear layer with parameters of its own, except those of the
    logits (from which no other such layer is reached) and those that a BatchNorm of the network's own reads alone. Its
    gain and offset are the standard deviation and the mean that a network has there by itself, and so are its running
    statistics: the network stays what it was. In a linear combination of such networks gain and offset are the same
    combination of standard deviations and means; with running statistics of its own
    (:func:`~fastmatch.interpolation.batchnorm.reset_statistics`) its pre-activations have them.

    Parameters
    ----------
    graph
        Result of :func:`export_graph` with one input; it is changed.

    Attributes
    ----------
    graph
        The operations with the corrections, which take state dicts as :meth:`extended` gives them.
    statistics
        Names of the running statistics of the corrections.

    References
    ----------
    Jordan et al., "REPAIR: REnormalizing Permuted Activations for Interpolation Repair", ICLR 2023, arXiv 2211.08403.
    """

    def __init__(self, graph: Graph) -> None:
        parameters = [node for node, source in graph.placeholders() if source.kind == "state"]
        self._names: dict[fx.Node, list[str]] = {}
        sources = list(graph.sources)
        for layer in _corrected(graph.module.graph, parameters):
            # No module has an empty name, so nothing of the network's own is called like this.
            names = [f".repair.{layer.name}.{entry}" for entry in _ENTRIES]
            self._names[_insert(graph, layer)] = names
            sources += [Source("state", name) for name in names]
        self.graph = replace(graph, sources=tuple(sources))
        self.statistics = [name for names in self._names.values() for name in names[2:]]

    def extended(self, network: Mapping[str, Tensor], data: Split) -> dict[str, Tensor]:
        """State dict of the network with corrections that change nothing in it.

        Parameters
        ----------
        network
            State dict. BatchNorms of its own normalise with the statistics of each batch here, as they do while those
            of combinations are reset.
        data
            Examples over which means and standard deviations are taken, all pooled.

        Raises
        ------
        DataError
            ``data`` holds one example.
        """
        state = Stack([network]).combine([1.0])  # in the type that combinations have
        dtype = float_type(state)
        runner = _MomentsRunner(self.graph, self._names)
        state |= {name: torch.empty(0) for names in self._names.values() for name in names}
        reset_statistics(lambda inputs: runner.outputs(state, (inputs.to(dtype),)), data)
        entries = dict(network)
        for norm, names in self._names.items():
            mean, variance = _pooled(runner.moments[norm])
            values = (variance + EPSILON).sqrt(), mean, mean, variance
            entries |= {name: value.to(dtype) for name, value in zip(names, values, strict=True)}
        return entries


class _Moments(NamedTuple):
    """Of the values of each unit in one batch: how many, their mean and variance (biased), float64, shape [units]."""

    size: int
    mean: Tensor
    variance: Tensor


def _pooled(batches: Sequence[_Moments]) -> tuple[Tensor, Tensor]:
    """Mean and variance (biased) of all batches together."""
    sizes, means, variances = zip(*batches, strict=True)
    shares = (torch.tensor(sizes, dtype=torch.float64, device=means[0].device) / sum(sizes))[:, None]
    mean = (shares * torch.stack(means)).sum(0)
    return mean, (shares * (torch.stack(variances) + (torch.stack(means) - mean) ** 2)).sum(0)


class _MomentsRunner(GraphRunner):
    """Runs a graph as if it had no corrections, and notes the moments of what they would correct."""

    def __init__(self, graph: Graph, norms: Iterable[fx.Node]) -> None:
        super().__init__(graph, ())
        self.env: dict[fx.Node, Any]
        self.moments: dict[fx.Node, list[_Moments]] = {norm: [] for norm in norms}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node; a correction passes on what it reads."""
        if n not in self.moments:
            return super().run_node(n)
        values = self.env[arguments(n)[0]]
        others = [axis for axis in range(values.dim()) if axis != 1]
        variance, mean = torch.var_mean(values, others, correction=0)
        self.moments[n].append(_Moments(values.numel() // values.shape[1], mean.double(), variance.double()))
        return (values,)


def _corrected(graph: fx.Graph, parameters: Collection[fx.Node]) -> list[fx.Node]:
    """Layers whose outputs are corrected."""
    layers = [node for node in graph.nodes if node.target in _LAYERS and arguments(node)[1] in parameters]
    leading: set[fx.Node] = set()  # nodes from which a layer is reached
    for node in reversed(graph.nodes):
        if any(user in leading or user in layers for user in node.users):
            leading.add(node)
    return [node for node in layers if node in leading and not _is_normalised(node, parameters)]


def _is_normalised(layer: fx.Node, parameters: Collection[fx.Node]) -> bool:
    """Whether a BatchNorm whose running statistics can be reset is all that reads a layer."""
    norm = only_user(layer, NORM)
    return norm is not None and arguments(norm)[3] in parameters


def _insert(graph: Graph, layer: fx.Node) -> fx.Node:
    """Put a BatchNorm, with new placeholders behind all others, between a layer and what reads it."""
    nodes, value, readers = graph.module.graph, layer.meta["val"], set(layer.users)
    last = [node for node in nodes.nodes if node.op == "placeholder"][-1]
    with nodes.inserting_before(last.next):
        entries = [nodes.placeholder(f"repair_{layer.name}_{entry}") for entry in _ENTRIES]
    # The units of a BatchNorm lie on axis 1, those of a linear layer on the last.
    flat = layer.target == _aten.linear.default and value.dim() != 2
    with nodes.inserting_before(layer.next):
        given = nodes.call_function(_aten.reshape.default, (layer, [-1, value.shape[-1]])) if flat else layer
        norm = nodes.call_function(NORM, (given, *entries, 0.0, EPSILON))
        result = nodes.call_function(operator.getitem, (norm, 0))
        if flat:
            result = nodes.call_function(_aten.reshape_as.default, (result, layer))
    result.meta["val"] = value
    layer.replace_all_uses_with(result, delete_user_cb=readers.__contains__)
    return norm
