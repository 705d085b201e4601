"""Running statistics of BatchNorm, recomputed for interpolated networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fastmatch.data import Split
from fastmatch.errors import DataError
from fastmatch.interpolation.forward import forward

BATCH_SIZE = 250
_aten = torch.ops.aten
# All take (input, weight, bias, running mean, running variance) first, then training (some), momentum and epsilon.
_WITH_FLAG = {_aten.native_batch_norm.default, _aten.cudnn_batch_norm.default, _aten._native_batch_norm_legit.default}
_WITHOUT_FLAG = {_aten._native_batch_norm_legit_no_training.default, _aten._batch_norm_no_update.default}


class _BatchStatistics(TorchDispatchMode):
    """Runs every BatchNorm on batch statistics and folds them into its running statistics.

    Works below modules, on the operations themselves, so that exported programs and modules of any class are covered.
    With momentum 1 / k at batch k the running statistics are the cumulative average over batches.
    """

    def __init__(self) -> None:
        super().__init__()
        self.momentum = 1.0
        self.found: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func in _WITH_FLAG and args[3] is not None:
            self._note(args)
            args = (*args[:5], True, self.momentum, *args[7:])
        elif func in _WITHOUT_FLAG and args[3] is not None:
            self._note(args)
            func, args = _aten._native_batch_norm_legit.default, (*args[:5], True, self.momentum, args[6])
        return func(*args, **(kwargs or {}))

    def _note(self, args: tuple[Any, ...]) -> None:
        self.found.update(tensor.data_ptr() for tensor in args[3:5])


def running_statistics(module: nn.Module, state: Mapping[str, Tensor], data: Split) -> list[str]:
    """Names of the running statistics that the network normalises with. One small batch is run on a copy of them."""
    copies = {name: tensor.clone() for name, tensor in state.items()}
    with _BatchStatistics() as mode:
        forward(module, copies, data.inputs[:2])
    return [name for name, tensor in copies.items() if tensor.data_ptr() in mode.found]


def reset_statistics(run: Callable[[Tensor], object], data: Split) -> None:
    """Replace the running statistics of a network by their cumulative average over one pass over ``data``.

    The same as ``momentum=None`` in train mode, for BatchNorm alone; everything else stays in evaluation mode. The
    buffers are changed in place. ``data`` should be shuffled: batches of one class each would have other statistics.

    Parameters
    ----------
    run
        Passes a batch through the network in evaluation mode.

    Raises
    ------
    DataError
        ``data`` holds one example, which has no variance.
    """
    if len(data) < 2:
        raise DataError("BatchNorm statistics need at least two examples; give more, or keep the statistics (bn keep)")
    with torch.no_grad(), _BatchStatistics() as mode:
        for number, (inputs, _) in enumerate(data.batches(BATCH_SIZE)):
            mode.momentum = 1.0 / (number + 1)
            run(inputs)
