"""Weight matching, one algorithm and one pair of networks at a time."""

from __future__ import annotations

import os

import pytest

from benchmarks.pairs import PAIRS
from benchmarks.timing import cores
from fastmatch import match_weights
from fastmatch.matching.reference import match_weights_plainly

NAMES = list(PAIRS) if os.environ.get("FASTMATCH_BENCHMARKS") == "all" else ["MLP 512x3", "ResNet-20 x1"]


@pytest.mark.parametrize("algorithm", [match_weights_plainly, match_weights])
@pytest.mark.parametrize("name", NAMES)
def test_weights(benchmark, name, algorithm):
    spec, a, b = PAIRS[name].make()
    benchmark.group = name
    with cores(1):
        benchmark.pedantic(algorithm, (spec, a, b), {"seed": 0}, rounds=3, warmup_rounds=1)
