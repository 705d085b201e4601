"""Linear layers and convolutions with bias and ReLU in one operation, where the processor's library has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# The library's ReLU turns NaN into 0, so that a broken network would look whole. A leaky one keeps NaN, and what leaks
# with this slope is nothing beside any other value.
_RELU = "leaky_relu", [1e-30], ""
_NOTHING: tuple[str, list[float], str] = "none", [], ""


def linear(inputs: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    """``inputs @ weight.T + bias``, inputs [..., in], then a ReLU if asked for."""
    if _has_fused(inputs):
        return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, *(_RELU if relu else _NOTHING))
    output = F.linear(inputs, weight, bias)
    return output.relu_() if relu else output


def convolution(
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    shape: Sequence[Any],
    other: Tensor | None,
    relu: bool,
) -> Tensor:
    """Convolution of images [examples, channels, height, width], plus ``other`` of the shape of the result.

    ``shape``: stride, padding, dilation, groups.
    """
    stride, padding, dilation, groups = shape
    if not _has_fused(inputs):
        output = torch.conv2d(inputs, weight, bias, stride, padding, dilation, groups)
        output = output if other is None else output.add_(other)
        return output.relu_() if relu else output
    given = weight, bias, padding, stride, dilation, groups
    if other is None:
        return torch.ops.mkldnn._convolution_pointwise(inputs, *given, *(_RELU if relu else _NOTHING))
    output = torch.ops.mkldnn._convolution_pointwise.binary(inputs, other, *given, "add", 1.0, None, [], None)
    return output.relu_() if relu else output  # behind a sum, the library has no leaky one


def _has_fused(inputs: Tensor) -> bool:
    """Whether oneDNN takes this tensor. For float32 products it is also the faster library on many processors."""
    usual = inputs.dtype in (torch.float32, torch.bfloat16) and inputs.device.type == "cpu"
    return usual and inputs.numel() > 0 and torch.backends.mkldnn.is_available()
