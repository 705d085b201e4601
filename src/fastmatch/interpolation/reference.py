"""Evaluation as published: the plain loop that :func:`evaluate` must agree with."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader, TensorDataset

from fastmatch.data import Split

_EPSILON = 1e-5  # Added to variances, as by BatchNorm.


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
    repair: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """For every row: combine state dicts, load them into a copy of the module, and run a loader over the data.

    Parameters
    ----------
    networks
        State dicts of ``module``; counters come from the first.
    coefficients
        Shape [rows, networks].
    statistics
        Examples that give BatchNorm its statistics in every row, the cumulative average over batches; statistics are
        combined like weights if None.
    dtype
        Of weights, inputs and all that is computed from them.
    batch_size
        Of the loaders. The batches of ``statistics`` determine what BatchNorm takes for its statistics.
    repair
        Rescale pre-activations, by ``statistics``: the outputs of every ``nn.Linear`` and ``nn.Conv2d`` get means and
        standard deviations that are the combination of those of the networks by themselves. All modules must run one
        after the other, once. The layer that runs last, and those that a BatchNorm follows, are left as they are.

    Returns
    -------
    losses, errors
        Shape [rows, examples]: cross-entropy in nats (float64) and 0-1 error (bool).

    References
    ----------
    Entezari et al. 2022, section 2; Ainsworth et al. 2023, section 4; Jordan et al. 2023 (REPAIR), section 3.
    """
    network = copy.deepcopy(module).to(dtype).eval()
    rescalings = [_Rescaling(layer) for layer in _rescaled(network, data.inputs[:2].to(dtype))] if repair else []
    if repair and statistics is not None:
        for state in networks:
            network.load_state_dict(_combined([state], np.ones(1), dtype))
            _reset(network, _loader(statistics, dtype, batch_size))
            for rescaling in rescalings:
                rescaling.note_end()
    losses, errors = [], []
    for row in np.asarray(coefficients):
        network.load_state_dict(_combined(networks, row, dtype))
        for rescaling in rescalings:
            rescaling.begin(row)
        if statistics is not None:
            _reset(network, _loader(statistics, dtype, batch_size))
        for rescaling in rescalings:
            rescaling.settle()
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
    """Let all BatchNorms, and nothing else, take their statistics from one pass."""
    norms = [part for part in network.modules() if isinstance(part, _BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    for inputs, _ in loader:
        network(inputs)
    network.eval()


def _rescaled(network: nn.Module, inputs: Tensor) -> list[nn.Module]:
    """Linear layers and convolutions but the last and those that a BatchNorm follows."""
    order: list[nn.Module] = []
    parts = [part for part in network.modules() if isinstance(part, (nn.Linear, nn.Conv2d, _BatchNorm))]
    hooks = [part.register_forward_hook(lambda part, *_: order.append(part)) for part in parts]
    network(inputs)
    for hook in hooks:
        hook.remove()
    return [
        part
        for part, after in pairwise(order)
        if not isinstance(part, _BatchNorm) and not isinstance(after, _BatchNorm)
    ]


class _Rescaling:
    """Gives every unit of a layer another mean and standard deviation, by a hook on its outputs.

    From :meth:`begin` to :meth:`settle` it normalises with the moments of each batch, later with those of all of them
    together. Before the first :meth:`begin` it only watches.
    """

    def __init__(self, layer: nn.Module) -> None:
        self._axis = 1 if isinstance(layer, nn.Conv2d) else -1
        self._ends: list[tuple[Tensor, Tensor]] = []
        self._target: tuple[Tensor, Tensor] | None = None
        self._seen: list[Tensor] = []
        self._moments: tuple[Tensor, Tensor] | None = None
        layer.register_forward_hook(self._rescale)

    def note_end(self) -> None:
        """Take what was seen for the outputs of the next of the networks by themselves."""
        self._ends.append(_moments(torch.cat(self._seen)))
        self._seen = []

    def begin(self, row: np.ndarray) -> None:
        """Give outputs the combination of moments with these coefficients."""
        means, deviations = zip(*self._ends, strict=True)
        self._target = _dot(row, means), _dot(row, deviations)
        self._seen, self._moments = [], None

    def settle(self) -> None:
        """From now on, normalise with the moments of all that was seen."""
        self._moments = _moments(torch.cat(self._seen))

    def _rescale(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        values = output.movedim(self._axis, -1)
        if self._moments is None:
            self._seen.append(values.flatten(0, -2))
        if self._target is None:
            return output
        mean, deviation = self._moments or _moments(self._seen[-1])
        wanted_mean, wanted_deviation = self._target
        return ((values - mean) / deviation * wanted_deviation + wanted_mean).movedim(-1, self._axis)


def _moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each unit."""
    return rows.mean(0), (rows.var(0, correction=0) + _EPSILON).sqrt()


def _dot(row: np.ndarray, values: Sequence[Tensor]) -> Tensor:
    return sum((float(c) * value for c, value in zip(row, values, strict=True)), torch.zeros(()))
