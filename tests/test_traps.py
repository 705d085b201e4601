"""Known traps of the field, each with a test that fails on the wrong version; others stand with the code concerned."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastmatch import Permutation, Split, certify, match_activations, match_weights, trace
from tests.problems import build, example

MODEL = "mlp(64, 16, 12, 10)"


def pair(model=MODEL, noise=0.0):
    """Network a and a noised permuted copy b."""
    module = build(model)
    a = module.state_dict()
    spec = trace(module, example(model))
    b = Permutation.random(spec, 5).apply(a)
    generator = torch.Generator().manual_seed(7)
    noised = {
        name: tensor + noise * torch.randn(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor
        for name, tensor in b.items()
    }
    return module, spec, a, noised


def inner(a, b, names):
    return sum(float((a[name].double() * b[name].double()).sum()) for name in names)


@pytest.mark.parametrize("noise", [0.0, 0.05, 1.0])
def test_weight_matching_ends_with_a_sweep_that_changes_nothing_and_never_loses(noise):
    _, spec, a, b = pair(noise=noise)
    match = match_weights(spec, a, b)
    assert match.status == "converged"
    assert match.objective_after >= match.objective_before
    assert match.objective_after == pytest.approx(inner(a, match.permutation.apply(b), a), rel=1e-12)
    again = match_weights(spec, a, match.permutation.apply(b))
    assert again.permutation == Permutation.identity(spec)
    assert again.sweeps == 1


def test_without_any_gain_the_incumbent_stays():
    """Gains below float32 rounding must neither move units nor keep the sweeps going."""
    _, spec, a, b = pair("mlp(64, 16, 10)")
    flat = {name: torch.full_like(tensor, 0.1) for name, tensor in b.items()}
    match = match_weights(spec, a, flat)
    assert match.permutation == Permutation.identity(spec)
    assert match.sweeps == 1


def test_restarts_keep_the_best_objective_and_report_all():
    _, spec, a, b = pair(noise=1.0)
    match = match_weights(spec, a, b, restarts=5)
    assert len(match.restarts) == 5
    assert match.objective_after == max(match.restarts)
    assert match.restarts[0] == match_weights(spec, a, b).objective_after


def test_dead_units_are_counted_and_never_nan(digits):
    module, spec, a, b = pair()
    for state in (a, b):
        state["linear1.weight"][3] = 0.0
        state["linear1.bias"][3] = -1.0
    match = match_activations(spec, module, a, b, digits.train.take(200))
    group = match.groups[0]
    assert group.dead_units >= 1
    assert np.isfinite([group.objective_before, group.objective_after, match.objective_after]).all()


def test_running_statistics_are_permuted_but_not_matched():
    model = "mlp(64, 16, 10, norm=batch)"
    _, spec, a, b = pair(model)
    shuffled = dict(b)
    for name in ("norm1.running_mean", "norm1.running_var"):
        shuffled[name] = 1000 * torch.rand(16)
    permutation = match_weights(spec, a, shuffled).permutation
    assert permutation == match_weights(spec, a, b).permutation
    index = torch.from_numpy(permutation.indices["linear1"].copy())
    moved = permutation.apply(shuffled)
    torch.testing.assert_close(moved["norm1.running_var"], shuffled["norm1.running_var"][index], rtol=0, atol=0)


def test_statistics_left_behind_are_another_function():
    module, spec, a, _ = pair("mlp(64, 16, 10, norm=batch)")
    a = {name: torch.rand_like(tensor) if tensor.is_floating_point() else tensor for name, tensor in a.items()}
    permutation = Permutation.random(spec, 0)
    inputs = (torch.randn(4, 64),)
    assert certify(spec, module, a, permutation.indices, inputs).passed
    moved = permutation.apply(a) | {"norm1.running_var": a["norm1.running_var"]}
    with torch.no_grad():
        outputs = [torch.func.functional_call(module, state, inputs) for state in (a, moved)]
    assert not torch.allclose(*outputs, rtol=1e-3)


def test_inputs_and_outputs_of_the_network_stay_in_order():
    for model in (MODEL, "vgg11(width=4, in_channels=3, size=8)", "resnet20(width=1, size=8)"):
        module = build(model)
        spec = trace(module, example(model))
        state = {name: torch.rand_like(tensor) for name, tensor in module.state_dict().items()}
        moved = Permutation.random(spec, 0).apply(state)
        first, *_, last = state
        assert torch.equal(moved[last], state[last])
        assert torch.equal(moved[first].sort(0).values.sum(0), state[first].sort(0).values.sum(0))
        certificate = certify(spec, module, state, spec.random(0), example(model))
        assert certificate.passed


def test_a_planted_permutation_is_found_in_the_right_direction():
    """P and its inverse both give an equivalent network; only one lines b up with a."""
    _, spec, a, b = pair()
    aligned = match_weights(spec, a, b).permutation.apply(b)
    for name, tensor in a.items():
        torch.testing.assert_close(aligned[name], tensor, rtol=0, atol=0)


_SCRIPT = """
import sys
sys.path.insert(0, {root!r})
import hashlib, torch
torch.set_num_threads(1)
from fastmatch import load_data, match_activations, match_weights
from tests.test_traps import pair
module, spec, a, b = pair("resnet20(width=1, in_channels=1, size=8)", noise=0.3)
digest = hashlib.sha256(spec.digest.encode())
data = load_data("digits", limit=100).train
for match in (match_weights(spec, a, b, seed=4, restarts=2), match_activations(spec, module, a, b, data)):
    arrays = [index.tolist() for index in match.permutation.indices.values()]
    digest.update(str((arrays, match.objective_after)).encode())
