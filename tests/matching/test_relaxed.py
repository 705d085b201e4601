"""Soft permutations: permutations at their vertices, gradients, and what stays out of them."""

import numpy as np
import pytest
import torch

from fastmatch import trace
from fastmatch.matching.relaxed import Objective, blend, degree, held_note, soft_groups, soft_permute, vertices
from tests.matching.test_weights import Merge, pair
from tests.problems import assert_same_state, build, example
from tests.zoo.attention import Encoder

MODELS = [
    "mlp(64, 12, 9, 10, norm=batch)",
    "shallow_cnn(width=8, in_channels=1, size=12)",
    "resnet20(width=1, norm=batch, in_channels=1, size=8)",
    "merge",
]


def like(spec, dtype=torch.float32):
    return {group.name: torch.zeros((), dtype=dtype) for group in soft_groups(spec)}


@pytest.mark.parametrize("model", MODELS)
def test_a_vertex_is_the_permutation_exactly(model):
    spec, a, _ = pair(model)
    indices = spec.random(3)
    assert set(like(spec)) == set(indices)
    assert_same_state(soft_permute(spec, a, vertices(indices, like(spec))), spec.permute(a, indices))


def test_an_average_of_vertices_averages_networks_that_differ_in_one_group():
    spec, a, _ = pair("shallow_cnn(width=8, in_channels=1, size=12)")
    name = spec.groups[1].name
    first, second = spec.identity(), spec.identity() | {name: spec.random(1)[name]}
    soft = blend(vertices(first, like(spec)), vertices(second, like(spec)), 0.25)
    mixed, moved = soft_permute(spec, a, soft), spec.permute(a, second)
    for tensor, value in mixed.items():
        torch.testing.assert_close(value, 0.75 * a[tensor] + 0.25 * moved[tensor])


@pytest.mark.parametrize("model", [MODELS[1], MODELS[3]])
def test_gradients_are_those_of_finite_differences(model):
    spec, a, b = pair(model, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    soft = {
        group.name: torch.rand(group.size, group.size, generator=generator, dtype=torch.float64)
        for group in soft_groups(spec)
    }
    objective = Objective(spec, a, b, soft)
    value, gradients = objective.gradients(soft)
    assert value == pytest.approx(objective.value(soft), rel=1e-12)
    for name, matrix in soft.items():
        step = torch.zeros_like(matrix)
        step[1, 2] = 1e-4
        up, down = (objective.value(soft | {name: matrix + sign * step}) for sign in (1, -1))
        assert float(gradients[name][1, 2]) == pytest.approx((up - down) / 2e-4, rel=1e-6)


def test_the_degree_counts_groups_that_meet_in_one_tensor():
    spec = trace(Merge().eval(), (torch.randn(2, 6),))
    names = like(spec)
    assert degree(spec, "both.weight", names) == 2  # rows, and one of two segments of the columns
    assert degree(spec, "head.weight", names) == 1
    assert degree(spec, "head.bias", names) == 0


def test_heads_and_their_coordinates_stay_out():
    torch.manual_seed(0)
    module = Encoder(norm_first=True).eval()
    spec = trace(module, (torch.randn(2, 4, 5),))
    soft = soft_groups(spec)
    bases = {name for group in spec.groups for name in group.base}
    assert soft
    assert not any(group.base or group.name in bases for group in soft)
    assert len(soft) < len(spec.groups)
    assert f"{len(spec.groups) - len(soft)} groups" in held_note(spec, "wait")[0]
    state = module.state_dict()
    indices = {group.name: np.random.default_rng(0).permutation(group.size) for group in soft}
    moved = soft_permute(spec, state, vertices(indices, like(spec)))
    assert_same_state(dict(moved), spec.permute(state, spec.identity() | indices))


def test_networks_without_insides_have_no_note():
    spec = trace(build("mlp(64, 12, 9, 10)"), example("mlp(64, 12, 9, 10)"))
    assert held_note(spec, "wait") == ()
