"""Layers of an exported network, each with the operations behind it that can be done with it."""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

_aten = torch.ops.aten
NORM = _aten._native_batch_norm_legit_no_training.default
RESHAPES = (_aten.view.default, _aten.reshape.default, _aten._unsafe_view.default)
# What they return is memory of their own.
_FRESH = (_aten.convolution.default, _aten.linear.default, _aten.add.Tensor, operator.getitem)
_NORMS = (NORM, _aten.native_group_norm.default, _aten.native_layer_norm.default)


class Layer(NamedTuple):
    """A convolution or linear layer with what follows it and nothing else reads.

    ``norm`` is a normalisation by running statistics, ``add`` the sum with a value known before, ``other``.
    """

    node: fx.Node
    norm: fx.Node | None = None
    add: fx.Node | None = None
    other: fx.Node | None = None
    relu: fx.Node | None = None

    @property
    def passed(self) -> list[tuple[fx.Node, fx.Node]]:
        """What is done with the layer, and after which node: it only passes that one's value on."""
        norm = [] if self.norm is None else [self.norm, *self.norm.users]
        chain = [node for node in (self.node, *norm, self.add, self.relu) if node is not None]
        return list(pairwise(chain))


def arguments(node: fx.Node) -> Sequence[Any]:
    """What a node is called with; the types of fx say less than what operations are known to take."""
    return node.args


def only_user(node: fx.Node, target: Any) -> fx.Node | None:
    """The one node that reads this one, if it is of that kind."""
    users = list(node.users)
    return users[0] if len(users) == 1 and users[0].target == target else None


def find_layers(graph: fx.Graph, parameters: Collection[fx.Node]) -> dict[fx.Node, Layer]:
    """Convolutions of images and linear layers with weights of their own, which may be changed."""
    return {node: _layer(node, parameters) for node in graph.nodes if is_layer(node, parameters)}


def is_layer(node: fx.Node, parameters: Collection[fx.Node]) -> bool:
    """Whether a node is a linear layer, or a convolution of images, with parameters for weight and bias."""
    if node.target == _aten.convolution.default:
        if node.meta["val"].dim() != 4 or arguments(node)[6]:
            return False
    elif node.target != _aten.linear.default:
        return False
    weight, bias = (*arguments(node)[1:3], None)[:2]
    return weight in parameters and (bias is None or bias in parameters)


def _layer(node: fx.Node, parameters: Collection[fx.Node]) -> Layer:
    end, norm, other = node, only_user(node, NORM), None
    if norm is not None and not _is_foldable(norm, parameters):
        norm = None
    if norm is not None:
        (end,) = norm.users
    add = only_user(end, _aten.add.Tensor)
    if add is not None and node.target == _aten.convolution.default:
        other = _other(add, node, end)
    if other is None:
        add = None
    return Layer(node, norm, add, other, only_user(add or end, _aten.relu.default))


def _is_foldable(norm: fx.Node, parameters: Collection[fx.Node]) -> bool:
    """Whether a normalisation of a layer's units has parameters of its own, and only its first result is read."""
    source = arguments(norm)[0]
    if source.target == _aten.linear.default and source.meta["val"].dim() != 2:
        return False  # units are the last axis, and normalised is the second
    own = all(given is None or given in parameters for given in norm.args[1:5])
    result = only_user(norm, operator.getitem)
    return own and result is not None and arguments(result)[1] == 0


def _other(add: fx.Node, node: fx.Node, end: fx.Node) -> fx.Node | None:
    """The second operand of a sum, if it is a tensor of the same kind that is known before ``node`` runs."""
    others = [given for given in add.args if given is not end]
    if len(others) != 1 or not isinstance(others[0], fx.Node) or add.kwargs:
        return None
    before, after = others[0].meta["val"], end.meta["val"]
    same = before.dtype == after.dtype and before.shape == after.shape
    return others[0] if same and others[0] < node else None


def reads_input(node: fx.Node, inputs: Collection[fx.Node]) -> bool:
    """Whether a node is a linear layer on the inputs of the network, reshaped at most."""
    if node.target != _aten.linear.default:
        return False
    source = arguments(node)[0]
    sizes = source.meta["val"].shape[1:]
    while source.target in RESHAPES:
        source = arguments(source)[0]
    if source not in inputs or not all(isinstance(size, int) for size in sizes):
        return False
    return math.prod(sizes) == math.prod(source.meta["val"].shape[1:])  # else the examples are not its first axis


def in_place(node: fx.Node) -> bool:
    """Whether a sum or a ReLU may overwrite its first operand: nothing else reads it, and it is no view."""
    if node.target not in (_aten.relu.default, _aten.add.Tensor):
        return False
    source = arguments(node)[0]
    if not isinstance(source, fx.Node) or len(source.users) != 1 or source.target not in _FRESH:
        return False
    if source.target == operator.getitem and (source.args[1] != 0 or arguments(source)[0].target not in _NORMS):
        return False
    before, after = source.meta["val"], node.meta["val"]
    return before.dtype == after.dtype and before.shape == after.shape


def folded(weight: Tensor, bias: Tensor | None, norm: Sequence[Tensor | None], epsilon: float) -> tuple[Tensor, Tensor]:
    """Weights and bias of a layer with a normalisation (gain, offset, mean, variance) behind it."""
    gain, offset, mean, variance = norm
    assert mean is not None
    assert variance is not None
    scale = (variance.double() + epsilon).rsqrt() * (1.0 if gain is None else gain.double())
    shift = (0.0 if bias is None else bias.double()) - mean.double()
    moved = shift * scale + (0.0 if offset is None else offset.double())
    return (weight.double() * scale.view(-1, *[1] * (weight.dim() - 1))).to(weight.dtype), moved.to(weight.dtype)
