from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fastmatch.errors import ModelError, OptionError
from fastmatch.training import INITS, initialise


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 64, 3),
        nn.BatchNorm2d(64),
        nn.GroupNorm(1, 64),
        nn.Flatten(),
        nn.Linear(64 * 36, 50),
        nn.LayerNorm(50),
    )


def vector(module: nn.Module) -> torch.Tensor:
    return nn.utils.parameters_to_vector(module.parameters()).detach()


@pytest.mark.parametrize("init", INITS)
def test_the_seed_governs_all_weights_and_nothing_else_does(init: str) -> None:
    first = vector(initialise(network, init, 1))
    torch.manual_seed(99)
    again, other = vector(initialise(network, init, 1)), vector(initialise(network, init, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("init", INITS)
def test_the_global_random_state_stays_untouched(init: str) -> None:
    before = torch.get_rng_state()
    initialise(network, init, 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_default_is_what_torch_draws() -> None:
    module = initialise("mlp(4, 8, 2)", "default", 3)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        expected = nn.Linear(4, 8)
    first = next(layer for layer in module.modules() if isinstance(layer, nn.Linear))
    assert torch.equal(first.weight, expected.weight)


@pytest.mark.parametrize("init", ["kaiming_normal", "kaiming_uniform"])
def test_kaiming_weights_have_variance_two_over_fan_in_and_biases_are_zero(init: str) -> None:
    conv, batch, group, _, linear, layer = initialise(network, init, 0)
    for module, fan_in in ((conv, 27), (linear, 64 * 36)):
        assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.05)
        assert not module.bias.any()
    for norm in (batch, group, layer):
        assert (norm.weight == 1).all()
        assert not norm.bias.any()
    bounded = linear.weight.abs().max() <= math.sqrt(6 / (64 * 36))
    assert bounded == (init == "kaiming_uniform")


def test_kaiming_sets_norms_that_a_factory_left_otherwise() -> None:
    def build() -> nn.Module:
        norm = nn.BatchNorm1d(3)
        nn.init.constant_(norm.weight, 5.0)
        return norm

    assert (initialise(build, "kaiming_normal").weight == 1).all()


def test_unknown_initialisations_and_models_are_refused() -> None:
    with pytest.raises(OptionError, match="unknown init 'xavier'"):
        initialise(network, "xavier")
    with pytest.raises(ModelError):
        initialise("nothing(3)")
