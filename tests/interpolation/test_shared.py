from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fastmatch import Permutation, trace
from fastmatch.interpolation import shared
from fastmatch.interpolation.lowered import Lowered
from fastmatch.interpolation.shared import FirstLayers
from fastmatch.symmetry import export_graph
from tests.problems import build

MODELS = ["mlp(64, 12, 10)", "mlp(64, 12, 10, norm=batch)"]
EXAMPLES = {"train": 7, "test": 4}
INPUTS = {
    split: torch.randn(count, 64, generator=torch.Generator().manual_seed(count)) for split, count in EXAMPLES.items()
}
SIZE = 4 * 12 * sum(EXAMPLES.values())  # Bytes of the outputs for one network.


@pytest.fixture
def linear(monkeypatch):
    """Calls of the linear layer."""
    calls = []
    watched = SimpleNamespace(linear=lambda *given: calls.append(given) or F.linear(*given))
    monkeypatch.setattr(shared, "F", watched)
    return calls


def first_layers(module, inputs=INPUTS, limit=10 * SIZE):
    return FirstLayers(Lowered(export_graph(module, (next(iter(inputs.values()))[:2],))), inputs, limit)


@pytest.mark.parametrize("model", MODELS)
def test_outputs_are_those_of_the_first_layer(model):
    module = build(model)
    (outputs,) = first_layers(module).outputs([module.state_dict()])
    weight, bias, *_ = module.state_dict().values()
    for split, inputs in INPUTS.items():
        torch.testing.assert_close(outputs[split], inputs @ weight.T + bias)


@pytest.mark.parametrize("model", MODELS)
def test_a_permuted_network_takes_the_outputs_of_the_known_one(model, linear):
    module = build(model)
    spec, state = trace(module, (INPUTS["train"][:2],)), module.state_dict()
    first = first_layers(module)
    (known,) = first.outputs([state])
    assert len(linear) == len(INPUTS)
    permutations = [Permutation.random(spec, seed) for seed in range(3)]
    found = first.outputs([permutation.apply(state) for permutation in permutations])
    assert len(linear) == len(INPUTS)
    for permutation, outputs in zip(permutations, found, strict=True):
        (index,) = permutation.indices.values()
        for split in INPUTS:
            assert torch.equal(outputs[split], known[split][:, torch.tensor(index)])
    (again,) = first.outputs([state])
    assert all(again[split] is known[split] for split in INPUTS)


def with_units(*units):
    """A network whose first layer has some of the units of one."""
    state = build(MODELS[0]).state_dict()
    chosen = torch.tensor(units)
    return {name: tensor[chosen] if name.startswith("linear1") else tensor for name, tensor in state.items()}


def test_units_that_are_the_same_are_not_taken_for_others(linear):
    order = list(range(12))
    networks = [with_units(*order), with_units(0, 0, *order[2:]), with_units(1, 1, *order[2:]), with_units(*[3] * 12)]
    outputs = first_layers(build(MODELS[0])).outputs(networks)
    for network, found in zip(networks, outputs, strict=True):
        weight, bias = network["linear1.weight"], network["linear1.bias"]
        torch.testing.assert_close(found["test"], INPUTS["test"] @ weight.T + bias)
    assert len(linear) == len(INPUTS)  # all are made of units of the first


def changed(name, value):
    state = {name: tensor.clone() for name, tensor in build(MODELS[0]).state_dict().items()}
    state[name].view(-1)[0] += value
    return state


@pytest.mark.parametrize("name", ["linear1.weight", "linear1.bias"])
def test_one_other_number_is_another_network(name, linear):
    first = first_layers(build(MODELS[0]))
    first.outputs([changed(name, 0)])
    (found,) = first.outputs([changed(name, 1e-6)])
    assert len(linear) == 2 * len(INPUTS)
    weight, bias = (changed(name, 1e-6)[f"linear1.{kind}"] for kind in ("weight", "bias"))
    assert torch.equal(found["test"], F.linear(INPUTS["test"], weight, bias))


@pytest.mark.parametrize(
    ("limit", "computed"),
    [(10, [2, 3, 3]), (3, [2, 3, 5]), (2, [2, 4, 6])],  # of two networks, then of the second and a third, then of two
)
def test_no_more_outputs_are_kept_than_fit(limit, computed, linear):
    first = first_layers(build(MODELS[0]), limit=limit * SIZE)
    a, b, c = (build(MODELS[0], seed).state_dict() for seed in range(3))
    for pair, count in zip(([a, b], [b, c], [a, b]), computed, strict=True):
        first.outputs(pair)
        assert len(linear) == count * len(INPUTS)
        assert len(first._known) <= limit


def test_outputs_that_do_not_fit_are_not_computed(linear):
    a, b = (build(MODELS[0], seed).state_dict() for seed in range(2))
    assert first_layers(build(MODELS[0]), limit=2 * SIZE - 1).outputs([a, b]) is None
    assert first_layers(build(MODELS[0]), limit=SIZE).outputs([a]) is not None
    assert len(linear) == len(INPUTS)


def test_networks_without_a_linear_first_layer_share_nothing():
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(108, 10)).eval()
    images = {"test": torch.randn(4, 1, 8, 8)}
    assert first_layers(module, images).outputs([module.state_dict()]) is None
