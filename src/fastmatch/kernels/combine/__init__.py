"""Linear combinations of networks, given as flat parameter sets."""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from fastmatch.kernels.combine import reference
from fastmatch.kernels.dispatch import Implementation, choose

__all__ = ["combine"]


def combine(
    sets: Tensor,
    coefficients: Tensor | ArrayLike,
    *,
    dtype: torch.dtype | None = None,
    implementation: Implementation = "auto",
) -> Tensor:
    """``result[k] = sum_m coefficients[k, m] * sets[m]``: all points of a segment or a simplex in one launch.

    A coefficient of 0 leaves its set out, whatever it holds, and a lone 1 copies its set, so ends of a segment are
    exact.

    Parameters
    ----------
    sets
        Shape [networks, parameters], any strides, float32, float16 or bfloat16 (the reference: float64 too).
    coefficients
        Shape [combinations, networks].
    dtype
        Type of the result, that of the evaluation to come; the sets' own, or float32 for half types, if None.
    implementation
        See :func:`fastmatch.kernels.choose`; only the reference returns float64.

    Returns
    -------
    Tensor
        Shape [combinations, parameters], added up in float32, or in float64 if it or the sets are float64.

    Raises
    ------
    ValueError
        The shapes do not fit.
    OptionError
        ``implementation`` is unknown or cannot run.
    """
    rows = torch.as_tensor(coefficients)
    if sets.dim() != 2 or rows.dim() != 2 or rows.shape[1] != len(sets):
        raise ValueError(
            f"sets {tuple(sets.shape)} and coefficients {tuple(rows.shape)} do not fit; "
            "give [networks, parameters] and [combinations, networks]"
        )
    result = dtype or torch.promote_types(sets.dtype, torch.float32)
    if choose([sets, torch.empty(0, dtype=result, device=sets.device)], implementation).implementation == "gpu":
        from fastmatch.kernels.combine import gpu

        return gpu.combine(sets, rows, result)
    return reference.combine(sets, rows, result)
