"""Which implementation of a kernel runs, and why."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from fastmatch.errors import OptionError

Implementation = Literal["auto", "reference", "gpu"]
Precision = Literal["highest", "high", "fast"]
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_CAPABILITY = (8, 0)
_LARGE = 512  # Units from which float32 products are the library's: they are bound by arithmetic, not by memory.


class Choice(NamedTuple):
    """The implementation that runs, and the reason in words."""

    implementation: Literal["reference", "gpu"]
    reason: str


def choose(tensors: Sequence[Tensor], implementation: Implementation = "auto", better: str | None = None) -> Choice:
    """Implementation for floating-point ``tensors``.

    Parameters
    ----------
    implementation
        ``"auto"`` takes the Triton kernels for tensors on a GPU where they can run, the reference otherwise; a name is
        taken at its word.
    better
        Why the reference would be faster on a GPU; None where it would not.

    Raises
    ------
    OptionError
        ``implementation`` is unknown, or the GPU kernels are asked for and cannot run.
    """
    if implementation == "reference":
        return Choice("reference", "it was asked for")
    if implementation not in ("auto", "gpu"):
        raise OptionError(f"implementation {implementation!r} is unknown; choose auto, reference or gpu")
    if implementation == "auto" and any(tensor.device.type == "cpu" for tensor in tensors):
        return Choice("reference", "the tensors are on the cpu")
    obstacle = _obstacle(tensors)
    if implementation == "gpu":
        if obstacle:
            raise OptionError(f"the gpu kernels cannot run: {obstacle}; use implementation reference or auto")
        return Choice("gpu", "it was asked for")
    if reason := obstacle or better:
        return Choice("reference", reason)
    return Choice("gpu", f"the tensors are on {tensors[0].device}")


def check_precision(precision: Precision) -> None:
    """Raise OptionError where ``precision`` is unknown."""
    if precision not in ("highest", "high", "fast"):
        raise OptionError(f"precision {precision!r} is unknown; choose highest, high or fast")


def favour_library(units: int, precision: Precision) -> str | None:
    """Why a library's matrix products of so many units are faster than the kernels'; None where they are not."""
    return f"{units} units are many for float32 products" if precision == "highest" and units > _LARGE else None


def _obstacle(tensors: Sequence[Tensor]) -> str | None:
    """Why the GPU kernels cannot run."""
    devices = {tensor.device for tensor in tensors}
    if len(devices) != 1:
        return f"tensors are on {len(devices)} devices"
    if odd := [tensor.dtype for tensor in tensors if tensor.dtype not in DTYPES]:
        return f"{str(odd[0]).removeprefix('torch.')} is not float32, float16 or bfloat16"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    (device,) = devices
    if interpreting():
        return None if device.type == "cpu" else f"TRITON_INTERPRET is set, and the tensors are on {device}"
    return _device_obstacle(device)


@cache
def _device_obstacle(device: torch.device) -> str | None:
    if device.type != "cuda" or torch.version.hip is not None:
        return f"they are made for NVIDIA GPUs, the tensors are on {device}"
    capability = torch.cuda.get_device_capability(device)
    if capability < _CAPABILITY:
        return f"they need compute capability 8.0, {device} has {capability[0]}.{capability[1]}"
    return None


def interpreting() -> bool:
    """Whether Triton interprets kernels, on the CPU too; decided before the first of them is imported."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes")
