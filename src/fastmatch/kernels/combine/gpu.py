"""All combinations in one launch: a program forms its block of every row, and finds the sets in the cache after one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastmatch.kernels.dispatch import DTYPES
from fastmatch.kernels.launch import TYPES, Variant, launch

_BLOCK = 1024  # Parameters of a program.
_WIDE = 16  # Bytes that a thread loads or stores at once.


@triton.jit(do_not_specialize=["sets", "coefficients", "result", "combinations", "networks", "parameters", "stride"])
def kernel(
    sets,
    coefficients,
    result,
    combinations: tl.int64,
    networks: tl.int64,
    parameters: tl.int64,
    stride: tl.int64,
    BLOCK: tl.constexpr,
    ALIGNED: tl.constexpr,
):
    """Programs: [blocks of parameters].

    ``sets`` is [networks, parameters] with ``stride`` from one row to the next, ``coefficients`` [combinations,
    networks] and ``result`` [combinations, parameters]; ``ALIGNED`` if all rows start at multiples of 16
    bytes and ``parameters`` is a multiple of 8.
    """
    # Tells the compiler that 8 divides it: a hint on an argument would be lost.
    end = parameters // 8 * 8 if ALIGNED else parameters
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    for row in range(0, combinations):
        # Adding to -0 keeps the sign of every zero.
        total = tl.full((BLOCK,), -0.0, tl.float32)
        weight = tl.zeros((), tl.float32)
        for number in range(0, networks):
            coefficient = tl.load(coefficients + row * networks + number)
            weight += tl.abs(coefficient)
            start = sets + number * stride
            if ALIGNED:
                start = tl.multiple_of(start, 16)
            # A set with coefficient 0 is not read.
            values = tl.load(start + place, mask=place < tl.where(coefficient == 0, 0, end), other=0.0).to(tl.float32)
            total = tl.where(coefficient == 0, total, total + coefficient * values)
        out = result + row * parameters
        if ALIGNED:
            out = tl.multiple_of(out, 16)
        # The rows of the result would drive the sets, read again for every row, out of the cache.
        value = tl.where(weight == 0, 0.0, total).to(result.dtype.element_ty)
        tl.store(out + place, value, mask=place < end, cache_modifier=".cs")


def combine(sets: Tensor, coefficients: Tensor, dtype: torch.dtype) -> Tensor:
    """See :func:`fastmatch.kernels.combine`."""
    networks, parameters = sets.shape
    if parameters > 1 and sets.stride(1) != 1:
        sets = sets.contiguous()
    result = torch.empty((len(coefficients), parameters), dtype=dtype, device=sets.device)
    # A copy from pageable memory is staged before this returns, and need not wait for the device.
    rows = coefficients.to(torch.float32).contiguous().to(sets.device, non_blocking=True)
    variant = _variant(sets.dtype, dtype, is_aligned(sets) and is_aligned(result))
    grid = (triton.cdiv(parameters, _BLOCK),)
    arguments = (sets, rows, result, len(coefficients), networks, parameters, sets.stride(0))
    launch(kernel, variant, grid, sets.device, arguments)
    return result


def is_aligned(matrix: Tensor) -> bool:
    """Whether all rows start at multiples of 16 bytes, and hold whole vectors of the widest form."""
    stride = matrix.stride(0) * matrix.element_size() if len(matrix) > 1 else 0
    return matrix.shape[1] % 8 == 0 and matrix.data_ptr() % _WIDE == 0 and stride % _WIDE == 0


def variants() -> Iterator[Variant]:
    """All forms of the kernel."""
    for given, returned, aligned in itertools.product(DTYPES, DTYPES, (False, True)):
        yield _variant(given, returned, aligned)


def _variant(given: torch.dtype, returned: torch.dtype, aligned: bool) -> Variant:
    pointers = {"sets": f"*{TYPES[given]}", "coefficients": "*fp32", "result": f"*{TYPES[returned]}"}
    scalars = dict.fromkeys(("combinations", "networks", "parameters", "stride"), "i64")
    # Every thread has one vector of the narrower type.
    warps = _BLOCK * min(given.itemsize, returned.itemsize) // _WIDE // 32
    return Variant(pointers | scalars, {"BLOCK": _BLOCK, "ALIGNED": aligned}, warps=warps)
