"""Normalisations: statistics do not see the order of what they average over, affine weights must follow it."""

from __future__ import annotations

from typing import Any

from torch import fx

from fastmatch.symmetry.labels import Axis, pin, unify
from fastmatch.symmetry.rules.registry import Labels, rule


def _follow(labels: Labels, axes: list[Axis], affine: list[Any]) -> None:
    """Tie the axes of affine weights and running statistics to the last of ``axes``."""
    for argument in affine:
        if argument is not None:
            own = labels[argument]
            for axis, other in zip(axes[len(axes) - len(own) :], own, strict=True):
                unify(axis, other)


@rule("aten.native_batch_norm", "aten._native_batch_norm_legit", "aten._native_batch_norm_legit_no_training")
def batch_norm(labels: Labels, node: fx.Node) -> list[Axis]:
    """Statistics and affine weights belong to channels."""
    x = labels[node.args[0]]
    _follow(labels, [x[1]], [argument for argument in node.args[1:5] if isinstance(argument, fx.Node)])
    return list(x)


@rule("aten.native_layer_norm")
def layer_norm(labels: Labels, node: fx.Node) -> list[Axis]:
    """Statistics run over the last axes, which the affine weights share."""
    x = labels[node.args[0]]
    _follow(labels, x, list(node.args[2:4]))
    return list(x)


@rule("aten.native_group_norm")
def group_norm(labels: Labels, node: fx.Node) -> list[Axis]:
    """One group, or one for each channel, leaves channels free; between those they are pinned."""
    x = labels[node.args[0]]
    channels, groups = node.args[4], node.args[6]
    _follow(labels, [x[1]], list(node.args[1:3]))
    if groups not in (1, channels):
        pin(x[1], f"channels of a GroupNorm with {groups} groups")
    return list(x)
