"""Devices: which one a name means, how a network gets there, and what it computes with."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate

from fastmatch.errors import OptionError

Network = TypeVar("Network", bound=nn.Module)
_VIEWS = (torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default)
_NAMES = "auto, cpu, cuda or a GPU by its number, such as cuda:1"


def find_device(name: str) -> torch.device:
    """Return the device that a name means: ``cpu``, ``cuda``, ``cuda:N``, or ``auto``, a GPU where there is one.

    Raises
    ------
    OptionError
        The name is unknown, or the device cannot be used on this machine.
    """
    available = torch.cuda.is_available()
    if name == "auto":
        name = "cuda" if available else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", name):
        raise OptionError(f"device {name!r} is unknown; choose {_NAMES}")
    if name == "cpu":
        return torch.device("cpu")
    if not available:
        raise OptionError(f"device {name!r} is not available: torch {torch.__version__} finds no GPU; use --device cpu")
    index = int(name.partition(":")[2] or torch.cuda.current_device())
    count = torch.cuda.device_count()
    if index >= count:
        raise OptionError(f"device {name!r} is not available: the last GPU is cuda:{count - 1}; choose {_NAMES}")
    device = torch.device("cuda", index)
    try:
        torch.ones(1, device=device).item()
    except (RuntimeError, AssertionError) as error:  # too old for this torch, taken by others, or out of memory
        reason = str(error).strip().partition("\n")[0]
        raise OptionError(f"device {name!r} cannot be used ({reason}); use --device cpu") from error
    return device


def device_name(device: torch.device) -> str:
    """Return what results call a device: ``cpu``, or the GPU's own name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def move_module(module: Network, device: torch.device) -> Network:
    """Return a copy of ``module`` on ``device``, with all that ``nn.Module.to`` leaves behind.

    That is: tensors that are neither parameters nor buffers, such as an exported program's constants, and the devices
    that are written into exported operations.
    """
    memo: dict[int, Any] = {}  # What deepcopy finds here it takes for the copy.
    for part in module.modules():
        for value in (*part.parameters(recurse=False), *part.buffers(recurse=False), *vars(part).values()):
            if isinstance(value, Tensor) and id(value) not in memo:
                moved = value.detach().to(device, copy=True)
                memo[id(value)] = nn.Parameter(moved, value.requires_grad) if isinstance(value, nn.Parameter) else moved
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own copying of exported programs
        result = copy.deepcopy(module, memo)
    move_operations(result, device)
    return result


def move_operations(module: nn.Module, device: torch.device) -> None:
    """Make exported operations in ``module`` run on ``device``, in place.

    Some name a device. Others take a view, as the strides of the device they were exported on allow; those of another
    device may ask for a copy.
    """

    def moved(value: Any) -> Any:
        return device if isinstance(value, torch.device) else value

    for part in module.modules():
        if isinstance(part, fx.GraphModule):
            for node in part.graph.nodes:
                node.args, node.kwargs = map_aggregate((node.args, node.kwargs), moved)
                if node.target in _VIEWS:
                    node.target = torch.ops.aten.reshape.default
            part.recompile()


@contextmanager
def full_float32() -> Iterator[None]:
    """Let GPUs convolve in float32, always by the same algorithm; torch's default rounds factors to TF32.

    What the caller set by torch's newer switches alone, which the older ones cannot read, stays.
    """
    cudnn = torch.backends.cudnn
    with ExitStack() as stack:
        with suppress(RuntimeError):
            stack.enter_context(
                cudnn.flags(
                    enabled=cudnn.enabled,
                    benchmark=False,
                    deterministic=True,
                    allow_tf32=False,
                    fp32_precision="ieee",
                )
            )
        yield
