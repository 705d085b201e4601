"""One permutation for several checkpoints: planted ones are found again, objectives are sums over the pairs."""

import numpy as np
import pytest
import torch

from fastmatch import Permutation, match_activations, match_weights, trace
from fastmatch.errors import OptionError, PermutationError
from fastmatch.matching.several import pairs_of, side_by_side
from tests.problems import build, example

MODELS = [
    "mlp(64, 24, 20, 10, norm=batch)",
    "vgg11(width=4, norm=layer, in_channels=1, size=8)",
]


def trajectory(model, count=3):
    return [build(model, seed).state_dict() for seed in range(count)]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("method", ["weight", "activation"])
def test_the_permutation_of_a_whole_trajectory_is_recovered(model, method, digits):
    module, states = build(model), trajectory(model)
    spec = trace(module, example(model))
    planted = Permutation.random(spec, 7)
    moved = [planted.apply(state) for state in states]
    if method == "weight":
        match = match_weights(spec, states, moved)
    else:
        match = match_activations(spec, module, states, moved, digits.train.take(200))
    assert match.permutation == planted.invert()
    assert match.permutation.spec is spec


def noisy(state, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: value + scale * value.std() * torch.randn(value.shape, generator=generator) if value.dim() > 1 else value
        for name, value in state.items()
    }


def test_together_checkpoints_tell_what_each_alone_does_not():
    model = "mlp(64, 24, 20, 10)"
    states, spec = trajectory(model, 6), trace(build(model), example(model))
    planted = Permutation.random(spec, 3)
    moved = [noisy(planted.apply(state), 4.0, seed) for seed, state in enumerate(states)]
    alone = [match_weights(spec, a, b).permutation for a, b in zip(states, moved, strict=True)]
    shared = [sum(one.fixed_points(planted.invert()).values()) for one in alone]
    together = match_weights(spec, states, moved).permutation
    assert sum(together.fixed_points(planted.invert()).values()) > max(shared)


def test_objectives_are_sums_over_the_pairs(digits):
    model = MODELS[0]
    module, states = build(model), trajectory(model, 4)
    spec = trace(module, example(model))
    a, b = states[:2], states[2:]
    data = digits.train.take(100)
    for joint, single in (
        (match_weights(spec, a, b), [match_weights(spec, *pair) for pair in zip(a, b, strict=True)]),
        (
            match_activations(spec, module, a, b, data),
            [match_activations(spec, module, *pair, data) for pair in zip(a, b, strict=True)],
        ),
    ):
        assert joint.objective_before == pytest.approx(sum(match.objective_before for match in single), rel=1e-6)
        assert joint.objective_after < sum(match.objective_after for match in single)


def test_a_sequence_of_one_is_that_one():
    model = MODELS[0]
    a, b = trajectory(model, 2)
    spec = trace(build(model), example(model))
    one, other = match_weights(spec, a, b), match_weights(spec, [a], [b])
    assert one.permutation == other.permutation
    assert one.objective_after == other.objective_after


def test_joined_networks_have_every_tensor_once_and_the_same_groups():
    model = MODELS[1]
    states, spec = trajectory(model, 2), trace(build(model), example(model))
    wide, a, _ = side_by_side(spec, pairs_of(spec, states, states))
    assert len(a) == len(list(a)) == 2 * len(states[0])
    assert sum(tensor.numel() for tensor in a.values()) == sum(t.numel() for state in states for t in state.values())
    assert [(g.name, g.size) for g in wide.groups] == [(g.name, g.size) for g in spec.groups]
    wide.check_state(a)


def test_sides_that_do_not_fit_are_refused():
    model = MODELS[0]
    states, spec = trajectory(model, 3), trace(build(model), example(model))
    with pytest.raises(OptionError, match="2 checkpoints of network a and 1 of b"):
        match_weights(spec, states[:2], states[2:])
    with pytest.raises(OptionError, match="at least one"):
        match_weights(spec, [], [])
    other = build("mlp(64, 12, 20, 10, norm=batch)").state_dict()
    with pytest.raises(PermutationError, match="checkpoint 1 of network b"):
        match_weights(spec, states[:2], [states[2], other])
    broken = dict(states[1])
    broken["linear1.weight"] = torch.full_like(broken["linear1.weight"], np.nan)
    with pytest.raises(PermutationError, match="NaN"):
        match_weights(spec, states[:2], [states[2], broken])
