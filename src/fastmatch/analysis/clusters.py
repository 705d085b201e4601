"""Clusters of networks by the barriers between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastmatch.errors import OptionError

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Clusters:
    """Single-linkage clusters of a matrix of distances, at every threshold at once.

    Attributes
    ----------
    merges
        Shape [networks - 1, 4], as scipy's linkage: the two clusters joined, the distance at which they are, and how
        many networks they hold together; clusters from ``networks`` on are those of earlier rows.
    order
        Numbers of the networks in the order of the dendrogram's leaves, int64: reorders the matrix.
    """

    merges: np.ndarray
    order: np.ndarray

    @property
    def connecting(self) -> float:
        """Lowest threshold at which all networks are one cluster."""
        return float(self.merges[-1, 2])

    def labels(self, threshold: float) -> np.ndarray:
        """Cluster of each network where distances up to ``threshold`` connect, int64 from 0, in order of appearance."""
        parent = list(range(2 * len(self.merges) + 1))
        for row, (first, second, distance, _) in enumerate(self.merges):
            if distance <= threshold:
                parent[int(first)] = parent[int(second)] = len(self.order) + row
        for child in reversed(range(len(parent))):  # parents have larger numbers than their children
            parent[child] = parent[parent[child]]
        _, first_seen, places = np.unique(parent[: len(self.order)], return_index=True, return_inverse=True)
        return np.argsort(np.argsort(first_seen))[places]

    def to_json(self) -> dict[str, Any]:
        """Plain data: merges, order, and the threshold at which all are connected."""
        return {"merges": self.merges.tolist(), "order": self.order.tolist(), "connecting": self.connecting}


def single_linkage(distances: ArrayLike) -> Clusters:
    """Hierarchical clusters in which two clusters are as far apart as their closest members.

    Two networks share a cluster at a threshold where a chain of networks leads from the one to the other and no
    distance on it is larger; a barrier need not obey the triangle inequality for that (Kalaivanan 2023, section 4.2).

    Parameters
    ----------
    distances
        Shape [networks, networks], symmetric; barriers such as :meth:`fastmatch.Barriers.matrix` returns, or one minus
        a similarity. The diagonal plays no part; rounding may make pairs differ with their order, or fall below 0.

    Raises
    ------
    OptionError
        The matrix is not square and symmetric, of fewer than two networks, or holds NaN, infinity or negative values.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage

    matrix = np.asarray(distances, dtype=np.float64).copy()
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise OptionError(f"received a matrix of shape {matrix.shape}; clusters need one of all pairs, from 2")
    np.fill_diagonal(matrix, 0.0)
    if len(bad := np.argwhere(~np.isfinite(matrix))):
        raise OptionError(f"the distance of {bad[0][0]} and {bad[0][1]} is {matrix[tuple(bad[0])]}; clusters need all")
    if len(bad := np.argwhere(~np.isclose(matrix, matrix.T, rtol=_ROUNDING, atol=_ROUNDING))):
        raise OptionError(f"the distances of {bad[0][0]} and {bad[0][1]} differ with their order; clusters need one")
    if len(bad := np.argwhere(matrix < -_ROUNDING)):
        raise OptionError(f"the distance of {bad[0][0]} and {bad[0][1]} is {matrix[tuple(bad[0])]}; use 0 or above")
    matrix = np.maximum((matrix + matrix.T) / 2, 0.0)
    merges = linkage(matrix[np.triu_indices(len(matrix), 1)], method="single")
    return Clusters(merges, leaves_list(merges).astype(np.int64))
