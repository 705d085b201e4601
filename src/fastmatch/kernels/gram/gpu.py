"""Gram matrices of all summands in one launch: each reads a and b where they lie."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import get_args

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastmatch.kernels.dispatch import DTYPES, Precision
from fastmatch.kernels.gram.plan import COLUMNS, FIELDS, HEADER, plan, shallow
from fastmatch.kernels.gram.summand import Summand
from fastmatch.kernels.launch import POINTEES, PRODUCTS, Variant, launch, processors

_BLOCKS = (32, 64)  # Units of a and of b in a program.
_WARPS, _STAGES = 8, 3  # With other numbers, some forms spill registers.
_WAVES = 2  # Programs for every multiprocessor.


@triton.jit
def _places(table, field, k, FIELD: tl.constexpr):
    """Positions ``k`` of an axis, or where they are listed at ``FIELD`` of a summand."""
    listed = k < tl.load(field + FIELD + 1)
    return tl.where(listed, tl.load(table + tl.load(field + FIELD) + k, mask=listed, other=0), k)


@triton.jit
def _tile(start, unit, units, stride, column, inside, FAST: tl.constexpr):
    """Entries [units, columns] in float32, read along the axis that lies together."""
    if FAST:
        address = start + column[:, None] + (unit * stride)[None, :]
        return tl.trans(tl.load(address, mask=inside[:, None] & (unit < units)[None, :], other=0.0).to(tl.float32))
    address = start + (unit * stride)[:, None] + column[None, :]
    return tl.load(address, mask=(unit < units)[:, None] & inside[None, :], other=0.0).to(tl.float32)


@triton.jit
def _summand(
    acc,
    table,
    field,
    begin,
    end,
    i,
    j,
    rows,
    columns,
    COLUMNS: tl.constexpr,
    DTYPE: tl.constexpr,
    PRODUCT: tl.constexpr,
    LESS: tl.constexpr,
    FAST: tl.constexpr,
):
    a = tl.load(field).to(tl.pointer_type(DTYPE))
    b = tl.load(field + 1).to(tl.pointer_type(DTYPE))
    a_unit, b_unit = tl.load(field + 2), tl.load(field + 3)
    count = tl.load(field + 4).to(tl.int32)
    n1, n2 = tl.load(field + 6).to(tl.int32), tl.load(field + 7).to(tl.int32)
    a0, a1, a2 = tl.load(field + 8), tl.load(field + 9), tl.load(field + 10)
    b0, b1, b2 = tl.load(field + 11), tl.load(field + 12), tl.load(field + 13)
    for chunk in range(begin, end):
        k = chunk * COLUMNS + tl.arange(0, COLUMNS)
        inside = k < count
        k2 = k % n2
        k1 = (k // n2) % n1
        k0 = k // (n2 * n1)
        column = _places(table, field, k0, 14) * a0 + k1 * a1 + k2 * a2
        x = _tile(a, i, rows, a_unit, column, inside, FAST)
        rest = _places(table, field, k1, 18) * b1 + _places(table, field, k2, 20) * b2
        y = _tile(b, j, columns, b_unit, _places(table, field, k0, 16) * b0 + rest, inside, FAST)
        if LESS:
            before = tl.load(table + tl.load(field + 22) + k0, mask=inside, other=0)
            y -= _tile(b, j, columns, b_unit, before * b0 + rest, inside, FAST)
        acc = tl.dot(x, tl.trans(y), acc, input_precision=PRODUCT)
    return acc


@triton.jit(do_not_specialize=["table", "out", "rows", "columns", "fields"])
def kernel(
    table,
    out,
    rows: tl.int64,
    columns: tl.int64,
    fields: tl.int64,
    HEADER: tl.constexpr,
    FIELDS: tl.constexpr,
    BLOCK: tl.constexpr,
    COLUMNS: tl.constexpr,
    DTYPE: tl.constexpr,
    PRODUCT: tl.constexpr,
    LESS: tl.constexpr,
):
    """Programs: [tiles of the matrix, splits]; ``out`` is [splits, rows, columns]. See :class:`plan.Plan`."""
    tile, split = tl.program_id(0), tl.program_id(1).to(tl.int64)
    across = tl.cdiv(columns, BLOCK)
    i = (tile // across) * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
    j = (tile % across) * BLOCK + tl.arange(0, BLOCK).to(tl.int64)
    header = table + split * HEADER
    first, last = tl.load(header).to(tl.int32), tl.load(header + 1).to(tl.int32)
    begin, end = tl.load(header + 2), tl.load(header + 3)
    acc = tl.zeros((BLOCK, BLOCK), tl.float32)
    for number in range(first, last):
        field = table + fields + number * FIELDS
        start = tl.load(field + 5)
        chunks = tl.cdiv(tl.load(field + 4), COLUMNS)
        low = (tl.maximum(begin, start) - start).to(tl.int32)
        high = (tl.minimum(end - start, chunks)).to(tl.int32)
        if tl.load(field + 23) != 0:
            acc = _summand(acc, table, field, low, high, i, j, rows, columns, COLUMNS, DTYPE, PRODUCT, LESS, True)
        else:
            acc = _summand(acc, table, field, low, high, i, j, rows, columns, COLUMNS, DTYPE, PRODUCT, LESS, False)
    address = out + (split * rows + i)[:, None] * columns + j[None, :]
    tl.store(address, acc, mask=(i < rows)[:, None] & (j < columns)[None, :])


def accumulate(total: Tensor | None, summands: Sequence[Summand], precision: Precision) -> Tensor:
    """``total`` and all products, in place; one launch for all summands of one form."""
    forms: dict[tuple[torch.dtype, bool], list[Summand]] = {}
    parts = itertools.chain.from_iterable(map(shallow, map(_alike, summands)))
    for summand in map(_alike, parts):  # what a copied summand takes off is wide
        less = any(source.less is not None for source in summand.sources)
        forms.setdefault((summand.a.dtype, less), []).append(summand)
    for (dtype, less), chosen in forms.items():
        part = _sum(chosen, dtype, precision, less)
        total = part if total is None else total.add_(part)
    assert total is not None
    return total


def _alike(summand: Summand) -> Summand:
    """Both sides of one type."""
    if summand.a.dtype == summand.b.dtype:
        return summand
    return summand._replace(a=summand.a.float(), b=summand.b.float())


def _sum(summands: Sequence[Summand], dtype: torch.dtype, precision: Precision, less: bool) -> Tensor:
    rows, columns = summands[0].units
    variant = _variant(dtype, precision, _BLOCKS[max(rows, columns) > _BLOCKS[0]], less)
    block = variant.constants["BLOCK"]
    tiles = triton.cdiv(rows, block) * triton.cdiv(columns, block)
    device = summands[0].a.device
    table, splits = plan(summands, _WAVES * processors(device) // max(1, tiles))
    out = torch.empty((splits, rows, columns), dtype=torch.float32, device=device)
    fields = HEADER * splits
    arguments = (table.to(device, non_blocking=True), out, rows, columns, fields)
    launch(kernel, variant, (tiles, splits), device, arguments)
    return out[0] if splits == 1 else out.sum(0)


def variants() -> Iterator[Variant]:
    """All forms of the kernel."""
    for form in itertools.product(DTYPES, get_args(Precision), _BLOCKS, (False, True)):
        yield _variant(*form)


def _variant(dtype: torch.dtype, precision: Precision, block: int, less: bool) -> Variant:
    signature = {"table": "*i64", "out": "*fp32"} | dict.fromkeys(("rows", "columns", "fields"), "i64")
    constants = {"HEADER": HEADER, "FIELDS": FIELDS, "BLOCK": block, "COLUMNS": COLUMNS, "LESS": less}
    return Variant(
        signature, constants | {"DTYPE": getattr(tl, POINTEES[dtype]), "PRODUCT": PRODUCTS[precision]}, _WARPS, _STAGES
    )
