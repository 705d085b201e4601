"""Every network of the zoo: the groups counted by hand, the certificate, and planted permutations."""

from collections import Counter
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from fastmatch import PermutationSpec, match_weights, trace
from tests.problems import assert_same_state
from tests.zoo import ZOO, Network
from tests.zoo_transformers import TRANSFORMERS


class Traced(NamedTuple):
    network: Network
    module: nn.Module
    inputs: tuple[Tensor, ...]
    spec: PermutationSpec


@pytest.fixture(scope="module", params=[*ZOO, *TRANSFORMERS], ids=lambda network: network.name)
def traced(request) -> Traced:
    torch.manual_seed(0)
    module, inputs = request.param.build().eval(), request.param.inputs()
    return Traced(request.param, module, inputs, trace(module, inputs))


def kinds(spec: PermutationSpec) -> Counter:
    """How many groups there are of each kind, as the zoo counts them: size, then sizes of the base."""
    shapes = {name: index.shape for name, index in spec.random(0).items()}
    assert {group.name: group.size for group in spec.groups} == {name: shape[-1] for name, shape in shapes.items()}
    return Counter((shape[-1], *sorted(shape[:-1])) for shape in shapes.values())


def noised(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without ties: gains of one and biases of zero tell no units apart."""
    generator = torch.Generator().manual_seed(2)
    return {
        name: tensor + 0.1 * torch.randn(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }


def test_groups_are_those_counted_by_hand(traced):
    assert kinds(traced.spec) == traced.network.groups
    assert len(traced.spec.groups) == traced.network.total


def test_random_permutations_of_all_groups_keep_the_function(traced):
    certificate = traced.spec.certify(traced.module, traced.inputs)
    assert certificate.passed
    assert certificate.max_rel < 1e-9


def test_planted_permutations_are_recovered(traced):
    a = noised(traced.module.state_dict())
    b = traced.spec.permute(a, traced.spec.random(seed=3))
    match = match_weights(traced.spec, a, b, restarts=traced.network.restarts)
    assert_same_state(match.permutation.apply(b), a)
