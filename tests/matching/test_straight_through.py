"""Straight-through descent: its gradient, what it keeps, and that it finds planted permutations."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fastmatch import Permutation, Split, match, match_activations, trace, training
from fastmatch.errors import FastmatchError, OptionError, PermutationError
from fastmatch.matching import Pair, match_straight_through, match_straight_through_original
from fastmatch.matching import straight_through as module_under_test
from fastmatch.matching.midpoint import Midpoint, hold_back
from fastmatch.matching.mixture import Mixture
from fastmatch.matching.straight_through import Similarities, in_given_order
from fastmatch.symmetry import export_graph

FORMS = [match_straight_through, match_straight_through_original]


class Tiny(nn.Module):
    """Two hidden layers in float64, smooth, so that differences are gradients."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.out = nn.Linear(3, 5), nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.out(torch.tanh(self.second(torch.tanh(self.first(x)))))


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    a, b = Tiny().double(), Tiny().double()
    inputs, labels = torch.randn(20, 3, dtype=torch.float64), torch.arange(20) % 3
    return a, a.state_dict(), b.state_dict(), inputs, labels


def soft_loss(a, b, first, second, alpha, inputs, labels):
    """Loss of the mixture where the order of b's units is two matrices: entry [i, j] takes unit j to place i."""
    aligned = {
        "first.weight": first @ b["first.weight"],
        "first.bias": first @ b["first.bias"],
        "second.weight": second @ b["second.weight"] @ first.T,
        "second.bias": second @ b["second.bias"],
        "out.weight": b["out.weight"] @ second.T,
        "out.bias": b["out.bias"],
    }
    mixed = {name: (1 - alpha) * a[name] + alpha * aligned[name] for name in a}
    hidden = torch.tanh(inputs @ mixed["first.weight"].T + mixed["first.bias"])
    hidden = torch.tanh(hidden @ mixed["second.weight"].T + mixed["second.bias"])
    return F.cross_entropy(hidden @ mixed["out.weight"].T + mixed["out.bias"], labels)


def gradients(tiny, indices, alpha):
    a, first, second, inputs, labels = tiny
    spec = trace(a, (inputs[:2],))
    mixture = Mixture(spec, export_graph(a, (inputs[:5],)), first, spec.groups)
    found = mixture.gradients(spec.permute(second, indices), alpha, inputs, labels)
    return [in_given_order(found[name], indices[name]) for name in ("first", "second")]


def test_the_gradient_is_that_of_soft_permutation_matrices(tiny):
    _, a, b, inputs, labels = tiny
    indices = {"first": np.array([3, 0, 4, 1, 2]), "second": np.array([1, 2, 3, 0])}
    matrices = [torch.eye(len(index), dtype=torch.float64)[index].requires_grad_() for index in indices.values()]
    expected = torch.autograd.grad(soft_loss(a, b, *matrices, 0.3, inputs, labels), matrices)
    for found, matrix in zip(gradients(tiny, indices, 0.3), expected, strict=True):
        np.testing.assert_allclose(found, matrix.numpy(), rtol=1e-9, atol=1e-12)


def test_a_small_share_changes_the_loss_as_the_gradient_says(tiny):
    _, a, b, inputs, labels = tiny
    indices = {"first": np.array([3, 0, 4, 1, 2]), "second": np.array([1, 2, 3, 0])}
    eye = [torch.eye(len(index), dtype=torch.float64)[index] for index in indices.values()]
    found, _ = gradients(tiny, indices, 0.5)
    for i, j in itertools.product(range(5), range(5)):
        ends = []
        for share in (1e-5, -1e-5):
            moved = eye[0].clone()
            moved[i, j] += share
            ends.append(float(soft_loss(a, b, moved, eye[1], 0.5, inputs, labels)))
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(found[i, j], abs=1e-7)


def test_similarities_begin_at_the_start_and_follow_the_gradient():
    matrices = {"x": np.random.default_rng(0).normal(size=(6, 6))}
    start = {"x": np.array([2, 0, 1, 5, 3, 4])}
    similarities = Similarities(matrices, start)
    np.testing.assert_array_equal(similarities.solve()["x"], start["x"])
    wanted = np.array([1, 2, 3, 4, 5, 0])
    gradient = np.zeros((6, 6))
    gradient[np.arange(6), wanted] = -1.0
    for _ in range(200):
        similarities.step({"x": gradient}, 0.1)
    np.testing.assert_array_equal(similarities.solve()["x"], wanted)


@pytest.fixture(scope="module")
def trained(digits):
    def train(model, epochs, seed):
        network = training.initialise(model, "default", seed)
        recipe = training.Recipe(epochs=epochs, lr=3e-3, batch_size=64, init_seed=seed, order_seed=seed)
        training.train(network, digits, recipe)
        return network

    return train


@pytest.fixture(scope="module")
def mlps(trained, digits):
    a, b = (trained("mlp(64, 16, 16, 10)", 20, seed) for seed in (0, 1))
    return a, a.state_dict(), b.state_dict(), trace(a, (digits.train.inputs[:2],)), digits.train


