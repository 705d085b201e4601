"""Frank-Wolfe: planted permutations, exact steps, and never worse than its start."""

import numpy as np
import pytest
import torch

from fastmatch import Permutation, match_frank_wolfe, match_weights, trace
from fastmatch.errors import OptionError, PermutationError
from fastmatch.matching import Stop
from fastmatch.matching.frank_wolfe import _Ascent
from fastmatch.matching.problem import Problem
from fastmatch.matching.relaxed import blend, vertices
from tests.matching.test_weights import pair
from tests.problems import assert_same_state
from tests.zoo.attention import Encoder

RESNET = "resnet20(width=1, norm=batch, in_channels=1, size=8)"


@pytest.mark.parametrize("model", ["mlp(64, 24, 20, 10)", RESNET])
@pytest.mark.parametrize("seed", range(2))
def test_planted_permutations_are_recovered(model, seed):
    spec, a, _ = pair(model, seed=seed)
    planted = Permutation.random(spec, seed + 5)
    match = match_frank_wolfe(spec, a, planted.apply(a), seed=seed)
    assert match.permutation == planted.invert()
    assert match.method == "frank_wolfe"
    assert match.notes == ()


def test_attention_is_finished_by_coordinate_descent():
    torch.manual_seed(0)
    module = Encoder(norm_first=True).eval()
    spec, a = trace(module, (torch.randn(2, 4, 5),)), module.state_dict()
    planted = Permutation.random(spec, 1)
    match = match_frank_wolfe(spec, a, planted.apply(a))
    assert_same_state(match.permutation.apply(planted.apply(a)), dict(a))
    assert "coordinate descent" in match.notes[0]


@pytest.mark.parametrize("model", ["mlp(64, 40, 30, 20, 10, norm=layer)", RESNET])
def test_the_result_is_a_local_optimum_no_worse_than_the_start(model):
    spec, a, b = pair(model, noise=4)
    for start in (None, Permutation.random(spec, 2)):
        match = match_frank_wolfe(spec, a, b, start=start, steps=20)
        begun = b if start is None else start.apply(b)
        names = [name for name, layout in spec.tensors.items() if not layout.buffer]
        assert match.objective_after >= sum(float((a[name].double() * begun[name].double()).sum()) for name in names)
        again = match_weights(spec, a, b, start=match.permutation)
        assert again.objective_after == pytest.approx(match.objective_after, rel=1e-9)


def test_steps_end_where_the_objective_is_largest():
    spec, a, b = pair("mlp(64, 24, 20, 16, 10)", noise=8, dtype=torch.float64)
    ascent = _Ascent(Problem(spec, a, b), spec.identity())
    inside = 0
    for seed in range(30):
        soft, ends = (vertices(spec.random(side + seed), ascent.start) for side in (0, 100))
        value, gradients = ascent._objective.gradients(soft)
        slope = sum(float((gradients[name] * (ends[name] - soft[name])).sum()) for name in soft)
        if slope <= 0:
            continue
        step = ascent._step(soft, ends, value, slope)
        found = ascent._objective.value(blend(soft, ends, step))
        grid = [ascent._objective.value(blend(soft, ends, share)) for share in np.linspace(0.05, 1, 20)]
        assert found >= max(grid) - 1e-9 * abs(value)
        inside += step < 1
    assert inside


def test_random_starts_are_doubly_stochastic_and_more_of_them_are_never_worse():
    spec, a, b = pair("mlp(64, 24, 20, 10)", noise=8)
    soft = _Ascent(Problem(spec, a, b), spec.identity()).random(np.random.default_rng(0))
    for matrix in soft.values():
        torch.testing.assert_close(matrix.sum(0), torch.ones(len(matrix)), rtol=1e-5, atol=0)
        torch.testing.assert_close(matrix.sum(1), torch.ones(len(matrix)), rtol=1e-5, atol=0)
    told = []
    match = match_frank_wolfe(spec, a, b, restarts=3, progress=lambda *state: told.append(state))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert match.objective_after == max(match.restarts)
    assert match.restarts == match_frank_wolfe(spec, a, b, restarts=3).restarts
    assert match.restarts[:1] == match_frank_wolfe(spec, a, b).restarts


def test_a_search_that_is_stopped_returns_its_best():
    def impatient(done, total):
        raise Stop

    spec, a, b = pair("mlp(64, 24, 20, 10)", noise=4)
    found = match_frank_wolfe(spec, a, b, restarts=3, progress=impatient)
    assert len(found.restarts) == 1
    assert found.permutation == match_frank_wolfe(spec, a, b).permutation


def test_bad_options_and_weights_are_refused():
    spec, a, b = pair("mlp(64, 24, 20, 10)")
    with pytest.raises(OptionError, match="steps must be at least 1"):
        match_frank_wolfe(spec, a, b, steps=0)
    with pytest.raises(OptionError, match="restarts must be at least 1"):
        match_frank_wolfe(spec, a, b, restarts=0)
    with pytest.raises(PermutationError, match="holds NaN"):
        match_frank_wolfe(spec, a, b | {"linear1.weight": torch.full_like(b["linear1.weight"], torch.nan)})
