"""Networks, weights and data out of the ordinary: however they are run, figures are those of the plain loop."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch import nn

from fastmatch import DataSet, Split, barrier, barrier_maxima, evaluate
from fastmatch.errors import DataError, OptionError
from fastmatch.interpolation import strategies
from fastmatch.interpolation.evaluator import Evaluator
from fastmatch.interpolation.reference import evaluate_plainly
from tests.interpolation.unusual import FLAT, NETWORKS, Net

ROWS = np.array([[1, 0], [0.3, 0.7], [1.25, -0.25], [0, 1]])
WAYS = {
    "functional": {"strategy": "functional"},
    "lowered": {"strategy": "lowered"},
    "fast": {"strategy": "lowered", "precision": "fast"},
}


@pytest.fixture(autouse=True)
def _any_processor(monkeypatch):
    """Without instructions for bfloat16, it is only slow."""
    monkeypatch.setattr(strategies, "has_bfloat16", lambda: True)


def two_states(make):
    """The network, and two state dicts of it whose norms are not at their initial values."""
    states = []
    for seed in range(2):
        torch.manual_seed(seed)
        module = make()
        state = module.state_dict()
        for name, tensor in state.items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif tensor.dim() == 1:
                tensor.add_(0.3 * torch.randn(tensor.shape))
        states.append({name: tensor.clone() for name, tensor in state.items()})
    return module.eval(), states


def examples(shape, count=37, classes=5):
    generator = torch.Generator().manual_seed(9)
    inputs = torch.randn(count, *shape, generator=generator)
    return Split(inputs, torch.randint(0, classes, (count,), generator=generator))


@functools.cache
def problem(name):
    """A network of the table, two state dicts, examples, and what the plain loop says of them."""
    shape, make = NETWORKS[name]
    module, states = two_states(make)
    data = examples(shape, classes=1 if name == "one class" else 5)
    return module, states, data, evaluate_plainly(module, states, ROWS, data, statistics=data)


def in_every_way(module, states, data, graphless):
    """Evaluations by the module itself, by its graph, and by its graph in bfloat16; the graph is exported once."""
    yield evaluate(module, states, ROWS, data, strategy="functional")
    if not graphless:
        evaluator = Evaluator(module, {"data": data}, data, strategy="lowered", precision="fast")
        for exact in (True, False):
            yield evaluator.evaluate(states, ROWS, exact=exact)["data"]


@pytest.mark.parametrize("name", NETWORKS)
def test_figures_are_those_of_the_plain_loop(name):
    module, states, data, (losses, errors) = problem(name)
    before, own = data.inputs.clone(), {name: id(tensor) for name, tensor in module.named_parameters()}
    for found in in_every_way(module, states, data, name == "inputs changed in place"):  # its graph has two outputs
        close = 1e-3 if found.precision == "fast" else 1e-5
        np.testing.assert_allclose(found.loss, losses.mean(1), rtol=close, atol=close)
        assert np.array_equal(found.errors, errors)
        assert torch.equal(data.inputs, before)
        assert {name: id(tensor) for name, tensor in module.named_parameters()} == own


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("count", [1, 2])
def test_a_few_examples_in_little_memory_with_statistics_of_many(count, way):
    module, states, many, _ = problem("sum of convolutions")
    data = Split(many.inputs[:count], many.labels[:count])
    losses, errors = evaluate_plainly(module, states, ROWS, data, statistics=many)
    found = evaluate(module, states, ROWS, data, statistics=many, memory=2000.0, **WAYS[way])
    np.testing.assert_allclose(found.loss, losses.mean(1), rtol=1e-3, atol=1e-3)
    assert np.array_equal(found.errors, errors)


class OnlyTwo(nn.Module):
    """Keeps the number of examples it was exported with."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(16, 5)

    def forward(self, inputs):
        return self.layer((2 * inputs).reshape(int(inputs.shape[0]), -1))


