"""Evaluation as published: the plain loop that :func:`evaluate` must agree with."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

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
        Examples that give BatchNorm its statistics in every row: mean and unbiased variance over all of them of what
        reaches it, once the statistics before it are set. Statistics are combined like weights if None.
    dtype
        Of weights, inputs and all that is computed from them.
    batch_size
        Of the loaders.
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
    rescalings = _rescalings(network, data.inputs[:2].to(dtype)) if repair else {}
    if repair and statistics is not None:
        for state in networks:
            network.load_state_dict(_combined([state], np.ones(1), dtype))
            _reset(network, _loader(statistics, dtype, batch_size), rescalings)
            for rescaling in rescalings.values():
                rescaling.ends.append(rescaling.moments)
    losses, errors = [], []
    for row in np.asarray(coefficients):
        network.load_state_dict(_combined(networks, row, dtype))
        for rescaling in rescalings.values():
            rescaling.combine(row)
        if statistics is not None:
            _reset(network, _loader(statistics, dtype, batch_size), rescalings)
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


class _Rescaling:
    """Gives every unit of a layer another mean and standard deviation than its ``moments``, by a hook on its outputs.

    ``ends`` are the moments of the networks by themselves; until they are combined, outputs pass.
    """

    def __init__(self, layer: nn.Module) -> None:
        self._axis = 1 if isinstance(layer, nn.Conv2d) else -1
        self._target: tuple[Tensor, Tensor] | None = None
        self.moments = torch.zeros(()), torch.ones(())
        self.ends: list[tuple[Tensor, Tensor]] = []
        layer.register_forward_hook(self._rescale)

    def combine(self, row: np.ndarray) -> None:
        """Give outputs the combination of moments with these coefficients."""
        mean, deviation = (sum(map(torch.mul, kind, row.tolist())) for kind in zip(*self.ends, strict=True))
        self._target = torch.as_tensor(mean), torch.as_tensor(deviation)

    def measure(self, outputs: Sequence[Tensor]) -> None:
        """Take the moments of all outputs of the layer together."""
        values = torch.cat([output.movedim(self._axis, -1).flatten(0, -2) for output in outputs])
        self.moments = values.mean(0), (values.var(0) + _EPSILON).sqrt()

    def _rescale(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if self._target is None:
            return output
        (mean, deviation), (wanted_mean, wanted_deviation) = self.moments, self._target
        normalised = (output.movedim(self._axis, -1) - mean) / deviation
        return (normalised * wanted_deviation + wanted_mean).movedim(-1, self._axis)


def _rescalings(network: nn.Module, inputs: Tensor) -> dict[nn.Module, _Rescaling]:
    """For linear layers and convolutions but the last and those that a BatchNorm follows."""
    layers = [part for part in network.modules() if isinstance(part, (nn.Linear, nn.Conv2d, _BatchNorm))]
    rest = [
        part
        for part, after in pairwise(_in_order(network, inputs, layers))
        if not isinstance(part, _BatchNorm) and not isinstance(after, _BatchNorm)
    ]
    return {part: _Rescaling(part) for part in rest}


def _reset(
    network: nn.Module,
    loader: DataLoader[tuple[Tensor, ...]],
    rescalings: Mapping[nn.Module, _Rescaling] = MappingProxyType({}),
) -> None:
    """Give BatchNorms and rescalings their statistics over all examples, in turn: each changes what the next sees."""
    norms = [part for part in network.modules() if isinstance(part, _BatchNorm)]
    for part in _in_order(network, next(iter(loader))[0], [*norms, *rescalings]):
        seen: list[tuple[Tensor, Tensor]] = []
        # Before the hook of a rescaling.
        hook = part.register_forward_hook(lambda _, given, out, seen=seen: seen.append((given[0], out)), prepend=True)
        for inputs, _ in loader:
            network(inputs)
        hook.remove()
        given, outputs = zip(*seen, strict=True)
        if part in rescalings:
            rescalings[part].measure(outputs)
        else:
            values = torch.cat(given).transpose(0, 1).flatten(1)
            part.register_buffer("running_mean", values.mean(1))
            part.register_buffer("running_var", values.var(1))


def _in_order(network: nn.Module, inputs: Tensor, parts: Sequence[nn.Module]) -> list[nn.Module]:
    """Parts of the network in the order in which they run."""
    order: list[nn.Module] = []
    hooks = [part.register_forward_pre_hook(lambda part, _: order.append(part)) for part in parts]
    network(inputs)
    for hook in hooks:
        hook.remove()
    return order
