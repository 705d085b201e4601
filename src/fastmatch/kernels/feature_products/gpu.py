"""Products of features in one pass: a program reads all tensors' features of an example, or of a part of it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastmatch.kernels.dispatch import DTYPES
from fastmatch.kernels.folding import Run, fold
from fastmatch.kernels.launch import POINTEES, Variant, launch, processors

# Tensors, padded to a power of two, and the features that a program reads at a time: products stay in registers.
_BLOCKS = {1: 1024, 2: 1024, 4: 512, 8: 128}
_AXES = 3  # Axes of features that the kernel follows, if it counts them in int32.
_COUNTED = 2**31 - max(_BLOCKS.values())
_WAVES = 8  # Programs for every multiprocessor.
_PART = 4  # Blocks that a part of an example has at least.


@triton.jit(do_not_specialize=["table", "products", "values", "features", "length", "middle", "inner"])
def kernel(
    table,
    products,
    values: tl.int64,
    features: tl.int64,
    length: tl.int64,
    middle: tl.int64,
    inner: tl.int64,
    VALUES: tl.constexpr,
    BLOCK: tl.constexpr,
    AXES: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """Programs: [examples, parts of ``length`` features].

    ``table`` is [values, 5]: of every tensor its address, and the strides of examples and of up to three axes of
    features, outermost first, of which the last two have ``middle`` and ``inner`` places. ``products`` is [parts,
    examples, values, values].
    """
    example, part = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    number = tl.arange(0, VALUES)
    field = table + number * 5
    given = number < values
    base = tl.load(field, mask=given, other=0).to(tl.pointer_type(DTYPE))
    base += example * tl.load(field + 1, mask=given, other=0)
    strides0 = tl.load(field + 2, mask=given, other=0)[:, None]
    strides1 = tl.load(field + 3, mask=given, other=0)[:, None]
    strides2 = tl.load(field + 4, mask=given, other=0)[:, None]
    end = tl.minimum((part + 1) * length, features)
    total = tl.zeros((VALUES, VALUES, BLOCK), tl.float32)
    for first in range(part * length, end, BLOCK):
        place = first + tl.arange(0, BLOCK)
        inside = given[:, None] & (place < end)[None, :]
        # More features than an int32 counts have one axis.
        if AXES == 1:
            offset = place[None, :] * strides2
        elif AXES == 2:
            row, size = place.to(tl.int32), inner.to(tl.int32)
            offset = (row // size)[None, :] * strides1 + (row % size)[None, :] * strides2
        else:
            row, size, height = place.to(tl.int32), inner.to(tl.int32), middle.to(tl.int32)
            rest = row // size
            offset = (rest // height)[None, :] * strides0 + (rest % height)[None, :] * strides1
            offset += (row % size)[None, :] * strides2
        x = tl.load(base[:, None] + offset, mask=inside, other=0.0).to(tl.float32)
        total += x[:, None, :] * x[None, :, :]
    out = products + (part * tl.num_programs(0) + example) * values * values
    kept = given[:, None] & given[None, :]
    tl.store(out + number[:, None] * values + number[None, :], tl.sum(total.to(tl.float64), 2), mask=kept)


def feature_products(values: Sequence[Tensor]) -> Tensor:
    """See :func:`fastmatch.kernels.feature_products`."""
    values, axes = _followed(values)
    count, examples, features = len(values), len(values[0]), math.prod(axis.size for axis in axes)
    device = values[0].device
    variant = _variant(values[0].dtype, count, len(axes))
    length = _length(examples, features, variant.constants["BLOCK"], processors(device))
    parts = triton.cdiv(features, length)
    products = torch.empty((parts, examples, count, count), dtype=torch.float64, device=device)
    table = torch.tensor(
        [
            [value.data_ptr(), value.stride(0), *[0] * (_AXES - len(axes)), *(axis.strides[number] for axis in axes)]
            for number, value in enumerate(values)
        ],
        dtype=torch.int64,
    )
    arguments = (table.to(device, non_blocking=True), products, count, features, length, *_inner(axes))
    launch(kernel, variant, (examples, parts), device, arguments)
    return products.sum(0)


def _followed(values: Sequence[Tensor]) -> tuple[Sequence[Tensor], list[Run]]:
    """Tensors, copied where their axes are too many for the kernel, and the axes of features, outermost first."""
    shape, strides = values[0].shape[1:], zip(*(value.stride()[1:] for value in values), strict=True)
    # In any order they give the same products; neighbours in memory are read together.
    runs = sorted((Run(*axis) for axis in zip(shape, strides, strict=True)), key=lambda run: run.strides, reverse=True)
    axes = fold(runs) or [Run(1, (1,) * len(values))]
    features = math.prod(shape)
    if len(axes) == 1 or (len(axes) <= _AXES and features < _COUNTED):
        return values, axes
    return [value.contiguous() for value in values], [Run(features, (1,) * len(values))]


def _length(examples: int, features: int, block: int, processors: int) -> int:
    """Features of a part: whole blocks, and parts enough to keep the device busy unless they would be tiny."""
    blocks = triton.cdiv(features, block)
    parts = triton.cdiv(_WAVES * processors, max(1, examples))
    return block * max(_PART, triton.cdiv(blocks, parts))


def _inner(axes: Sequence[Run]) -> tuple[int, int]:
    """Sizes of the last two axes."""
    return (axes[-2].size if len(axes) > 1 else 1, axes[-1].size)


def variants() -> Iterator[Variant]:
    """All forms of the kernel."""
    for dtype, count, axes in itertools.product(DTYPES, _BLOCKS, range(1, _AXES + 1)):
        yield _variant(dtype, count, axes)


def _variant(dtype: torch.dtype, count: int, axes: int) -> Variant:
    padded = triton.next_power_of_2(count)
    scalars = dict.fromkeys(("values", "features", "length", "middle", "inner"), "i64")
    constants = {"VALUES": padded, "BLOCK": _BLOCKS[padded], "AXES": axes, "DTYPE": getattr(tl, POINTEES[dtype])}
    return Variant({"table": "*i64", "products": "*fp64"} | scalars, constants)
