"""Moments of a batch in one pass: every value is shifted as it is loaded, multiplied and summed up."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import get_args

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastmatch.kernels.dispatch import DTYPES, Precision
from fastmatch.kernels.launch import LONGEST, POINTEES, PRODUCTS, Variant, launch, processors
from fastmatch.kernels.moments.batch import Batch
from fastmatch.kernels.moments.plan import LAYOUTS, NETWORK, PAIR, WIDE, Layout, plan

_BLOCKS = (32, 64)  # Units of each network in a program.
_WARPS, _STAGES = 8, 3
_WAVES = 2  # Programs for every multiprocessor.


@triton.jit
def _offsets(k, n1, n2, s0, s1, s2, MULTIPLE: tl.constexpr, TOGETHER: tl.constexpr):
    """Offsets of places that are counted over three axes.

    They come in multiples of ``MULTIPLE``, or as many lie together, which the compiler cannot know. It forgets what it
    is told of a value that crosses the border of a function, so that it must be told here.
    """
    offset = (k // (n2 * n1)) * s0 + ((k // n2) % n1) * s1 + (k % n2) * s2
    offset = tl.multiple_of(offset, MULTIPLE)
    if TOGETHER:
        offset = tl.max_contiguous(offset, MULTIPLE)
    return offset


@triton.jit
def _tile(start, unit, sample, real, inside, shift, floor, UNITS: tl.constexpr):
    """Shifted values in float32, zero beyond the ends: [samples, units] where units lie together, else the reverse."""
    if UNITS:
        mask = inside[:, None] & real[None, :]
        values = tl.load(start + sample[:, None] + unit[None, :], mask=mask, other=0.0).to(tl.float32)
        taken = shift[None, :]
    else:
        mask = real[:, None] & inside[None, :]
        values = tl.load(start + unit[:, None] + sample[None, :], mask=mask, other=0.0).to(tl.float32)
        taken = shift[:, None]
    # A comparison, so that NaN stays NaN.
    return tl.where(mask, tl.where(values < floor, floor, values) - taken, 0.0)


@triton.jit
def _units(network, unit, MULTIPLE: tl.constexpr, TOGETHER: tl.constexpr):
    n1, n2 = tl.load(network + 3).to(tl.int32), tl.load(network + 4).to(tl.int32)
    s0, s1, s2 = tl.load(network + 5), tl.load(network + 6), tl.load(network + 7)
    return _offsets(unit, n1, n2, s0, s1, s2, MULTIPLE, TOGETHER)


@triton.jit
def _summed(out, split, network, unit, units, sums, squares, UNITS: tl.constexpr):
    tl.store(out + split + tl.load(network + 11) + unit, tl.sum(sums, 0 if UNITS else 1), mask=unit < units)
    tl.store(out + split + tl.load(network + 12) + unit, tl.sum(squares, 0 if UNITS else 1), mask=unit < units)


@triton.jit(do_not_specialize=["table", "out", "samples", "length", "entries", "pairs", "across", "relu"])
def kernel(
    table,
    out,
    samples: tl.int64,
    length: tl.int64,
    entries: tl.int64,
    pairs: tl.int64,
    across: tl.int64,
    relu: tl.int64,
    NETWORK: tl.constexpr,
    PAIR: tl.constexpr,
    BLOCK: tl.constexpr,
    SAMPLES: tl.constexpr,
    MULTIPLE: tl.constexpr,
    DTYPE: tl.constexpr,
    PRODUCT: tl.constexpr,
    LAYOUT: tl.constexpr,
):
    """Programs: [tiles, splits of ``length`` chunks of samples, pairs]; ``out`` is [splits, entries]. See ``plan``."""
    UNITS: tl.constexpr = LAYOUT == "units"
    tile, part = tl.program_id(0), tl.program_id(1).to(tl.int64)
    pair = table + pairs + tl.program_id(2) * PAIR
    first, second = table + 2 + tl.load(pair) * NETWORK, table + 2 + tl.load(pair + 1) * NETWORK
    n1, n2 = tl.load(table).to(tl.int32), tl.load(table + 1).to(tl.int32)
    a, b = tl.load(first).to(tl.pointer_type(DTYPE)), tl.load(second).to(tl.pointer_type(DTYPE))
    i = (tile // across).to(tl.int32) * BLOCK + tl.arange(0, BLOCK)
    j = (tile % across).to(tl.int32) * BLOCK + tl.arange(0, BLOCK)
    units_a, units_b, count = tl.load(first + 2).to(tl.int32), tl.load(second + 2).to(tl.int32), samples.to(tl.int32)
    if LAYOUT != "any":
        a, b = tl.multiple_of(a, 16), tl.multiple_of(b, 16)
    if LAYOUT == "units":
        units_a, units_b = tl.multiple_of(units_a, MULTIPLE), tl.multiple_of(units_b, MULTIPLE)
    if LAYOUT == "samples":
        count = tl.multiple_of(count, MULTIPLE)
    real_a, real_b = i < units_a, j < units_b
    shift_a = tl.load(tl.load(first + 1).to(tl.pointer_type(tl.float32)) + i, mask=real_a, other=0.0)
    shift_b = tl.load(tl.load(second + 1).to(tl.pointer_type(tl.float32)) + j, mask=real_b, other=0.0)
    unit_a, unit_b = _units(first, i, MULTIPLE, UNITS), _units(second, j, MULTIPLE, UNITS)
    a0, a1, a2 = tl.load(first + 8), tl.load(first + 9), tl.load(first + 10)
    b0, b1, b2 = tl.load(second + 8), tl.load(second + 9), tl.load(second + 10)
    floor = tl.where(relu != 0, 0.0, float("-inf"))
    acc = tl.zeros((BLOCK, BLOCK), tl.float32)
    sums_a = tl.zeros((SAMPLES, BLOCK) if UNITS else (BLOCK, SAMPLES), tl.float32)
    squares_a, sums_b, squares_b = sums_a, sums_a, sums_a
    chunks = tl.cdiv(samples, SAMPLES)
    for chunk in range((part * length).to(tl.int32), tl.minimum((part + 1) * length, chunks).to(tl.int32)):
        k = chunk * SAMPLES + tl.arange(0, SAMPLES)
        inside = k < count
        sample_a = _offsets(k, n1, n2, a0, a1, a2, MULTIPLE, LAYOUT == "samples")
        sample_b = _offsets(k, n1, n2, b0, b1, b2, MULTIPLE, LAYOUT == "samples")
        x = _tile(a, unit_a, sample_a, real_a, inside, shift_a, floor, UNITS)
        y = _tile(b, unit_b, sample_b, real_b, inside, shift_b, floor, UNITS)
        sums_a += x
        squares_a += x * x
        sums_b += y
        squares_b += y * y
        if UNITS:
            acc = tl.dot(tl.trans(x), y, acc, input_precision=PRODUCT)
        else:
            acc = tl.dot(x, tl.trans(y), acc, input_precision=PRODUCT)
    split = part * entries
    own_a = tl.load(pair + 3).to(tl.int32) * (tile % across == 0).to(tl.int32)
    own_b = tl.load(pair + 4).to(tl.int32) * (tile < across).to(tl.int32)
    _summed(out, split, first, i, units_a * own_a, sums_a, squares_a, UNITS)
    _summed(out, split, second, j, units_b * own_b, sums_b, squares_b, UNITS)
    cross = out + split + tl.load(pair + 2) + i.to(tl.int64)[:, None] * units_b + j[None, :]
    tl.store(cross, acc, mask=real_a[:, None] & real_b[None, :])


def moments(batch: Batch, shifts: Sequence[Tensor], precision: Precision) -> Tensor:
    """See :func:`reference.moments`; shifts are float32."""
    if len({value.dtype for value in batch.values}) > 1:
        batch = batch._replace(values=[value.float() for value in batch.values])
    device, entries = batch.values[0].device, sum(batch.sizes)
    table, layout, kept = plan(batch, [shift.to(device) for shift in shifts])
    units = batch.units
    variant = _variant(batch.values[0].dtype, precision, layout, _BLOCKS[max(units) > _BLOCKS[0]])
    block = variant.constants["BLOCK"]
    # At least one tile: the other side of a pair may have units whose sums are wanted.
    rows, across = (triton.cdiv(max(1, *(units[pair[side]] for pair in batch.pairs)), block) for side in range(2))
    wanted = _WAVES * processors(device) // max(1, rows * across * len(batch.pairs))
    length, splits = _splits(batch.samples, variant.constants["SAMPLES"], wanted)
    out = torch.empty((splits, entries), dtype=torch.float32, device=device)
    pairs = 2 + NETWORK * len(units)
    arguments = (table.to(device, non_blocking=True), out, batch.samples, length, entries, pairs, across)
    launch(kernel, variant, (rows * across, splits, len(batch.pairs)), device, (*arguments, int(batch.relu)))
    del kept  # the table holds addresses: until here they must not be given away
    return out.sum(0, dtype=torch.float64)


def _splits(samples: int, chunk: int, wanted: int) -> tuple[int, int]:
    """Chunks of a split, and splits: about as many as are wanted, none so long that its float32 sums lose digits."""
    chunks = triton.cdiv(samples, chunk)
    length = max(1, min(LONGEST // chunk, triton.cdiv(chunks, max(1, wanted))))
    return length, triton.cdiv(chunks, length)


def variants() -> Iterator[Variant]:
    """All forms of the kernel."""
    for form in itertools.product(DTYPES, get_args(Precision), LAYOUTS, _BLOCKS):
        yield _variant(*form)


def _variant(dtype: torch.dtype, precision: Precision, layout: Layout, block: int) -> Variant:
    scalars = ("samples", "length", "entries", "pairs", "across", "relu")
    # With more samples at a time some forms would spill registers; half types need them for loads of 16 bytes.
    chunk = 16 if layout == "any" else 64 if dtype.itemsize == 2 and block == 32 else 32
    multiple = 1 if layout == "any" else WIDE // dtype.itemsize
    sizes = {"NETWORK": NETWORK, "PAIR": PAIR, "BLOCK": block, "SAMPLES": chunk, "MULTIPLE": multiple}
    form = {"DTYPE": getattr(tl, POINTEES[dtype]), "PRODUCT": PRODUCTS[precision], "LAYOUT": layout}
    signature = {"table": "*i64", "out": "*fp32"} | dict.fromkeys(scalars, "i64")
    registers = 255 if (precision, layout) == ("high", "any") else None
    return Variant(signature, sizes | form, _WARPS, _STAGES, registers)
