"""Sinkhorn's operator and its gradient, and descent through it."""

import pytest
import torch

from fastmatch import Permutation, Split, trace, training
from fastmatch.errors import DataError, OptionError
from fastmatch.matching.sinkhorn import match_sinkhorn
from fastmatch.matching.sinkhorn_operator import sinkhorn, starting_score
from tests.problems import assert_same_state, build, example
from tests.zoo.attention import Encoder

MLP = "mlp(64, 16, 12, 10)"


def scores(size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (0.5 * torch.randn(size, size, generator=generator, dtype=torch.float64)).requires_grad_()


@pytest.mark.parametrize("tau", [1.0, 0.4])
def test_rows_and_columns_sum_to_one_and_prices_start_the_next_call(tau):
    first = scores(7)
    soft, prices = sinkhorn(first, tau=tau, tolerance=1e-12)
    for axis in (0, 1):
        torch.testing.assert_close(soft.sum(axis), torch.ones(7, dtype=torch.float64))
    again, _ = sinkhorn(first, prices, tau=tau, rounds=1)
    torch.testing.assert_close(again, soft)


@pytest.mark.parametrize("size", [1, 2, 9])
@pytest.mark.parametrize("tau", [1.0, 0.3])
def test_the_gradient_is_that_of_the_unrolled_iteration(size, tau):
    first = scores(size)
    weights = torch.randn(size, size, dtype=torch.float64)
    soft, _ = sinkhorn(first, tau=tau, rounds=2000, tolerance=1e-14)
    (implicit,) = torch.autograd.grad((soft * weights).square().sum(), first)
    logs = first / tau
    for _ in range(2000):
        logs = logs - logs.logsumexp(1, keepdim=True)
        logs = logs - logs.logsumexp(0, keepdim=True)
    (unrolled,) = torch.autograd.grad((logs.exp() * weights).square().sum(), first)
    torch.testing.assert_close(implicit, unrolled, rtol=1e-5, atol=1e-8)


def test_the_gradient_stays_finite_next_to_a_permutation():
    first = (60 * torch.eye(6)[torch.randperm(6)]).requires_grad_()
    soft, _ = sinkhorn(first)
    (gradient,) = torch.autograd.grad((soft * torch.randn(6, 6)).sum(), first)
    assert gradient.isfinite().all()
    assert gradient.abs().max() < 1e-3


def test_the_starting_score_gives_its_share():
    soft, _ = sinkhorn(starting_score(20, 0.8) * torch.eye(20))
    torch.testing.assert_close(soft.diagonal(), torch.full((20,), 0.8))


@pytest.fixture(scope="module")
def trained(digits):
    module = training.initialise(MLP, seed=0)
    training.train(module, digits, training.Recipe(epochs=20))
    return module.eval(), trace(module, example(MLP)), module.state_dict()


def test_a_start_that_misses_units_is_mended(trained, digits):
    module, spec, a = trained
    planted = Permutation.random(spec, 1)
    truth = planted.invert()
    start = {name: index.copy() for name, index in truth.indices.items()}
    for index in start.values():
        index[:3] = index[[1, 2, 0]]
    start = Permutation(spec, start)
    match = match_sinkhorn(spec, module, a, planted.apply(a), digits.train, start=start, steps=150)
    assert start != truth
    assert match.permutation == truth
    assert match.method == "sinkhorn"
    assert match.measure == "loss"
    assert match.objective_after == min(match.midpoints.values()) < match.midpoints["start"]


def test_a_random_alpha_keeps_what_it_cannot_improve(trained, digits):
    module, spec, a = trained
    planted = Permutation.random(spec, 1)
    match = match_sinkhorn(spec, module, a, planted.apply(a), digits.train, loss="random", steps=20)
    assert match.permutation == planted.invert()
    assert match.method == "sinkhorn_random"
    assert match.midpoints["sinkhorn_random"] == match.midpoints["start"]


def test_planted_permutations_are_recovered_without_a_start(digits):
    model = "resnet20(width=1, norm=batch, in_channels=1, size=8)"
    module = build(model)
    spec, a = trace(module, example(model)), module.state_dict()
    planted = Permutation.random(spec, 1)
    match = match_sinkhorn(spec, module, a, planted.apply(a), digits.train.take(200), steps=2)
    assert match.permutation == planted.invert()


def test_the_start_is_kept_where_nothing_is_better_and_the_same_seed_gives_the_same(trained, digits):
    module, spec, a = trained
    told = []
    first, second = (
        match_sinkhorn(
            spec,
            module,
            a,
            a,
            digits.train,
            start=Permutation.identity(spec),
            steps=3,
            seed=4,
            progress=lambda *state: told.append(state),
        )
        for _ in range(2)
    )
    assert first.permutation == Permutation.identity(spec) == second.permutation
    assert first.midpoints == second.midpoints
    assert told[:3] == [(1, 3), (2, 3), (3, 3)]


def test_heads_keep_the_order_of_the_start():
    torch.manual_seed(0)
    module = Encoder(norm_first=True, layers=1).eval()
    inputs = torch.randn(40, 4, 5)
    spec, a = trace(module, (inputs[:2],)), module.state_dict()
    start = Permutation.random(spec, 1)
    data = Split(inputs, torch.randint(3, (40,)))
    match = match_sinkhorn(spec, module, a, start.invert().apply(a), data, start=start, steps=2)
    assert_same_state(match.permutation.apply(start.invert().apply(a)), dict(a))
    assert "in the order of the start" in match.notes[0]


def test_bad_options_and_data_are_refused(trained, digits):
    module, spec, a = trained
    with pytest.raises(OptionError, match="choose midpoint or random"):
        match_sinkhorn(spec, module, a, a, digits.train, loss="sum")
    with pytest.raises(OptionError, match="steps must be at least 1"):
        match_sinkhorn(spec, module, a, a, digits.train, steps=0)
    with pytest.raises(DataError, match="too few"):
        match_sinkhorn(spec, module, a, a, digits.train.take(3))
