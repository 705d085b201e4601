import pytest
import torch
from torch import nn

from fastmatch import Permutation, trace
from fastmatch.analysis import output_deviation
from fastmatch.errors import ModelError, OptionError


def network(seed, layers=2):
    torch.manual_seed(seed)
    parts = [nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)] if layers == 2 else [nn.Linear(3, 2)]
    return nn.Sequential(*parts).double()


INPUTS = torch.randn(32, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_a_single_linear_layer_deviates_nowhere():
    module = network(0, layers=1)
    found = output_deviation(module, module.state_dict(), network(1, layers=1).state_dict(), INPUTS)
    assert found.largest.max() < 1e-14


def test_the_ends_deviate_by_nothing_and_the_middle_by_hand():
    module, other = network(0), network(1)
    found = output_deviation(module, module.state_dict(), other.state_dict(), INPUTS, alphas=5)
    assert found.largest[[0, -1]].max() < 1e-14
    middle = network(0)
    middle.load_state_dict({k: (w + other.state_dict()[k]) / 2 for k, w in module.state_dict().items()})
    gap = (middle(INPUTS) - (module(INPUTS) + other(INPUTS)) / 2).abs()
    assert found.mean[2] == pytest.approx(gap.mean().item(), rel=1e-12)
    assert found.largest[2] == pytest.approx(gap.max().item(), rel=1e-12)


def test_a_permuted_copy_deviates_until_it_is_put_back():
    module = network(0)
    state = module.state_dict()
    spec = trace(module, (INPUTS[:2],))
    permutation = Permutation.random(spec, 3)
    moved = permutation.apply(state)
    assert output_deviation(module, state, moved, INPUTS).largest.max() > 1e-3
    assert output_deviation(module, state, permutation.invert().apply(moved), INPUTS).largest.max() < 1e-14


@pytest.mark.parametrize(("inputs", "alphas", "message"), [(INPUTS[:0], 3, "no inputs"), (INPUTS, 1, "alphas")])
def test_nothing_to_compare_is_refused(inputs, alphas, message):
    state = network(0).state_dict()
    with pytest.raises(OptionError, match=message):
        output_deviation(network(0), state, state, inputs, alphas=alphas)


def test_a_network_of_another_shape_is_refused():
    with pytest.raises(ModelError, match="network 1 does not fit"):
        output_deviation(network(0), network(0).state_dict(), network(0, layers=1).state_dict(), INPUTS)
