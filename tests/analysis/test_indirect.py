import numpy as np
import pytest

from fastmatch.analysis import indirect_barriers
from fastmatch.errors import OptionError


def symmetric(entries, count):
    matrix = np.zeros((count, count))
    matrix[np.triu_indices(count, 1)] = entries
    return matrix + matrix.T


def test_the_best_third_network_is_the_one_whose_larger_barrier_is_smallest():
    #   pairs       01   02   03   12   13   23
    direct = symmetric([9.0, 1.0, 4.0, 2.0, 3.0, 7.0], 4)
    found = indirect_barriers(direct)
    assert found[0, 1] == 2.0  # by 2: max(1, 2); by 3: max(4, 3)
    assert found[0, 2] == 7.0  # by 1: max(9, 2); by 3: max(4, 7)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_array_equal(np.diag(found), 0)


@pytest.mark.parametrize("seed", range(3))
def test_it_agrees_with_a_search_over_all_third_networks(seed):
    count = 7
    direct = symmetric(np.random.default_rng(seed).random(21), count)
    found = indirect_barriers(direct)
    for i in range(count):
        for j in set(range(count)) - {i}:
            thirds = set(range(count)) - {i, j}
            assert found[i, j] == min(max(direct[i, k], direct[k, j]) for k in thirds)


def test_no_path_leads_over_a_pair_that_was_not_measured():
    direct = symmetric([1.0, np.nan, 2.0], 3)
    found = indirect_barriers(direct)
    assert found[0, 2] == 2.0
    assert np.isnan(found[0, 1])


def test_an_infinite_barrier_is_measured():
    found = indirect_barriers(symmetric([1.0, np.inf, 2.0], 3))
    assert found[0, 1] == found[1, 0] == np.inf
    assert found[0, 2] == 2.0


@pytest.mark.parametrize("matrix", [np.zeros((2, 2)), np.zeros((3, 4)), np.zeros(3)])
def test_other_than_a_square_of_three_networks_is_refused(matrix):
    with pytest.raises(OptionError, match="all pairs"):
        indirect_barriers(matrix)
