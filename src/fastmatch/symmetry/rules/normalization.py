"""Normalisations: statistics do not see the order of what they average over, affine weights must follow it."""

from __future__ import annotations

from typing import Any

from torch import fx

from fastmatch.symmetry.algebra import factor, unify
from fastmatch.symmetry.rules.registry import Axes, Labels, argument, rule


def _follow(labels: Labels, axes: Axes, affine: list[Any]) -> None:
    """Tie the axes of affine weights and running statistics to the last of ``axes``."""
    for source in affine:
        if isinstance(source, fx.Node):
            own = labels[source]
            for axis, other in zip(axes[len(axes) - len(own) :], own, strict=True):
                unify(axis, other)


@rule("aten.native_batch_norm", "aten._native_batch_norm_legit", "aten._native_batch_norm_legit_no_training")
def batch_norm(labels: Labels, node: fx.Node) -> Axes:
    """Statistics and affine weights belong to channels."""
    x = labels[node.args[0]]
    _follow(labels, [x[1]], list(node.args[1:5]))
    labels.joint(x[1])
    return x


@rule("aten.native_layer_norm", "aten._fused_rms_norm", "aten.rms_norm")
def layer_norm(labels: Labels, node: fx.Node) -> Axes:
    """Statistics run over the last axes, which the affine weights share."""
    x, shape = labels[node.args[0]], argument(node, 1)
    _follow(labels, x, list(node.args[2:4]))
    labels.joint(*x[: len(x) - len(shape)])
    return x


@rule("aten.native_group_norm", "aten.group_norm")
def group_norm(labels: Labels, node: fx.Node) -> Axes:
    """Statistics belong to groups of channels; within a group, channels are alike."""
    x = labels[node.args[0]]
    whole = "native" in str(node.target)
    groups, affine = (argument(node, 6), node.args[1:3]) if whole else (argument(node, 1), node.args[2:4])
    _follow(labels, [x[1]], list(affine))
    blocks, _ = factor(x[1], groups)
    labels.joint(x[0], blocks)
    return x
