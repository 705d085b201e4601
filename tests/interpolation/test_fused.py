"""Fused layers against the plain operations of torch."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fastmatch.interpolation import fused

TYPES = [torch.float32, torch.bfloat16, torch.float64]
CLOSE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float64: 1e-12}  # bfloat16: sums are rounded once, or twice
CONVOLUTIONS = {
    "plain": (4, 6, 3, ([1, 1], [1, 1], [1, 1], 1)),
    "strided and dilated": (4, 6, 3, ([2, 2], [2, 2], [2, 2], 1)),
    "of groups": (4, 6, 3, ([1, 1], [1, 1], [1, 1], 2)),
    "of one channel each": (4, 4, 3, ([1, 1], [0, 1], [1, 1], 4)),
    "of points": (4, 6, 1, ([1, 1], [0, 0], [1, 1], 1)),
}


def assert_close(found, expected):
    assert found.dtype == expected.dtype
    close = CLOSE[found.dtype]
    torch.testing.assert_close(found, expected, rtol=close, atol=close, equal_nan=True)


def images(*shape, dtype, last=True):
    values = torch.randn(*shape).to(dtype)
    return values.contiguous(memory_format=torch.channels_last) if last else values


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("shape", [(1, 8), (7, 8), (7, 3, 8), (2, 3, 5, 8), (0, 8)], ids=str)
def test_linear_is_the_plain_layer(shape, biased, relu, dtype):
    inputs, weight = torch.randn(shape).to(dtype), torch.randn(6, 8).to(dtype)
    bias = torch.randn(6).to(dtype) if biased else None
    expected = F.linear(inputs, weight, bias)
    assert_close(fused.linear(inputs, weight, bias, relu), expected.relu() if relu else expected)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("added", [None, "channels last", "channels first"])
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution_is_the_plain_layer_and_its_operands_stay(case, added, relu, dtype):
    taken, given, size, shape = CONVOLUTIONS[case]
    inputs, weight = images(3, taken, 7, 7, dtype=dtype), images(given, taken // shape[-1], size, size, dtype=dtype)
    bias = torch.randn(given).to(dtype)
    expected = torch.conv2d(inputs, weight, bias, *shape)
    other = None if added is None else images(*expected.shape, dtype=dtype, last=added == "channels last")
    expected = expected if other is None else expected + other
    operands = [tensor for tensor in (inputs, weight, bias, other) if tensor is not None]
    before = [tensor.clone() for tensor in operands]
    found = fused.convolution(inputs, weight, bias, shape, other, relu)
    assert_close(found, expected.relu() if relu else expected)
    assert all(torch.equal(*pair) for pair in zip(operands, before, strict=True))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("place", ["inputs", "weight", "bias", "other"])
@pytest.mark.parametrize("layer", ["linear", "convolution", "sum"])
def test_no_relu_hides_nan(layer, place, dtype):
    convolution = layer != "linear"
    axes = (5, 5) if convolution else ()
    given = {
        "inputs": torch.randn(3, 4, *axes),
        "weight": torch.randn(6, 4, *(3, 3) * convolution),
        "bias": torch.randn(6),
        "other": torch.randn(3, 6, 3, 3),
    }
    given[place].view(-1)[0] = torch.nan
    inputs, weight, bias, other = (tensor.to(dtype) for tensor in given.values())
    if convolution:
        other = other if layer == "sum" else None
        found = fused.convolution(inputs, weight, bias, ([1, 1], [0, 0], [1, 1], 1), other, True)
        expected = torch.conv2d(inputs, weight, bias)
        expected = (expected if other is None else expected + other).relu()
    else:
        found, expected = fused.linear(inputs, weight, bias, True), F.linear(inputs, weight, bias).relu()
    assert torch.equal(found.isnan(), expected.isnan())
    assert expected.isnan().any() == (place != "other" or layer == "sum")