@pytest.mark.parametrize("count", [1, 2])
def test_a_graph_for_one_number_of_examples_is_not_used(count, monkeypatch):
    monkeypatch.setattr(strategies, "_WORTH", 0.0)
    module, states = two_states(OnlyTwo)
    few, many = examples(FLAT, count), examples(FLAT)
    found = barrier(module, *states, DataSet("few", few, many, classes=5, mean=(0.0,), std=(1.0,)), alphas=2)
    expected = evaluate(module, states, np.eye(2), many, strategy="functional")
    np.testing.assert_allclose(found.curves["unaligned"]["test"].evaluation.loss, expected.loss, rtol=1e-6)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "types",
    [(torch.float64, torch.float64), (torch.float32, torch.float64), (torch.bfloat16, torch.float16)],
    ids=str,
)
def test_weights_of_any_type(types, way):
    module, states, data, _ = problem("first layer without bias")
    given = [
        {n: t.to(dtype) if t.is_floating_point() else t for n, t in state.items()}
        for state, dtype in zip(states, types, strict=True)
    ]
    losses, errors = evaluate_plainly(module, given, ROWS, data, statistics=data)
    found = evaluate(module, given, ROWS, data, **WAYS[way])
    close = 1e-12 if types == (torch.float64,) * 2 else 1e-3 if found.precision == "fast" else 1e-5
    np.testing.assert_allclose(found.loss, losses.mean(1), rtol=close, atol=close)
    assert np.array_equal(found.errors, errors)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("broken", [0, 1])
@pytest.mark.parametrize("value", [np.nan, np.inf], ids=str)
@pytest.mark.parametrize("name", ["layer on rows", "sum of convolutions"])
def test_a_broken_network_decides_where_it_takes_part_and_nowhere_else(name, value, broken, way):
    module, states, data, _ = problem(name)
    given = list(states)
    given[broken] = {n: torch.full_like(t, value) if t.is_floating_point() else t for n, t in states[broken].items()}
    rows = np.array([[1, 0], [0, 1], [0.5, 0.5], [0, 0]])
    found = evaluate(module, given, rows, data, **WAYS[way])
    expected = evaluate(module, states, rows[[1 - broken, 3]], data, **WAYS["functional"])
    np.testing.assert_allclose(found.loss[[1 - broken, 3]], expected.loss, rtol=1e-3)
    assert np.isnan(found.loss[[broken, 2]]).all()
    assert (found.error[[broken, 2]] == 1).all()


@pytest.mark.parametrize("way", WAYS)
def test_a_norm_over_another_axis_is_told_even_where_it_does_nothing_yet(way):
    """As many units as rows, and a new norm: folded into the wrong axis, the first network is still the same."""
    module, states, data, _ = problem("norm over another axis than the units")
    initial = {"layers.n.weight": 1.0, "layers.n.bias": 0.0, "layers.n.running_mean": 0.0, "layers.n.running_var": 1.0}
    new = {name: torch.full_like(t, initial[name]) if name in initial else t for name, t in states[0].items()}
    losses, _ = evaluate_plainly(module, [new, states[1]], ROWS, data)
    found = evaluate(module, [new, states[1]], ROWS, data, bn="keep", **WAYS[way])
    np.testing.assert_allclose(found.loss, losses.mean(1), rtol=1e-3)


def norm_used_twice(p, x):
    return p.h(p.n(p.b(p.n(p.a(x)).relu())).relu())


@pytest.mark.parametrize("way", WAYS)
def test_a_norm_used_twice_is_that_of_one_network_for_all_examples(way):
    """Its statistics are those of the last use; outputs of the run that found them belong to no network."""
    layers = {"a": nn.Linear(16, 12), "n": nn.BatchNorm1d(12), "b": nn.Linear(12, 12), "h": nn.Linear(12, 5)}
    module, states = two_states(lambda: Net(norm_used_twice, **layers))
    data = examples(FLAT)
    copied = Split(data.inputs.clone(), data.labels)
    pair = [evaluate(module, states, ROWS, data, statistics=s, **WAYS[way]).loss for s in (data, copied)]
    np.testing.assert_allclose(*pair, rtol=1e-3)


def test_statistics_of_a_norm_of_two_names_are_remembered(monkeypatch):
    monkeypatch.setattr(strategies, "_WORTH", 0.0)
    module, states, many, _ = problem("norm of two names")
    data = DataSet("random", many, examples(FLAT, 600), classes=5, mean=(0.0,), std=(1.0,))
    whole, found = barrier(module, *states, data, alphas=5), barrier_maxima(module, *states, data, alphas=5)
    for split, curve in whole.curves["unaligned"].items():
        assert found.maxima["unaligned"][split].height == pytest.approx(curve.loss.linear, abs=1e-5)


def test_nothing_to_evaluate_is_refused():
    module, states, data, _ = problem("no hidden layer")
    with pytest.raises(OptionError, match="no coefficients"):
        evaluate(module, states, np.zeros((0, 2)), data)
    with pytest.raises(DataError, match="no examples"):
        evaluate(module, states, ROWS, Split(data.inputs[:0], data.labels[:0]))