print(digest.hexdigest())
"""


def test_one_seed_gives_one_result_whatever_the_hash_seed():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    results = set()
    for hash_seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", _SCRIPT.format(root=root)]
        results.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(results) == 1


class Recorder(nn.Module):
    """Remembers every batch it saw outside tracing, and whether it was in training mode."""

    def __init__(self):
        super().__init__()
        self.hidden, self.drop, self.out = nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 2)

    def forward(self, x):
        return self.out(self.drop(F.relu(self.hidden(x))))


def test_both_networks_see_the_same_batches(monkeypatch):
    from fastmatch.symmetry import GraphRunner

    seen = []
    original = GraphRunner.activations
    monkeypatch.setattr(
        GraphRunner,
        "activations",
        lambda self, state, inputs: (seen.append(inputs[0].clone()), original(self, state, inputs))[1],
    )
    module = Recorder()
    spec = trace(module, (torch.randn(2, 4),))
    data = Split(torch.randn(50, 4), torch.zeros(50, dtype=torch.int64))
    state = module.state_dict()
    match = match_activations(spec, module, state, state, data, batch_size=20)
    assert match.permutation == Permutation.identity(spec)
    assert match.examples == 50
    for first, second in zip(seen[::2], seen[1::2], strict=True):
        assert torch.equal(first, second)
    assert torch.equal(torch.cat(seen[::2]), data.inputs)


def test_dropout_and_batch_norm_are_in_evaluation_mode_and_restored_after():
    module = Recorder().train()
    spec = trace(module, (torch.randn(2, 4),))
    data = Split(torch.randn(400, 4), torch.zeros(400, dtype=torch.int64))
    planted = Permutation.random(spec, 1)
    state = module.state_dict()
    match = match_activations(spec, module, state, planted.apply(state), data, similarity="pearson")
    assert match.permutation == planted.invert()
    assert match.objective_after == pytest.approx(sum(6 - group.dead_units for group in match.groups), abs=1e-4)
    assert spec.certify(module, (torch.randn(2, 4),)).passed
    assert module.training
    assert module.drop.training
