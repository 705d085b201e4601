"""Sums of products: linear layers, matrix products and attention."""

from __future__ import annotations

from torch import fx

from fastmatch.symmetry.algebra import factor, unify
from fastmatch.symmetry.labels import Axis, pin
from fastmatch.symmetry.rules.pointwise import broadcast, broadcast_all
from fastmatch.symmetry.rules.registry import Axes, Labels, argument, rule


@rule("aten.linear")
def linear(labels: Labels, node: fx.Node) -> Axes:
    """``x W^T + b``."""
    x, weight = labels[node.args[0]], labels[node.args[1]]
    unify(x[-1], weight[1])
    if (bias := argument(node, 2, "bias")) is not None:
        unify(labels[bias][0], weight[0])
    labels.joint(*x, weight[0])
    return [*x[:-1], weight[0]]


@rule("aten.mm", "aten.bmm", "aten.matmul", "aten.mv", "aten.dot")
def matmul(labels: Labels, node: fx.Node) -> Axes:
    """Batched ``a @ b`` with broadcast leading axes; one-axis operands as in ``torch.matmul``."""
    return _product(labels, labels[node.args[0]], labels[node.args[1]])


def _product(labels: Labels, left: Axes, right: Axes) -> Axes:
    unify(left[-1], right[-2] if len(right) > 1 else right[0])
    batch = broadcast_all([left[:-2], right[:-2]])
    result = batch + left[-2:-1] + (right[-1:] if len(right) > 1 else [])
    labels.joint(*result, left[-1])
    return result


@rule("aten.addmm", "aten.baddbmm", "aten.addmv")
def addmm(labels: Labels, node: fx.Node) -> Axes:
    """``bias + a @ b``."""
    result = _product(labels, labels[node.args[1]], labels[node.args[2]])
    return broadcast_all([result, labels[node.args[0]]])


@rule(
    "aten.scaled_dot_product_attention",
    "aten._scaled_dot_product_flash_attention_for_cpu",
    "aten._scaled_dot_product_attention_math",
)
def attention(labels: Labels, node: fx.Node) -> Axes:
    """``softmax(q k^T + mask) v``, with query heads that share key heads in blocks; causal masks fix positions."""
    query, key, value = (labels[source] for source in node.args[:3])
    for place in range(len(query) - 2):
        _share(query[place], key[place])
        _share(query[place], value[place])
    unify(query[-1], key[-1])
    unify(key[-2], value[-2])
    scores = [*query[:-1], key[-2]]
    flash = "flash" in str(node.target)
    mask = node.kwargs.get("attn_mask") if flash else argument(node, 3, "attn_mask")
    if mask is not None:
        broadcast_all([scores, labels[mask]])
    if argument(node, 4 if flash else 5, "is_causal", False):
        pin(query[-2], "position under a causal mask")
        pin(key[-2], "position under a causal mask")
    labels.joint(*scores, query[-1])
    labels.joint(*scores)
    labels.joint(*query[:-1])
    labels.joint(*scores, value[-1])
    return [*query[:-1], value[-1]]


def _share(query: Axis, key: Axis) -> None:
    """Tie one leading axis of queries and keys: every key serves a block of queries."""
    if key.size == 1 or query.size in (1, key.size):
        broadcast([query, key])
    else:
        unify(factor(query, key.size)[0], key)
