"""Restarts of weight matching: descents that begin in noise."""

import numpy as np
import pytest
import torch

from fastmatch import Permutation, match_weights, trace
from fastmatch.matching.noisy import NoisyDescent
from fastmatch.matching.outcome import run
from fastmatch.matching.problem import Problem
from tests.matching.test_weights import MODELS, pair
from tests.problems import assert_same_state
from tests.zoo.attention import Encoder


@pytest.mark.parametrize("model", [MODELS[0], MODELS[3]])
def test_more_restarts_go_on_where_fewer_ended(model):
    spec, a, b = pair(model, noise=6)
    found = [match_weights(spec, a, b, seed=2, restarts=count) for count in (1, 2, 4)]
    assert found[2].restarts[:1] == found[0].restarts
    assert found[2].restarts[:2] == found[1].restarts
    assert [match.objective_after for match in found] == [max(match.restarts) for match in found]
    assert match_weights(spec, a, b, seed=2, restarts=4).restarts == found[2].restarts
    assert match_weights(spec, a, b, seed=3, restarts=4).restarts != found[2].restarts


def test_noise_finds_what_many_plain_starts_do_not():
    spec, a, b = pair("resnet20(width=1, norm=layer, in_channels=1, size=8)", noise=8)
    plain = [
        match_weights(spec, a, b, seed=seed, start=Permutation.random(spec, seed)).objective_after for seed in range(10)
    ]
    assert match_weights(spec, a, b, restarts=3).objective_after > max(plain)


def test_the_result_is_a_local_optimum():
    spec, a, b = pair(MODELS[0], noise=6)
    match = match_weights(spec, a, b, restarts=2)
    assert match.status == "converged"
    assert match_weights(spec, a, b, start=match.permutation).permutation == match.permutation


def test_groups_within_groups_are_shaken_with_them():
    torch.manual_seed(0)
    module = Encoder(norm_first=False).eval()
    spec, a = trace(module, (torch.randn(2, 4, 5),)), module.state_dict()
    b = Permutation.random(spec, 1).apply(a)
    problem = Problem(spec, a, b)
    descent = NoisyDescent(problem, np.random.default_rng(0), spec.random(4), 1 << 28, None, 0.3)
    before = dict(descent.indices)
    for group in problem.groups.values():
        if group.name not in problem.terms:
            descent._shake_jointly(group, 5.0)
    assert any(not np.array_equal(before[name], index) for name, index in descent.indices.items())
    Permutation(spec, descent.indices)  # still permutations
    with torch.no_grad():
        run(descent)
    assert_same_state(spec.permute(b, descent.indices), dict(a))
