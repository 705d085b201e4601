"""All orders of the one hidden layer of a small network, evaluated at a point between it and another."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from fastmatch.data import Split
from fastmatch.interpolation.chain import Chain, Linear
from fastmatch.symmetry import wide

_TOGETHER = 64 << 20  # Bytes of the logits that are added up at a time.


@torch.no_grad()
def order_losses(
    chain: Chain, networks: Sequence[Mapping[str, Tensor]], row: np.ndarray, data: Split
) -> tuple[np.ndarray, np.ndarray]:
    """Losses of ``row[0] * a + row[1] * P b`` for every order P of the hidden units of b.

    Unit j of b in place i contributes to the logits whatever the others do. The contributions of all pairs (i, j) are
    computed once, in float32 or wider; sums over the first half of the places and over the second are shared by all
    orders that have one of them, so that an order costs one addition and the losses.

    Parameters
    ----------
    chain
        One hidden layer, whose units have a group.
    row
        Coefficients of a and b, shape [2].

    Returns
    -------
    Orders, int64, shape [orders, units], and their mean losses in nats, float64, shape [orders].
    """
    networks = [_widened(chain, network) for network in networks]
    first, last = chain.layers
    units = len(networks[0][first.weight])
    halves = [
        (np.array(list(itertools.permutations(chosen))), np.array(list(itertools.permutations(_others(units, chosen)))))
        for chosen in itertools.combinations(range(units), units // 2)
    ]
    orders = [np.concatenate([np.repeat(a, len(b), 0), np.tile(b, (len(a), 1))], 1) for a, b in halves]
    bias = _bias(networks, last, row)
    classes = networks[0][last.weight].shape[0]
    together = math.factorial(units // 2) * math.factorial(units - units // 2)
    size = max(together, units**2) * classes * networks[0][last.weight].element_size()
    losses = np.zeros(len(orders) * together)
    for inputs, labels in data.batches(max(2, _TOGETHER // size)):
        pairs = _contributions(chain, networks, row, inputs)
        found = [_losses(pairs, left, right, bias, labels) for left, right in halves]
        losses += torch.cat(found).cpu().numpy()
    return np.concatenate(orders), losses / len(data)


def _widened(chain: Chain, network: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The weights of a chain; what has been rounded to half precision would not bound what is evaluated in full."""
    return {name: wide(network[name]) for layer in chain.layers for name in (layer.weight, layer.bias) if name}


def _others(units: int, chosen: tuple[int, ...]) -> list[int]:
    return [unit for unit in range(units) if unit not in chosen]


def _bias(networks: Sequence[Mapping[str, Tensor]], last: Linear, row: np.ndarray) -> Tensor:
    if last.bias is None:
        return torch.zeros_like(networks[0][last.weight][:, 0])
    first, second = (float(share) * network[last.bias] for share, network in zip(row, networks, strict=True))
    return first + second


def _contributions(chain: Chain, networks: Sequence[Mapping[str, Tensor]], row: np.ndarray, inputs: Tensor) -> Tensor:
    """What unit j of b gives in place i, [places, units of b, examples, classes]."""
    first, last = chain.layers
    weights = [network[first.weight] for network in networks]
    flat = inputs.reshape(len(inputs), -1)
    biases = [0.0 if first.bias is None else network[first.bias] for network in networks]
    given: list[Tensor] = [
        float(share) * (flat.to(weight.dtype) @ weight.T + bias).T
        for share, weight, bias in zip(row, weights, biases, strict=True)
    ]
    values = chain.activations[0](given[0][:, None] + given[1][None])
    out = [float(share) * network[last.weight].T for share, network in zip(row, networks, strict=True)]
    return values[..., None] * (out[0][:, None] + out[1][None])[:, :, None]


def _losses(pairs: Tensor, left: np.ndarray, right: np.ndarray, bias: Tensor, labels: Tensor) -> Tensor:
    """Summed losses, float64, of all orders with these orders of their first and of their other places."""
    half = left.shape[1]
    first: Tensor = sum((pairs[place, left[:, place]] for place in range(half)), torch.zeros_like(pairs[0, :1]))
    second: Tensor = sum((pairs[half + place, right[:, place]] for place in range(right.shape[1])), bias)
    logits = first[:, None] + second[None]
    own = logits.gather(-1, labels.expand(logits.shape[:-1])[..., None])[..., 0]
    return (logits.logsumexp(-1) - own).sum(-1, dtype=torch.float64).flatten()
