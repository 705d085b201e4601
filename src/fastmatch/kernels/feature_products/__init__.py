"""Inner products of the features that several networks have of the same examples."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fastmatch.kernels.dispatch import Implementation, choose
from fastmatch.kernels.feature_products import reference

__all__ = ["feature_products"]

_LIMIT = 8  # Tensors at once.


def feature_products(values: Sequence[Tensor], *, implementation: Implementation = "auto") -> Tensor:
    """``result[n, i, j] = <values[i][n], values[j][n]>``: a Gram matrix of feature vectors for every example.

    One pass over the features gives all that layerwise linear feature connectivity is made of: cosines and ratios of
    norms between features of interpolated networks, of their ends, and (by linearity) of interpolated features.

    Parameters
    ----------
    values
        One to eight tensors [examples, ...features] of one shape and type, any strides, float32, float16 or bfloat16
        (the reference: float64 too).
    implementation
        See :func:`fastmatch.kernels.choose`.

    Returns
    -------
    Tensor
        Shape [examples, values, values], float64. Products are added up in float32 over the features that one lane of
        a kernel reads, and in float64 over lanes; the reference adds them up in float64.

    Raises
    ------
    ValueError
        The number of tensors, their shapes or types do not fit.
    OptionError
        ``implementation`` is unknown or cannot run.

    References
    ----------
    Zhou et al. 2023, section 4 (definition 2).
    """
    if not 1 <= len(values) <= _LIMIT:
        raise ValueError(f"feature_products takes 1 to {_LIMIT} tensors, received {len(values)}")
    if len({(value.shape, value.dtype) for value in values}) > 1 or values[0].dim() == 0:
        found = ", ".join(f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}" for value in values)
        raise ValueError(f"feature_products takes tensors [examples, ...] of one shape and type, received {found}")
    if choose(values, implementation).implementation == "gpu":
        from fastmatch.kernels.feature_products import gpu

        return gpu.feature_products(values)
    return reference.feature_products(values)
