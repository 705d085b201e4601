"""Moments of one batch by torch."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from fastmatch.kernels.moments.batch import Batch


def moments(batch: Batch, shifts: Sequence[Tensor]) -> Tensor:
    """Sums, squares and cross products of a batch less ``shifts`` ([units] of each network), float64.

    Shape [entries], in the order of :attr:`Batch.sizes`. Products are of the values' own type, float32 at least.
    """
    dtype = functools.reduce(torch.promote_types, (value.dtype for value in batch.values), torch.float32)
    shifted = [_shifted(batch, value, shift, dtype) for value, shift in zip(batch.values, shifts, strict=True)]
    parts = []
    for value in shifted:
        parts += [value.sum(1, dtype=torch.float64), (value * value).sum(1, dtype=torch.float64)]
    parts += [(shifted[first] @ shifted[second].T).double().reshape(-1) for first, second in batch.pairs]
    return torch.cat(parts)


def _shifted(batch: Batch, value: Tensor, shift: Tensor, dtype: torch.dtype) -> Tensor:
    flat = batch.moved(value).reshape(len(shift), batch.samples).to(dtype)
    return (flat.relu() if batch.relu else flat) - shift.to(flat)[:, None]
