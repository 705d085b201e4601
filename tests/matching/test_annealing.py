"""Annealing: one chain however it is evaluated, what it reaches, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fastmatch import Pair, Permutation, barrier, evaluate, match, networks, trace, training
from fastmatch.data import DataSet, Split
from fastmatch.errors import DataError, OptionError, PermutationError
from fastmatch.interpolation.swaps import PermutedSwaps
from fastmatch.matching import Stop, annealing
from fastmatch.matching.annealing import anneal, match_annealing

MODEL = "mlp(64, 8, 6, 10)"


@pytest.fixture(scope="module")
def trained(digits):
    """Three networks trained on digits, in float64, and 300 examples."""
    data, states = digits.train.take(300), []
    for seed in range(3):
        module = training.initialise(MODEL, seed=seed)
        training.train(module, digits, training.Recipe(epochs=10, order_seed=seed))
        states.append({name: tensor.double() for name, tensor in module.state_dict().items()})
    return trace(module, (data.inputs[:2],)), module, states, data


def plainly(spec, module, networks, data, moving, moves, steps, seed, energy):
    """The chain as it is written in simanneal: one proposal after the other, every energy from scratch."""
    streams = np.random.SeedSequence(seed).spawn(3)
    proposals, chances, sample = (np.random.default_rng(stream) for stream in streams)

    def measured(indices):
        return energy([spec.permute(network, index) for network, index in zip(networks, indices, strict=True)])

    def moved(indices, swaps):
        result = []
        for index, pairs in zip(indices, swaps, strict=True):
            index = {name: order.copy() for name, order in index.items()}
            for order, (first, second) in zip(index.values(), pairs, strict=True):
                order[[first, second]] = order[[second, first]]
            result.append(index)
        return result

    state = best = [spec.identity() for _ in networks]
    present = lowest = measured(state)
    some = next(annealing._proposals(spec, len(networks), moving, moves, sample))[: min(annealing._SAMPLE, steps)]
    hot, cold = annealing._temperatures(np.array([measured(moved(state, swaps)) for swaps in some]), present, len(data))
    drawn = annealing._proposals(spec, len(networks), moving, moves, proposals)
    block, uniform, taken = next(drawn), chances.random(annealing._BLOCK), 0
    for step in range(steps):
        temperature = hot * np.exp(-np.log(hot / cold) * (step + 1) / steps)
        candidate = moved(state, block[step])
        value = measured(candidate)
        if value <= present or np.exp(-(value - present) / temperature) >= 1 - uniform[step]:
            state, present, taken = candidate, value, taken + 1
            if present < lowest:
                best, lowest = state, present
    return best, lowest, taken


@pytest.mark.parametrize("moves", ["layers", "single"])
def test_the_chain_is_that_of_the_plain_algorithm(trained, moves, monkeypatch):
    spec, module, states, data = trained

    def error(networks):
        return evaluate(module, networks, [[1 / 2] * 2], data).error[0]

    indices, lowest, taken = plainly(spec, module, states[:2], data, [1], moves, 90, 3, error)
    assert 10 < taken < 80
    for most in (1, 7):
        with monkeypatch.context() as limited:
            limited.setattr(annealing, "swaps_of", _limited(most))
            found = match_annealing(spec, module, *states[:2], data, moves=moves, steps=90, seed=3)
        assert found.permutation == Permutation(spec, indices[1])
        assert found.objective_after == pytest.approx(lowest, abs=1e-12)
        assert lowest < found.objective_before


@pytest.mark.parametrize("objective", ["error", "barrier"])
def test_networks_evaluated_in_full_take_the_same_chain(trained, objective, monkeypatch):
    spec, module, states, data = trained
    options = {"steps": 25, "objective": objective, "alphas": 5, "seed": 1}
    quick = anneal(spec, module, states, data, **options)
    monkeypatch.setattr(annealing, "swaps_of", PermutedSwaps)
    full = anneal(spec, module, states, data, **options)
    assert quick.permutations == full.permutations
    assert quick.objective_after < quick.objective_before


def _limited(most):
    def limited(*given):
        engine = swaps_of(*given)
        engine.most = most
        return engine

    swaps_of = annealing.swaps_of
    return limited


def test_the_batches_grow_and_change_nothing_in_float32(trained, monkeypatch):
    spec, module, states, data = trained
    states = [{name: tensor.float() for name, tensor in state.items()} for state in states[:2]]
    found = {}
    for most in (1, 64):
        monkeypatch.setattr(annealing, "swaps_of", _limited(most))
        found[most] = match_annealing(spec, module, *states, data, objective="barrier", alphas=5, steps=150).permutation
        monkeypatch.undo()
    assert found[1] == found[64]


def test_the_objectives_are_those_of_the_networks(trained):
    spec, module, states, data = trained
    found = anneal(spec, module, states, data, steps=200)
    aligned = [permutation.apply(state) for permutation, state in zip(found.permutations, states, strict=True)]
    assert found.objective_after == pytest.approx(evaluate(module, aligned, [[1 / 3] * 3], data).error[0], abs=1e-12)
    assert found.permutations[0] == Permutation.identity(spec)
    pair = match_annealing(spec, module, *states[:2], data, objective="barrier", alphas=7, steps=50)
    both = DataSet("some", data, data, 10, (0.0,), (1.0,))
    curves = barrier(module, *states[:2], both, permutation=pair.permutation, alphas=7).curves["aligned"]
    assert pair.objective_after == pytest.approx(curves["train"].loss.linear, abs=1e-9)
    assert pair.measure == "barrier"


def test_a_planted_permutation_is_found(trained):
    spec, module, states, data = trained
    b = Permutation.random(spec, 5).apply(states[0])
    found = match_annealing(spec, module, states[0], b, data, objective="barrier", alphas=3, steps=2500, moves="single")
    assert found.objective_before > 0.1
    both = [states[0], found.permutation.apply(b)]  # dead units may stand anywhere
    losses = evaluate(module, both, [[1.0, 0.0], [0.5, 0.5]], data).losses
    np.testing.assert_allclose(losses[1], losses[0], atol=1e-9)


def test_it_begins_where_it_is_told_and_is_never_worse(trained):
    spec, module, states, data = trained
    start = Permutation.random(spec, 2)
    b = start.invert().apply(states[0])
    found = match_annealing(spec, module, states[0], b, data, objective="barrier", alphas=3, steps=20, start=start)
    assert found.permutation == start
    assert found.objective_after == pytest.approx(0.0, abs=1e-9)


class Block(nn.Module):
    """A basic block of a ResNet."""

    def __init__(self, channels=3):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2))
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)

    def forward(self, x):
        return torch.relu(x + self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x))))))


def resnet():
    stem = nn.Conv2d(1, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3), nn.ReLU()
    return nn.Sequential(*stem, Block(), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10))


def test_residual_networks_with_batch_norm(digits, monkeypatch):
    monkeypatch.setattr(annealing, "_SAMPLE", 4)
    data, states = digits.train.take(50), []
    for seed in (0, 1):
        torch.manual_seed(seed)
        module = resnet()
        training.train(module, digits.take(400), training.Recipe(lr=1e-2, epochs=8, order_seed=seed))
        states.append(module.state_dict())
    spec = trace(module.eval(), (data.inputs[:2],))
    found = match(Pair(spec, *states, module, data), "annealing", steps=20)
    aligned = [states[0], found.permutation.apply(states[1])]
    assert found.objective_after == pytest.approx(evaluate(module, aligned, [[0.5, 0.5]], data).error[0])
    assert found.objective_after < found.objective_before


class Attention(nn.Module):
    """Heads with coordinates of their own inside."""

    def __init__(self, width=8):
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(width, width // 2, batch_first=True), nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


def test_swaps_reach_what_is_inside_of_heads():
    states = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        states.append(Attention().state_dict())
    module, data = Attention().eval(), Split(torch.randn(40, 5, 8), torch.randint(3, (40,)))
    spec = trace(module, (data.inputs[:2],))
    assert spec.bases
    found = match_annealing(spec, module, *states, data, steps=40)
    assert found.objective_after < found.objective_before
    assert any((order != np.arange(order.shape[-1])).any() for order in found.permutation.indices.values())


def test_a_search_that_is_stopped_returns_its_best(trained):
    spec, module, states, data = trained

    def impatient(done, total):
        assert total == 5000
        raise Stop

    found = match_annealing(spec, module, *states[:2], data, steps=5000, progress=impatient)
    assert found.status == "stopped"
    assert found.objective_after <= found.objective_before


def test_what_cannot_be_is_refused(trained):
    spec, module, states, data = trained
    pair = (spec, module, *states[:2], data)
    for options, text in (
        ({"steps": 0}, "at least 1"),
        ({"moves": "cities"}, "choose layers or single"),
        ({"objective": "loss"}, "choose error or barrier"),
        ({"objective": "barrier", "alphas": 2}, "at least 3 alphas"),
    ):
        with pytest.raises(OptionError, match=text):
            match_annealing(*pair, **options)
    with pytest.raises(OptionError, match="received one network"):
        anneal(spec, module, states[:1], data)
    with pytest.raises(OptionError, match="one for each"):
        anneal(spec, module, states, data, start=[Permutation.identity(spec)])
    broken = states[0] | {"linear1.bias": states[0]["linear1.bias"] / 0}
    with pytest.raises(PermutationError, match="holds NaN"):
        match_annealing(spec, module, broken, states[1], data)
    with pytest.raises(DataError, match="labels up to 99"):
        match_annealing(*pair[:-1], Split(data.inputs, torch.full_like(data.labels, 99)))
    other = trace(networks.build("mlp(64, 8, 10)").eval(), (data.inputs[:2],))
    with pytest.raises(PermutationError, match="other groups"):
        match_annealing(*pair, start=Permutation.identity(other))
