"""Children of two parents: which pairs are measured, and under which permutation."""

import json
import math

import numpy as np
import pytest

from fastmatch import Permutation, barrier
from fastmatch.analysis import children
from fastmatch.errors import OptionError
from tests.analysis.trained import data, module, run, spec


@pytest.fixture
def some():
    return data().take(80)


def last(seed, parent=None):
    return run(seed, parent)[24]


def test_copies_of_one_network_are_stable_and_their_permutation_aligns_them(some):
    planted = Permutation.random(spec(), 2)
    states = [last(0), last(0)]
    found = children(module(), states, [planted.apply(state) for state in states], some, planted.invert(), alphas=5)
    assert found.pairs("instability") == [(0, 1), (2, 3)]
    assert found.pairs("unaligned") == [(0, 2), (0, 3), (1, 2), (1, 3)]
    assert found.pairs("aligned") == [(0, 4), (0, 5), (1, 4), (1, 5)]
    for kind in ("instability", "aligned"):
        assert found.mean(kind, quantity="loss") == pytest.approx(0, abs=1e-6)
    assert found.mean("unaligned", quantity="loss") > 0.1


def test_means_are_those_of_the_pairs(some):
    of_a, of_b = [last(5, (0, 12)), last(6, (0, 12))], [last(7, (1, 12))]
    permutation = Permutation.random(spec(), 0)
    found = children(module(), of_a, of_b, some, permutation, alphas=3)
    apart = barrier(module(), *of_a, some, alphas=3).curves["unaligned"]["test"].error.linear
    assert found.mean("instability") == pytest.approx(apart)
    curves = [barrier(module(), a, of_b[0], some, permutation=permutation, alphas=3).curves for a in of_a]
    for kind in ("unaligned", "aligned"):
        expected = np.mean([pair[kind]["train"].loss.linear for pair in curves])
        assert found.mean(kind, split="train", quantity="loss") == pytest.approx(expected, abs=1e-6)
    json.dumps(found.to_json())


def test_an_only_child_has_no_instability_and_none_is_refused(some):
    alone = children(module(), [last(0)], [last(1)], some, Permutation.identity(spec()), alphas=2)
    assert math.isnan(alone.mean("instability"))
    with pytest.raises(OptionError, match="1 children of a and 0 of b"):
        children(module(), [last(0)], [], some, Permutation.identity(spec()))
