"""Gram matrices: similarities of the units of two networks as sums over parameters."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from torch import Tensor

from fastmatch.kernels.dispatch import Implementation, Precision, check_precision, choose, favour_library
from fastmatch.kernels.gram import reference
from fastmatch.kernels.gram.summand import Source, Summand

__all__ = ["Source", "Summand", "gram", "gram_update"]

Pair = tuple[Tensor, Tensor]


def gram(
    summands: Iterable[Summand | Pair], *, precision: Precision = "highest", implementation: Implementation = "auto"
) -> Tensor:
    """``G[i, j] = sum_s sum_k a_s[i, k] b_s[j, p_s(k)]``: how alike unit i of a and unit j of b are.

    On a GPU all summands are read where they lie and summed in one launch; the other axes' permutations are applied
    while loading. The reference reads summands one at a time, so that they may be loaded as they come.

    Parameters
    ----------
    summands
        At least one, of any floating type; the columns k may differ from one to the next. A pair of matrices
        [units, columns] is a summand.
    precision
        Of the products on a GPU: ``"highest"`` float32, ``"high"`` three-term tf32, ``"fast"`` tf32; at least that.
    implementation
        See :func:`fastmatch.kernels.choose`.

    Returns
    -------
    Tensor
        Shape [units of a, units of b], float32 or, for float64 input, float64: half types are widened before the
        product.

    Raises
    ------
    ValueError
        There is no summand, or shapes or sources do not fit.
    IndexError, RuntimeError
        A source names a position that is not there.
    OptionError
        ``precision`` or ``implementation`` is unknown, or cannot run.

    References
    ----------
    Ainsworth et al. 2023, section 3.2; Sharma et al. 2024, appendix A.
    """
    result = _accumulate(None, summands, precision, implementation)
    if result is None:
        raise ValueError("gram needs at least one summand")
    return result


def gram_update(
    total: Tensor,
    summands: Iterable[Summand | Pair],
    *,
    precision: Precision = "highest",
    implementation: Implementation = "auto",
) -> Tensor:
    """Add summands to a Gram matrix, in place if it is wide enough, as when only some columns have moved.

    The difference that moved columns make is a summand whose source has ``a``, ``b`` and ``less``: their places, where
    they come from and where they came from.

    Parameters
    ----------
    total
        Shape [units of a, units of b], float32 or float64.
    summands, precision, implementation
        As for :func:`gram`; there may be none.
    """
    result = _accumulate(total, summands, precision, implementation)
    return total if result is None else result


def _accumulate(
    total: Tensor | None, summands: Iterable[Summand | Pair], precision: Precision, implementation: Implementation
) -> Tensor | None:
    check_precision(precision)
    rest = _checked(total, summands)
    first = next(rest, None)
    if first is None:
        return total
    found: Iterable[Summand] = itertools.chain([first], rest)
    if implementation == "gpu" or (implementation == "auto" and first.a.device.type != "cpu"):
        found = list(found)
        tensors = [side for summand in found for side in (summand.a, summand.b)]
        if choose(tensors, implementation, favour_library(first.units[0], precision)).implementation == "gpu":
            from fastmatch.kernels.gram import gpu

            return gpu.accumulate(total, found, precision)
    else:
        choose([first.a, first.b], implementation)
    return reference.accumulate(total, found)


def _checked(total: Tensor | None, summands: Iterable[Summand | Pair]) -> Iterator[Summand]:
    shape = None if total is None else tuple(total.shape)
    for summand in itertools.starmap(Summand, summands):
        summand.check()
        shape = summand.units if shape is None else shape
        if summand.units != shape:
            raise ValueError(f"a sum of {shape[0]} x {shape[1]} units cannot take {summand.units}")
        yield summand
