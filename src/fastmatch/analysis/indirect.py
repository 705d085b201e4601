"""Barriers by way of a third network."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastmatch.errors import OptionError


def indirect_barriers(barriers: ArrayLike) -> np.ndarray:
    """For each pair, the smallest over all third networks of the larger of the two barriers on the way.

    A small indirect barrier says that a path of two segments connects the pair (Entezari et al. 2022, appendix E.3).

    Parameters
    ----------
    barriers
        Barriers of all pairs, shape [networks, networks], such as :meth:`fastmatch.interpolation.Barriers.matrix`
        returns. NaN is a barrier that was not measured: no path leads over it. An infinite one is measured.

    Returns
    -------
    ndarray
        float64, shape [networks, networks]: 0 on the diagonal, NaN where no third network was measured with both.

    Raises
    ------
    OptionError
        The matrix is not square, or of fewer than three networks.
    """
    matrix = np.array(barriers, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 3:
        raise OptionError(f"received a matrix of shape {matrix.shape}; indirect barriers need one of all pairs, from 3")
    measured = ~np.isnan(matrix)
    np.fill_diagonal(measured, False)  # neither end is a third network
    direct = np.where(measured, matrix, np.inf)
    found = np.stack([np.maximum(direct[i], direct.T).min(1) for i in range(len(direct))])
    found[~(measured @ measured)] = np.nan
    np.fill_diagonal(found, 0.0)
    return found
