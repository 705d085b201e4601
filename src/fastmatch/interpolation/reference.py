"""Evaluation as published: the plain loop that :func:`evaluate` must agree with."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader, TensorDataset

from fastmatch.data import Split


@torch.no_grad()
def evaluate_plainly(
    module: nn.Module,
    networks: Sequence[Mapping[str, Tensor]],
    coefficients: np.ndarray,
    data: Split,
    *,
    statistics: Split | None = None,
    dtype: torch.dtype = torch.float64,
    batch_size: int = 250,
) -> tuple[np.ndarray, np.ndarray]:
    """For every row: combine state dicts, load them into a copy of the module, and run a loader over the data.

    Parameters
    ----------
    networks
        State dicts of ``module``; counters come from the first.
    coefficients
        Shape [rows, networks].
    statistics
        Examples that give BatchNorm its statistics in every row: mean and unbiased variance over all of them of what
        reaches it, once the statistics before it are set. Statistics are combined like weights if None.
    dtype
        Of weights, inputs and all that is computed from them.
    batch_size
        Of the loaders.

    Returns
    -------
    losses, errors
        Shape [rows, examples]: cross-entropy in nats (float64) and 0-1 error (bool).

    References
    ----------
    Entezari et al. 2022, section 2; Ainsworth et al. 2023, section 4; Jordan et al. 2023 (REPAIR), section 3.
    """
    network = copy.deepcopy(module).to(dtype).eval()
    losses, errors = [], []
    for row in np.asarray(coefficients):
        network.load_state_dict(_combined(networks, row, dtype))
        if statistics is not None:
            _reset(network, _loader(statistics, dtype, batch_size))
        pairs = [(network(inputs), labels) for inputs, labels in _loader(data, dtype, batch_size)]
        losses.append(torch.cat([cross_entropy(logits.double(), y, reduction="none") for logits, y in pairs]))
        errors.append(torch.cat([logits.argmax(1) != y for logits, y in pairs]))
    return torch.stack(losses).numpy(), torch.stack(errors).numpy()


def _combined(networks: Sequence[Mapping[str, Tensor]], row: np.ndarray, dtype: torch.dtype) -> dict[str, Tensor]:
    first = networks[0]
    return {
        name: sum((float(c) * state[name].to(dtype) for c, state in zip(row, networks, strict=True)), torch.zeros(()))
        if tensor.is_floating_point()
        else tensor
        for name, tensor in first.items()
    }


def _loader(data: Split, dtype: torch.dtype, batch_size: int) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(data.inputs.to(dtype), data.labels), batch_size)


def _reset(network: nn.Module, loader: DataLoader[tuple[Tensor, ...]]) -> None:
    """Give the BatchNorms their statistics over all examples, one after the other: each changes what the next sees."""
    for norm in _in_order(network, next(iter(loader))[0]):
        seen: list[Tensor] = []
        hook = norm.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[0]))
        for inputs, _ in loader:
            network(inputs)
        hook.remove()
        values = torch.cat(seen).transpose(0, 1).flatten(1)
        norm.register_buffer("running_mean", values.mean(1))
        norm.register_buffer("running_var", values.var(1))


def _in_order(network: nn.Module, inputs: Tensor) -> list[_BatchNorm]:
    """BatchNorms in the order in which they run."""
    order: list[_BatchNorm] = []
    norms = [part for part in network.modules() if isinstance(part, _BatchNorm)]
    hooks = [norm.register_forward_pre_hook(lambda norm, _: order.append(norm)) for norm in norms]
    network(inputs)
    for hook in hooks:
        hook.remove()
    return order
