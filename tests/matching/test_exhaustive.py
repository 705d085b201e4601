"""Exhaustive search: the least barrier of all, against every permutation in full and against every other method."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from fastmatch import METHODS, Pair, Permutation, barriers, evaluate, load_data, match, trace, training
from fastmatch.data import DataSet, Split
from fastmatch.errors import OptionError, PermutationError
from fastmatch.matching import match_exhaustive
from tests.matching.test_annealing import Attention

CASES = {"moons": "mlp(2, 7, 2)", "digits": "mlp(64, 4, 4, 10)"}


@pytest.fixture(scope="module", params=CASES)
def small(request):
    """A pair of small trained networks, and the barrier of the loss on its training examples."""
    data, model = load_data(request.param), CASES[request.param]
    states = []
    for seed in (0, 1):
        module = training.initialise(model, seed=seed)
        training.train(module, data.take(400), training.Recipe(lr=1e-2, epochs=60, batch_size=16, order_seed=seed))
        states.append(module.state_dict())
    examples = data.train.take(200)
    pair = Pair(trace(module, (examples.inputs[:2],)), *states, module.eval(), examples)

    def height(permutation):
        both = DataSet("some", examples, examples.take(2), data.classes, (0.0,), (1.0,))
        found = barriers(module, states, both, permutations={(0, 1): permutation}, alphas=25)
        return float(found.matrix(split="train")[0, 1])

    return pair, height


@pytest.fixture(scope="module")
def lowest(small):
    """Exact minimum of the barrier."""
    return match(small[0], "exhaustive")


def test_it_reports_the_barrier_of_what_it_found(small, lowest):
    assert lowest.objective_after == pytest.approx(small[1](lowest.permutation), abs=2e-6)
    assert lowest.objective_before == pytest.approx(small[1](Permutation.identity(small[0].spec)), abs=2e-6)


def test_no_other_permutation_is_lower(small, lowest):
    spec = small[0].spec
    orders = [itertools.permutations(range(group.size)) for group in spec.groups]
    every = list(itertools.product(*orders))
    for number in np.random.default_rng(0).choice(len(every), 25, replace=False):
        names = [group.name for group in spec.groups]
        indices = {name: np.array(order) for name, order in zip(names, every[number], strict=True)}
        assert small[1](Permutation(spec, indices)) >= lowest.objective_after - 2e-6


@pytest.mark.parametrize("method", [name for name in METHODS if name != "exhaustive"])
def test_no_method_is_below_it(method, small, lowest):
    options = {"steps": 50} if "steps" in METHODS[method].options else {}
    assert small[1](match(small[0], method, **options).permutation) >= lowest.objective_after - 2e-6


def test_annealing_reaches_it(small, lowest):
    found = match(small[0], "annealing_barrier", steps=800)
    assert found.objective_after == pytest.approx(lowest.objective_after, abs=2e-6)


def test_a_planted_permutation_is_found(small):
    pair = small[0]
    planted = Permutation.random(pair.spec, 3)
    found = match_exhaustive(pair.spec, pair.module, pair.a, planted.apply(pair.a), pair.data)
    assert found.objective_before > 0.05
    assert found.objective_after == pytest.approx(0.0, abs=1e-6)
    both = [pair.a, found.permutation.apply(planted.apply(pair.a))]  # units that do next to nothing may stand anywhere
    losses = evaluate(pair.module, both, np.array([[1, 0], [0.5, 0.5], [0.3, 0.7]]), pair.data).losses
    np.testing.assert_allclose(losses[1:], np.stack([losses[0]] * 2), atol=1e-3)


def test_networks_that_are_no_chains():
    states = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        states.append(Attention(4).state_dict())
    data = Split(torch.randn(20, 5, 4), torch.randint(3, (20,)))
    spec = trace(Attention(4).eval(), (data.inputs[:2],))
    found = match_exhaustive(spec, Attention(4).eval(), *states, data, alphas=3)
    assert found.objective_after <= found.objective_before


def test_too_many_permutations_are_refused(small):
    module = training.initialise("mlp(64, 10, 10)", seed=0)
    spec = trace(module.eval(), (torch.randn(2, 64),))
    state = module.state_dict()
    with pytest.raises(OptionError, match="more than 1,000,000 permutations"):
        match_exhaustive(spec, module, state, state, small[0].data)
    module = training.initialise("mlp(64, 512, 10)", seed=0)
    spec, state = trace(module.eval(), (torch.randn(2, 64),)), module.state_dict()
    with pytest.raises(OptionError, match="more than 1,000,000 permutations"):  # a float holds 170! at most
        match_exhaustive(spec, module, state, state, small[0].data)
    pair = small[0]
    broken = dict(pair.a) | {"linear1.bias": pair.a["linear1.bias"] * torch.nan}
    with pytest.raises(PermutationError, match="network a holds NaN"):
        match_exhaustive(pair.spec, pair.module, broken, pair.b, pair.data)
