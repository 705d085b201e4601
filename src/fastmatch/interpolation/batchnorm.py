"""Running statistics of BatchNorm, computed anew for interpolated networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fastmatch.data import batch_count
from fastmatch.interpolation.forward import forward

_CHUNK = 250  # Examples whose moments are taken at once, in the type of the network; they are pooled in float64.
_aten = torch.ops.aten
# All take (input, weight, bias, running mean, running variance) first, then training (some), momentum and epsilon.
_WITH_FLAG = {_aten.native_batch_norm.default, _aten.cudnn_batch_norm.default, _aten._native_batch_norm_legit.default}
_WITHOUT_FLAG = {_aten._native_batch_norm_legit_no_training.default, _aten._batch_norm_no_update.default}


class Moments(NamedTuple):
    """Number of values of each unit, their mean and sum of squared deviations, float64, shape [units]."""

    size: int
    mean: Tensor
    scatter: Tensor


def moments(values: Tensor) -> Moments:
    """Moments over all axes but the second, which is that of the units; two values of each at least."""
    mean, variance = values.new_empty(values.shape[1]), values.new_empty(values.shape[1])
    torch.batch_norm_update_stats(values, mean.zero_(), variance.zero_(), 1.0)
    size = values.numel() // values.shape[1]
    return Moments(size, mean.double(), variance.double() * (size - 1))


def pool(parts: Iterable[Moments]) -> Moments:
    """Moments of the parts together (Chan et al. 1979, pairwise update)."""
    first, *others = parts
    size, mean, scatter = first
    for part in others:
        total, change = size + part.size, part.mean - mean
        scatter = scatter + part.scatter + change.square() * (size * part.size / total)
        mean, size = mean + change * (part.size / total), total
    return Moments(size, mean, scatter)


def write(found: Moments, mean: Tensor, variance: Tensor) -> None:
    """Make these the running statistics; the variance is the unbiased one."""
    mean.copy_(found.mean)
    variance.copy_(found.scatter / (found.size - 1))


class _OwnStatistics(TorchDispatchMode):
    """Gives every BatchNorm the statistics of what it is given, before it normalises with them.

    Works below modules, on the operations themselves, so that exported programs and modules of any class are covered.
    Running statistics that are no entry of ``state``, as InstanceNorm makes them, stay.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.found: list[int] = []
        self._own = {tensor.data_ptr() for tensor in state.values()}

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        known = func in _WITH_FLAG or func in _WITHOUT_FLAG
        if known and args[3] is not None and args[3].data_ptr() in self._own:
            values, running = args[0], args[3:5]
            write(pool(map(moments, values.tensor_split(batch_count(len(values), _CHUNK)))), *running)
            self.found.extend(tensor.data_ptr() for tensor in running)
        return func(*args, **(kwargs or {}))


def running_statistics(module: nn.Module, state: Mapping[str, Tensor], inputs: Tensor) -> list[str]:
    """Names of the running statistics that the network normalises with, each as often as it does.

    Some inputs are run on a copy of them.
    """
    copies = {name: tensor.clone() for name, tensor in state.items()}
    names = {tensor.data_ptr(): name for name, tensor in copies.items()}
    with _OwnStatistics(copies) as mode:
        forward(module, copies, inputs)
    return [names[found] for found in mode.found]


def reset_statistics(module: nn.Module, state: Mapping[str, Tensor], inputs: Tensor) -> Any:
    """Replace the running statistics in ``state`` by those that the network has on ``inputs``; return its output.

    Every BatchNorm takes mean and unbiased variance of all that reaches it, and normalises with them what the next one
    sees: statistics and network fit each other, whatever the order of the examples. The buffers are changed in place,
    all examples run at once, and everything else stays in evaluation mode.
    """
    with torch.no_grad(), _OwnStatistics(state):
        return forward(module, state, inputs)
