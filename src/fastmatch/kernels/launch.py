"""How Triton kernels are compiled and launched: what may be specialised, and on which device."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import torch

TYPES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
POINTEES = {torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}  # in triton.language
LONGEST = 2048  # Products that one program adds up in float32: more of them would cost digits.
PRODUCTS = {"highest": "ieee", "high": "tf32x3", "fast": "tf32"}


class Variant(NamedTuple):
    """One form in which a kernel is compiled.

    Every ``gpu.py`` lists all that it can choose in ``variants()``, so that they can be compiled ahead of time; scalars
    and pointers are not specialised beyond that.
    """

    signature: Mapping[str, str]
    constants: Mapping[str, Any]
    warps: int = 4
    stages: int = 3
    registers: int | None = None

    @property
    def options(self) -> dict[str, Any]:
        """How the compiler treats it.

        With ``registers`` of its own it does not spill some so that more programs fit side by side.
        """
        shape = {"num_warps": self.warps, "num_stages": self.stages, "enable_fp_fusion": True}
        return shape if self.registers is None else shape | {"maxnreg": self.registers}


def launch(
    kernel: Any, variant: Variant, grid: tuple[int, ...], device: torch.device, arguments: Sequence[Any]
) -> None:
    """Run a kernel on ``device``; an empty grid runs nothing."""
    if 0 in grid:
        return
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        kernel[grid](*arguments, **variant.constants, **variant.options)


@cache
def processors(device: torch.device) -> int:
    """Multiprocessors of a GPU; a few where kernels are interpreted."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4
