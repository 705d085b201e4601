"""Planted permutations: permute a network at random, and get the permutation back exactly."""

import pytest

from fastmatch import Permutation, match_activations, match_weights, trace
from tests.problems import MODELS, build, example

SEEDS = range(20)
FEW = range(5)  # Activation matching exports the network each time.


@pytest.fixture(scope="module", params=MODELS)
def network(request):
    """Model string and spec, traced once for all seeds."""
    return request.param, trace(build(request.param), example(request.param))


def plant(model, spec, seed):
    module = build(model, seed)
    planted = Permutation.random(spec, seed + 1000)
    return module, module.state_dict(), planted.apply(module.state_dict()), planted.invert()


@pytest.mark.parametrize("seed", SEEDS)
def test_weight_matching_recovers_the_permutation(network, seed):
    model, spec = network
    _, a, b, expected = plant(model, spec, seed)
    match = match_weights(spec, a, b, seed=seed)
    assert match.permutation == expected
    assert match.status == "converged"


@pytest.mark.parametrize("seed", FEW)
def test_activation_matching_recovers_the_permutation(network, digits, seed):
    model, spec = network
    module, a, b, expected = plant(model, spec, seed)
    match = match_activations(spec, module, a, b, _inputs(model, digits))
    assert match.permutation == expected


def _inputs(model, digits):
    """Digits, enlarged where the network wants larger images."""
    import torch.nn.functional as F

    from fastmatch import Split

    split = digits.train.take(300)
    return Split(F.pad(split.inputs, (2, 2, 2, 2)), split.labels) if "size=12" in model else split
