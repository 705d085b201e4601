"""Gram matrices: similarities of the units of two networks as sums over parameters."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def gram(pairs: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Sum of ``a @ b.T`` over pairs of matrices.

    Parameters
    ----------
    pairs
        At least one pair of shapes [n, k] and [n, k], any floating type; k may differ from pair to pair.

    Returns
    -------
    Tensor
        Shape [n, n], float32 or, for float64 input, float64: half types are widened before the product.

    References
    ----------
    Ainsworth et al. 2023, section 3.2; Sharma et al. 2024, appendix A.
    """
    total: Tensor | None = None
    for a, b in pairs:
        dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
        a, b = a.to(dtype), b.to(dtype)
        total = a @ b.T if total is None else total.addmm_(a, b.T)
    if total is None:
        raise ValueError("gram needs at least one pair of matrices")
    return total
