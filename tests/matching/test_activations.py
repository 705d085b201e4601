"""Activation matching: where it looks, what it computes, and that it streams."""

import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastmatch import Permutation, Split, match_activations, trace
from fastmatch.errors import OptionError, SymmetryError
from fastmatch.symmetry import GraphRunner, observe
from tests.problems import build, example


class Network(nn.Module):
    """A convolution with norm, ReLU and pooling, and a linear layer that is consumed after a tanh."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 6, 3), nn.GroupNorm(1, 6)
        self.hidden, self.out = nn.Linear(6 * 9, 7), nn.Linear(7, 4)

    def first(self, x):
        return F.relu(self.norm(self.conv(x)))

    def second(self, x):
        return torch.tanh(self.hidden(F.max_pool2d(self.first(x), 2).flatten(1)))

    def forward(self, x):
        return self.out(self.second(x))


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(3)
    return Split(torch.randn(130, 1, 8, 8, generator=generator), torch.zeros(130, dtype=torch.int64))


@pytest.fixture
def pair(data):
    torch.manual_seed(1)
    a, b = Network(), Network()
    return a, b, trace(a, (data.inputs[:2],))


def features(module, inputs):
    """What the groups should be observed on, as [units, samples], in float64."""
    with torch.no_grad():
        maps, hidden = module.double().first(inputs.double()), module.second(inputs.double())
    module.float()
    return [maps.movedim(1, 0).flatten(1).numpy(), hidden.T.numpy()]


@pytest.mark.parametrize("similarity", ["pearson", "linear"])
def test_objective_is_the_similarity_after_the_nonlinearity(pair, data, similarity):
    a, b, spec = pair
    match = match_activations(spec, a, a.state_dict(), b.state_dict(), data, similarity=similarity, batch_size=40)
    for group, x, y in zip(match.groups, features(a, data.inputs), features(b, data.inputs), strict=True):
        matrix = np.corrcoef(x, y)[: len(x), len(x) :] if similarity == "pearson" else x @ y.T / x.shape[1]
        index = match.permutation.indices[group.name]
        assert group.objective_before == pytest.approx(np.trace(matrix), abs=1e-5)
        assert group.objective_after == pytest.approx(matrix[np.arange(len(x)), index].sum(), abs=1e-5)
        best = max(matrix[np.arange(len(x)), order].sum() for order in _neighbours(index))
        assert group.objective_after >= best - 1e-5


def test_summed_adds_the_correlation_before_the_nonlinearity(pair, data):
    a, b, spec = pair
    match = match_activations(spec, a, a.state_dict(), b.state_dict(), data, similarity="summed", batch_size=40)

    def before(module):
        with torch.no_grad():
            maps = module.norm(module.conv(data.inputs))
            hidden = module.hidden(F.max_pool2d(torch.relu(maps), 2).flatten(1))
        return [maps.movedim(1, 0).flatten(1).double().numpy(), hidden.T.double().numpy()]

    sides = [zip(features(module, data.inputs), before(module), strict=True) for module in (a, b)]
    for group, xs, ys in zip(match.groups, *sides, strict=True):
        matrix = sum(np.corrcoef(x, y)[: len(x), len(x) :] for x, y in zip(xs, ys, strict=True))
        index = match.permutation.indices[group.name]
        assert group.objective_before == pytest.approx(np.trace(matrix), abs=1e-5)
        assert group.objective_after == pytest.approx(matrix[np.arange(len(matrix)), index].sum(), abs=1e-5)


def test_summed_sees_a_residual_stream_in_every_block():
    model = "resnet20(width=1, norm=layer, in_channels=1, size=8)"
    module = build(model)
    taps, graph = observe(trace(module, example(model)), module, example(model))
    nodes = {node.name: node for node in graph.module.graph.nodes}
    counts = {name: (len(tap.before), len(tap.after)) for name, tap in taps.items()}
    assert counts["conv1"] == (4, 4)
    assert counts["layer2.0.conv2"] == (3, 3)
    assert counts["layer1.0.conv1"] == (1, 1)
    assert {str(nodes[place.tensor].target) for tap in taps.values() for place in tap.after} == {"aten.relu.default"}


def _neighbours(index):
    """The assignment and all that differ from it by one exchange."""
    yield index
    for i in range(len(index)):
        for j in range(i):
            other = index.copy()
            other[[i, j]] = other[[j, i]]
            yield other


@pytest.mark.parametrize("similarity", ["pearson", "linear"])
def test_batches_make_no_difference(pair, data, similarity):
    a, b, spec = pair
    results = [
        match_activations(spec, a, a.state_dict(), b.state_dict(), data, similarity=similarity, batch_size=size)
        for size in (7, 40, 1000)
    ]
    for other in results[1:]:
        assert other.permutation == results[0].permutation
        assert other.objective_after == pytest.approx(results[0].objective_after, rel=1e-6)


def test_activations_of_one_batch_are_in_memory_at_a_time(pair, data, monkeypatch):
    a, b, spec = pair
    alive, original = [], GraphRunner.activations

    def watched(self, state, inputs):
        if state is first:
            assert not [ref for ref in alive if ref() is not None]
        values = original(self, state, inputs)
        alive.extend(weakref.ref(value) for value in values.values())
        return values

    monkeypatch.setattr(GraphRunner, "activations", watched)
    first = a.state_dict()
    match_activations(spec, a, first, b.state_dict(), data, similarity="pearson", batch_size=30)
    assert len(alive) == 2 * 5 * 2


def test_residual_streams_are_observed_at_their_last_sum(digits):
    model = "resnet20(width=1, norm=layer, in_channels=1, size=8)"
    module = build(model)
    taps, graph = observe(trace(module, example(model)), module, example(model))
    nodes = {node.name: node for node in graph.module.graph.nodes}
    for tap in taps.values():
        assert str(nodes[tap.place.tensor].target) == "aten.relu.default"
    order = list(nodes)
    assert order.index(taps["conv1"].place.tensor) > order.index(taps["layer1.2.conv1"].place.tensor)


def test_units_alive_in_one_network_alone_are_counted(pair, data):
    a, b, spec = pair
    state = {name: tensor.clone() for name, tensor in b.state_dict().items()}
    state["norm.bias"][:2] = -100.0
    match = match_activations(spec, a, a.state_dict(), state, data)
    assert match.groups[0].dead_units == 2


def test_duplicated_units_are_told_apart_by_their_weights(pair, data):
    """Two units that fire alike but are read differently: activations tie, the outgoing weights decide."""
    a, _, spec = pair
    state = {name: tensor.clone() for name, tensor in a.state_dict().items()}
    for name in ("hidden.weight", "hidden.bias"):
        state[name][1] = state[name][0]
    planted = Permutation.random(spec, 2)
    match = match_activations(spec, a, state, planted.apply(state), data)
    assert match.permutation == planted.invert()


def test_an_unknown_similarity_is_refused(pair, data):
    a, b, spec = pair
    with pytest.raises(OptionError, match="choose summed, pearson or linear"):
        match_activations(spec, a, a.state_dict(), b.state_dict(), data, similarity="cosine")


class Hidden(nn.Module):
    """A unit axis that is never the axis of an intermediate value: the weights are multiplied first."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Parameter(torch.randn(5, 64)), nn.Parameter(torch.randn(4, 5))

    def forward(self, x):
        return x @ (self.right @ self.left).T


def test_a_group_without_activation_asks_for_weights():
    module = Hidden()
    spec = trace(module, (torch.randn(2, 64),))
    assert len(spec.groups) == 1
    data = Split(torch.randn(10, 64), torch.zeros(10, dtype=torch.int64))
    with pytest.raises(SymmetryError, match="--method weight"):
        match_activations(spec, module, module.state_dict(), module.state_dict(), data)


def test_networks_in_float64_are_matched_on_inputs_in_float32(data):
    torch.manual_seed(2)
    module = Network().double()
    a = module.state_dict()
    spec = trace(module, (data.inputs[:2].double(),))
    planted = Permutation.random(spec, 4)
    assert match_activations(spec, module, a, planted.apply(a), data).permutation == planted.invert()
