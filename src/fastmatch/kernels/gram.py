"""Gram matrices: similarities of the units of two networks as sums over parameters."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

_SMALL = 1 << 15  # Entries up to which it is cheaper to join pairs to one product than to pass over the sum for each.


def gram(pairs: Iterable[tuple[Tensor, Tensor]], total: Tensor | None = None) -> Tensor:
    """Sum of ``a @ b.T`` over pairs of matrices.

    Parameters
    ----------
    pairs
        Shapes [n, k] and [n, k], any floating type; k may differ from pair to pair.
    total
        Shape [n, n], float32 or float64: a sum so far, which is added to, in place if it is wide enough. Without it
        there must be a pair.

    Returns
    -------
    Tensor
        Shape [n, n], float32 or, for float64 input, float64: half types are widened before the product.

    References
    ----------
    Ainsworth et al. 2023, section 3.2; Sharma et al. 2024, appendix A.
    """
    small: list[tuple[Tensor, Tensor]] = []
    for a, b in pairs:
        if a.numel() <= _SMALL:
            small.append((a, b))
        else:
            total = _add(total, a, b)
    if len(small) == 1:
        total = _add(total, *small[0])
    elif small:
        total = _add(total, *(torch.cat(side, dim=1) for side in zip(*small, strict=True)))
    if total is None:
        raise ValueError("gram needs at least one pair of matrices")
    return total


def _add(total: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32 if total is None else total.dtype)
    a, b = a.to(dtype), b.to(dtype)
    return a @ b.T if total is None else total.to(dtype).addmm_(a, b.T)
