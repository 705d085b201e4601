from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from fastmatch.analysis import single_linkage
from fastmatch.errors import OptionError


def distances(count, seed):
    matrix = np.random.default_rng(seed).random((count, count))
    return matrix + matrix.T


def components(matrix, threshold):
    """Connected components by walking the graph."""
    labels, count = np.full(len(matrix), -1), 0
    for start in range(len(matrix)):
        if labels[start] < 0:
            queue = [start]
            while queue:
                here = queue.pop()
                if labels[here] < 0:
                    labels[here] = count
                    queue += [j for j in range(len(matrix)) if j != here and matrix[here, j] <= threshold]
            count += 1
    return labels


@pytest.mark.parametrize("count", [2, 3, 9])
@pytest.mark.parametrize("seed", [0, 1])
def test_labels_at_every_threshold_are_the_connected_components(count, seed):
    matrix = distances(count, seed)
    found = single_linkage(matrix)
    for threshold in (-1.0, *np.unique(matrix), *(np.unique(matrix) + 1e-9)):
        np.testing.assert_array_equal(found.labels(threshold), components(matrix, threshold))


@pytest.mark.parametrize("seed", [0, 1])
def test_the_connecting_threshold_is_the_smallest_that_leaves_one_cluster(seed):
    matrix = distances(8, seed)
    heights = np.unique(matrix[np.triu_indices(8, 1)])
    assert single_linkage(matrix).connecting == min(h for h in heights if components(matrix, h).max() == 0)


def test_the_order_keeps_clusters_together():
    blocks = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], 4))
    matrix = np.where(blocks[:, None] == blocks, 0.1, 1.0) + 0.01 * distances(12, 0)
    found = single_linkage(matrix)
    assert sorted(found.order) == list(range(12))
    assert len(list(itertools.groupby(blocks[found.order]))) == 3
    assert json.loads(json.dumps(found.to_json()))["connecting"] == found.connecting


def test_rounding_is_no_asymmetry_and_no_negative_distance():
    matrix = np.array([[0, -1e-16, 1], [1e-16, 0, 1 + 1e-15], [1, 1, 0]])
    assert single_linkage(matrix).merges[:, 2].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((2, 3)), "shape"),
        (np.zeros((1, 1)), "from 2"),
        ([[0, np.nan], [np.nan, 0]], "distance of 0 and 1 is nan"),
        ([[0, 1], [2, 0]], "differ with their order"),
        ([[0, -1], [-1, 0]], "is -1.0; use 0 or above"),
    ],
)
def test_matrices_that_have_no_clusters_are_refused(matrix, message):
    with pytest.raises(OptionError, match=message):
        single_linkage(matrix)
