"""Linear combinations by torch."""

from __future__ import annotations

import torch
from torch import Tensor


def combine(sets: Tensor, coefficients: Tensor, dtype: torch.dtype) -> Tensor:
    """See :func:`fastmatch.kernels.combine`."""
    wide = torch.promote_types(torch.promote_types(sets.dtype, dtype), torch.float32)
    result = torch.zeros(len(coefficients), sets.shape[1], dtype=wide, device=sets.device)
    for row, weights in zip(result, coefficients.to(wide).tolist(), strict=True):
        terms = [(weight, values) for weight, values in zip(weights, sets, strict=True) if weight != 0]
        for number, (weight, values) in enumerate(terms):
            if number:
                row.add_(values, alpha=weight)
            else:
                # Not added to the zeros: they would take the sign of a negative zero.
                row.copy_(values).mul_(weight)
    return result.to(dtype)