class Residual(nn.Module):
    """A stream of 8 channels that a block writes to, with BatchNorm."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 8, 3, stride=2), nn.BatchNorm2d(8)
        self.inside, self.norm1 = nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12)
        self.back, self.norm2, self.head = nn.Conv2d(12, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Linear(8, 10)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(x + self.norm2(self.back(torch.relu(self.norm1(self.inside(x))))))
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["mlp", "residual"])
def test_a_planted_permutation_is_recovered(mlps, digits, form, kind):
    torch.manual_seed(0)
    network = mlps[0] if kind == "mlp" else Residual()
    if kind == "residual":
        training.train(network, digits, training.Recipe(epochs=2, lr=3e-3, batch_size=64))
    network.eval()
    state = network.state_dict()
    spec = trace(network, (digits.train.inputs[:2],))
    planted = Permutation.random(spec, 3)
    found = form(spec, network, state, planted.apply(state), digits.train.take(600), steps=2)
    assert found.permutation == planted.invert()
    assert found.objective_after < found.objective_before


@pytest.mark.parametrize("form", FORMS)
def test_the_result_is_never_worse_than_the_start_on_examples_held_back(mlps, form):
    module, a, b, spec, data = mlps
    start = match_activations(spec, module, a, b, data).permutation
    found = form(spec, module, a, b, data, start=start, steps=20, seed=1)
    judge = Midpoint(spec, module, a, b, hold_back(data).held)
    assert found.objective_after == pytest.approx(judge.loss(found.permutation.indices), abs=1e-6)
    assert found.objective_after <= found.midpoints["start"]
    assert (found.measure, found.examples) == ("loss", len(data))
    if form is match_straight_through:
        assert found.midpoints["start"] == pytest.approx(judge.loss(start.indices), abs=1e-6)


def test_the_descent_goes_below_its_start_and_a_gradient_of_the_wrong_direction_does_not(mlps, monkeypatch):
    """Taking P for its transpose still gives permutations, and a network of the same function: only the loss tells."""
    module, a, b, spec, data = mlps
    start = Permutation.random(spec, 5)
    right = match_straight_through(spec, module, a, b, data, start=start)
    monkeypatch.setattr(module_under_test, "in_given_order", lambda gradient, index: gradient.cpu().numpy()[:, index])
    wrong = match_straight_through(spec, module, a, b, data, start=start)
    assert right.objective_after < right.midpoints["start"] - 0.4
    assert right.objective_after < wrong.objective_after - 0.1


def test_the_same_seed_gives_the_same_permutation_and_progress_is_told(mlps):
    module, a, b, spec, data = mlps
    told = []
    pair = Pair(spec, a, b, module, data)
    results = [
        match(pair, "straight_through", seed=4, steps=16, progress=lambda *done: told.append(done)) for _ in range(2)
    ]
    assert results[0].permutation == results[1].permutation
    assert told == [(step, 16) for step in range(1, 17)] * 2
    assert (results[0].status, results[0].sweeps) == ("all steps", 16)


def test_batchnorm_takes_the_statistics_of_the_batch():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    inputs, labels = torch.randn(30, 4), torch.arange(30) % 3
    spec = trace(module.eval(), (inputs[:2],))
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    state["1.running_var"] *= 50
    mixture = Mixture(spec, export_graph(module, (inputs[:5],)), state, spec.groups)
    found = mixture.weight_gradients(state, 0.5, inputs, labels)
    module.train()
    F.cross_entropy(module(inputs), labels).backward()
    for name, parameter in module.named_parameters():
        if name in found:
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(5, 12), nn.Linear(12, 3)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(12, 4, 20, batch_first=True, dropout=0.0), 1)

    def forward(self, x):
        return self.head(self.encoder(self.stem(x)).mean(1))


@pytest.mark.parametrize("form", FORMS)
def test_heads_keep_the_order_of_the_start(form):
    torch.manual_seed(0)
    network = Attention().eval()
    data = Split(torch.randn(300, 6, 5), torch.arange(300) % 3)
    spec = trace(network, (data.inputs[:2],))
    planted = Permutation.random(spec, 1)
    found = form(spec, network, network.state_dict(), planted.apply(network.state_dict()), data, steps=1)
    assert found.permutation == planted.invert()
    heads = [group.name for group in spec.groups if group.base or "#blocks" in group.name]
    assert heads
    if form is match_straight_through:
        assert found.notes[0].startswith(f"{len(heads)} groups")
        assert repr(heads[0]) in found.notes[0]


@pytest.mark.parametrize("form", FORMS)
def test_bad_input_is_refused_in_one_line(mlps, form):
    module, a, b, spec, data = mlps
    with pytest.raises(OptionError, match="steps must be at least 1"):
        form(spec, module, a, b, data, steps=0)
    other = trace(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), (torch.randn(2, 3),))
    with pytest.raises(PermutationError):
        form(spec, module, a, b, data, start=Permutation.identity(other))
    broken = {name: tensor.clone() for name, tensor in b.items()}
    next(iter(broken.values()))[0] = math.nan
    with pytest.raises(FastmatchError, match="NaN"):
        form(spec, module, a, broken, data, steps=1)
