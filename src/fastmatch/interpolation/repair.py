"""REPAIR: combined networks whose pre-activations have the means and standard deviations of the networks' own."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode

from fastmatch.data import Split
from fastmatch.interpolation.batchnorm import reset_statistics
from fastmatch.interpolation.forward import float_type
from fastmatch.interpolation.layers import NORM, arguments, only_user
from fastmatch.interpolation.lowered import State
from fastmatch.interpolation.stack import Stack
from fastmatch.symmetry import Graph
from fastmatch.symmetry.graph import Source

Run = Callable[[State, Tensor], object]  # of a state dict and inputs
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
    combination of standard deviations and means; with running statistics of its own its pre-activations have them.

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
        layers = _corrected(graph.module.graph, parameters)
        # No module has an empty name, so nothing of the network's own is called like this.
        self._names = [[f".repair.{layer.name}.{entry}" for entry in _ENTRIES] for layer in layers]
        self._units = [layer.meta["val"].shape[_axis(layer)] for layer in layers]
        for layer in layers:
            _insert(graph, layer)
        entries = [Source("state", name) for names in self._names for name in names]
        self.graph = replace(graph, sources=(*graph.sources, *entries))
        self.statistics = [name for names in self._names for name in names[2:]]

    def neutral(self, network: State) -> dict[str, Tensor]:
        """State dict of a combination of networks with corrections that would change nothing in any network."""
        device = next((tensor.device for tensor in network.values()), None)
        extended = dict(network)
        for names, units in zip(self._names, self._units, strict=True):
            zeros = torch.zeros(units, dtype=float_type(network), device=device)
            values = (zeros + 1 + EPSILON).sqrt(), zeros, zeros.clone(), zeros + 1
            extended |= dict(zip(names, values, strict=True))
        return extended

    def extended(self, network: State, data: Split, run: Run) -> dict[str, Tensor]:
        """State dict of the network with corrections that change nothing in it.

        Parameters
        ----------
        network
            State dict. BatchNorms of its own normalise with the statistics of each batch here, as they do while those
            of combinations are reset.
        data
            Examples over which means and standard deviations are taken, all pooled.
        run
            Runs the graph, with every normalisation as an operation of its own.

        Raises
        ------
        DataError
            ``data`` holds one example.
        """
        state = self.neutral(Stack([network]).combine([1.0]))  # in the type that combinations have
        extended, dtype = dict(network), float_type(state)
        moments = self._moments(state, data, run, corrected=False)
        for names, (mean, variance) in zip(self._names, moments, strict=True):
            values = (variance + EPSILON).sqrt(), mean, mean, variance
            extended |= {name: value.to(dtype) for name, value in zip(names, values, strict=True)}
        return extended

    def reset_statistics(self, state: State, data: Split, run: Run) -> None:
        """Replace the running statistics of a combination, in place; see :func:`batchnorm.reset_statistics`.

        Those of the corrections are pooled over ``data`` as in :meth:`extended`. One network alone has the moments
        found there, but for what earlier layers, normalised batch by batch, do to those of later ones.
        """
        moments = self._moments(state, data, run, corrected=True)
        for (_, _, *names), values in zip(self._names, moments, strict=True):
            for name, value in zip(names, values, strict=True):
                state[name].copy_(value)

    def _moments(self, state: State, data: Split, run: Run, *, corrected: bool) -> list[tuple[Tensor, Tensor]]:
        """Mean and variance of what each correction reads, float64, shape [units]."""
        batches = _BatchMoments([state[names[2]] for names in self._names], corrected)

        def run_batch(inputs: Tensor) -> None:
            with batches:
                run(state, inputs)

        reset_statistics(run_batch, data)
        return [_pooled(found) for found in batches.found.values()]


class _BatchMoments(TorchDispatchMode):
    """Notes moments of what corrections read: size, and mean and variance (biased) of each unit, for every batch.

    ``running_means`` tell corrections from other normalisations. If ``corrected``, they normalise with the moments of
    the batch; otherwise they pass on what they read.
    """

    def __init__(self, running_means: Iterable[Tensor], corrected: bool) -> None:
        super().__init__()
        self._corrected = corrected
        self.found: dict[int, list[tuple[int, Tensor, Tensor]]] = {mean.data_ptr(): [] for mean in running_means}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func is not NORM or args[3].data_ptr() not in self.found:
            return func(*args, **(kwargs or {}))
        values, gain, offset, running_mean, *_ = args
        others = [axis for axis in range(values.dim()) if axis != 1]
        variance, mean = torch.var_mean(values, others, correction=0)
        size = values.numel() // values.shape[1]
        self.found[running_mean.data_ptr()].append((size, mean.double(), variance.double()))
        if not self._corrected:
            return values, mean, variance  # nothing else reads the values, so they may be changed in place
        return _aten._native_batch_norm_legit.no_stats(values, gain, offset, True, 0.0, EPSILON)


def _pooled(batches: Sequence[tuple[int, Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Mean and variance (biased) of all batches together."""
    sizes, *moments = zip(*batches, strict=True)
    means, variances = (torch.stack(values) for values in moments)
    shares = (means.new_tensor(sizes) / sum(sizes))[:, None]
    mean = (shares * means).sum(0)
    return mean, (shares * (variances + (means - mean) ** 2)).sum(0)


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


def _axis(layer: fx.Node) -> int:
    """Where the units of a layer's outputs lie."""
    return -1 if layer.target == _aten.linear.default else 1


def _insert(graph: Graph, layer: fx.Node) -> None:
    """Put a BatchNorm, with new placeholders behind all others, between a layer and what reads it."""
    nodes, value, readers = graph.module.graph, layer.meta["val"], set(layer.users)
    *_, last = nodes.find_nodes(op="placeholder")
    with nodes.inserting_before(last.next):
        entries = [nodes.placeholder(f"repair_{layer.name}_{entry}") for entry in _ENTRIES]
    flat = _axis(layer) == -1 and value.dim() != 2  # for BatchNorm, units lie on axis 1
    with nodes.inserting_before(layer.next):
        given = nodes.call_function(_aten.reshape.default, (layer, [-1, value.shape[-1]])) if flat else layer
        norm = nodes.call_function(NORM, (given, *entries, 0.0, EPSILON))
        result = nodes.call_function(operator.getitem, (norm, 0))
        if flat:
            result = nodes.call_function(_aten.reshape_as.default, (result, layer))
    result.meta["val"] = value
    layer.replace_all_uses_with(result, delete_user_cb=readers.__contains__)
