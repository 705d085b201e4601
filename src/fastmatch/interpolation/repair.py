"""REPAIR: combined networks whose pre-activations have the means and standard deviations of the networks' own."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode

from fastmatch.errors import ModelError
from fastmatch.interpolation.layers import NORM, arguments, folded, only_user
from fastmatch.interpolation.lowered import State
from fastmatch.interpolation.stack import Stack
from fastmatch.symmetry import Graph, float_type
from fastmatch.symmetry.graph import Source

EPSILON = 1e-5  # That of BatchNorm. It bounds what becomes of rounding errors where a unit is dead.
PREFIX = ".repair."  # Of corrections in state dicts.
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
        self._names = [[f"{PREFIX}{layer.name}.{entry}" for entry in _ENTRIES] for layer in layers]
        self._units = [layer.meta["val"].shape[_axis(layer)] for layer in layers]
        owners = {node: source.name for node, source in graph.placeholders()}
        self._layers = [tuple(owners.get(given) for given in (*arguments(layer)[1:3], None)[:2]) for layer in layers]
        self._transposed = [layer.target == _aten.convolution.default and arguments(layer)[6] for layer in layers]
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

    def extended(self, network: State, settle: Callable[[State], object]) -> dict[str, Tensor]:
        """State dict of the network with corrections that change nothing in it.

        Parameters
        ----------
        network
            State dict.
        settle
            Gives the normalisations in a state dict their own statistics on some examples, as
            :meth:`~fastmatch.interpolation.lowered.Lowered.settle` does.
        """
        state = self.neutral(Stack([network]).combine([1.0]))  # in the type that combinations have
        with _Skipping([state[mean] for _, _, mean, _ in self._names]):
            settle(state)
        extended = dict(network)
        for names in self._names:
            mean, variance = (state[name] for name in names[2:])
            extended |= dict(zip(names, ((variance + EPSILON).sqrt(), mean, mean, variance), strict=True))
        return extended

    def folded(self, state: State) -> dict[str, Tensor]:
        """State dict of the architecture itself with the corrections of ``state`` in its weights and biases.

        Raises
        ------
        ModelError
            A corrected layer has no bias, is transposed, or shares its weights with another.
        """
        plain = {name: tensor for name, tensor in state.items() if not name.startswith(PREFIX)}
        used = [weight for weight, _ in self._layers]
        for (weight, bias), transposed, names in zip(self._layers, self._transposed, self._names, strict=True):
            if weight is None or bias is None or transposed or used.count(weight) > 1:
                raise ModelError(
                    f"the layer of {weight!r} cannot hold its repair: it has no bias, is transposed, or runs more than "
                    "once; reset statistics alone (bn reset)"
                )
            plain[weight], plain[bias] = folded(state[weight], state[bias], [state[name] for name in names], EPSILON)
        return plain


class _Skipping(TorchDispatchMode):
    """Lets normalisations with some running means pass on what they read."""

    def __init__(self, running_means: Iterable[Tensor]) -> None:
        super().__init__()
        self._skipped = {mean.data_ptr() for mean in running_means}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func is NORM and args[3].data_ptr() in self._skipped:
            return args[0], args[3], args[4]  # nothing else reads the values, so they may be changed in place
        return func(*args, **(kwargs or {}))


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
