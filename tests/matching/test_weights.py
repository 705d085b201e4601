"""The weight matching engine against the plain algorithm, and what it keeps, skips and drops."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from fastmatch import Permutation, match_weights, trace
from fastmatch.errors import OptionError, PermutationError
from fastmatch.matching import descent, outcome, similarities, weights
from fastmatch.matching.comparison import Comparison, Positions
from fastmatch.matching.descent import Descent
from fastmatch.matching.problem import Problem
from fastmatch.matching.reference import match_weights_plainly
from fastmatch.matching.similarities import Similarities
from tests.problems import build, example

MODELS = [
    "mlp(64, 40, 30, 20, 10, norm=layer)",
    "shallow_cnn(width=8, in_channels=1, size=12)",
    "vgg11(width=4, norm=batch, in_channels=1, size=8)",
    "resnet20(width=1, norm=layer, in_channels=1, size=8)",
    "resnet50(width=8, norm=none, in_channels=1, size=8)",
]


class Merge(torch.nn.Module):
    """Two branches side by side on one axis, and one of them on a third parameter."""

    def __init__(self):
        super().__init__()
        self.left, self.right = torch.nn.Linear(6, 12), torch.nn.Linear(6, 9)
        self.both, self.head = torch.nn.Linear(21, 15), torch.nn.Linear(15, 3)

    def forward(self, x):
        both = torch.cat([torch.relu(self.left(x)), torch.tanh(self.right(x))], dim=-1)
        return self.head(torch.relu(self.both(both)))


def pair(model, noise=1.5, seed=0, dtype=torch.float32):
    """A spec, a network, and a permuted copy of it under so much noise that matching takes several sweeps."""
    network = Merge().eval() if model == "merge" else build(model, seed)
    inputs = (torch.randn(2, 6),) if model == "merge" else example(model)
    spec = trace(network, inputs)
    generator = torch.Generator().manual_seed(seed)
    a = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    b = Permutation.random(spec, seed).apply(a)
    for name, layout in spec.tensors.items():
        if not layout.buffer and a[name].dim() > 1:
            b[name] = b[name] + noise * a[name].std() * torch.randn(a[name].shape, generator=generator)
    return spec, *({name: t.to(dtype) if t.is_floating_point() else t for name, t in s.items()} for s in (a, b))


def assert_same(match, indices):
    for name, index in indices.items():
        np.testing.assert_array_equal(match.permutation.indices[name], index, err_msg=name)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("model", [*MODELS, "merge"])
def test_the_engine_takes_the_steps_of_the_plain_algorithm(model, seed):
    spec, a, b = pair(model, seed=seed)
    indices, sweeps = match_weights_plainly(spec, a, b, seed=seed)
    match = match_weights(spec, a, b, seed=seed)
    assert_same(match, indices)
    assert match.sweeps == sweeps > 2
    assert match.status == "converged"


@pytest.mark.parametrize("seed", range(5))
def test_gains_that_float32_hardly_sees_are_decided_alike(seed):
    spec, a, _ = pair("mlp(64, 24, 20, 10)", seed=seed, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    for group in spec.groups:
        for place in spec.matched(group):
            units = a[place.tensor].movedim(place.axis, 0)
            units[1::2] = units[::2] * (
                1 + 1e-3 * torch.randn(units[::2].shape, generator=generator, dtype=a[place.tensor].dtype)
            )
    b = Permutation.random(spec, seed).apply(a)
    b = {name: weight * (1 + 1e-3 * torch.randn(weight.shape, generator=generator)) for name, weight in b.items()}
    indices, _ = match_weights_plainly(spec, a, b, seed=seed)
    assert_same(match_weights(spec, a, b, seed=seed), indices)


def test_the_objective_is_that_of_the_permuted_weights_in_float64():
    spec, a, b = pair(MODELS[3])
    match = match_weights(spec, a, b)
    aligned = match.permutation.apply(b)
    names = [name for name, layout in spec.tensors.items() if not layout.buffer]
    expected = sum(float((a[name].double() * aligned[name].double()).sum()) for name in names)
    assert match.objective_after == pytest.approx(expected, rel=1e-12)
    before = sum(float((a[name].double() * b[name].double()).sum()) for name in names)
    assert match.objective_before == pytest.approx(before, rel=1e-12)


def moves(spec, steps, seed=0):
    """Index arrays of a run in which some groups move, some units at a time."""
    rng = np.random.default_rng(seed)
    indices = spec.random(rng)
    for _ in range(steps):
        for name in list(indices):
            if rng.random() < 0.6:
                index = indices[name].copy()
                some = rng.choice(len(index), max(2, len(index) // 4), replace=False)
                index[some] = index[np.roll(some, 1)]
                indices[name] = index
        yield dict(indices)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("model", [*MODELS, "merge"])
@pytest.mark.parametrize("entries", [1 << 25, 100])
def test_differences_add_up_to_the_similarity(model, dtype, entries, monkeypatch):
    monkeypatch.setattr(sys.modules["fastmatch.kernels.gram.reference"], "_ENTRIES", entries)
    monkeypatch.setattr(similarities, "_FEW", 0)
    spec, a, b = pair(model, dtype=dtype)
    problem = Problem(spec, a, b)
    positions = Positions(spec, {})
    kept = Similarities(problem, positions, 1 << 30, {})
    assert set(problem.terms) == {group.name for group in spec.groups}
    for indices in moves(spec, 4):
        positions.indices.update(indices)
        for name, group in problem.groups.items():
            aligned = spec.permute(b, indices)
            pairs = [(p.units(a[p.tensor]).double(), p.units(aligned[p.tensor]).double()) for p in spec.matched(group)]
            expected = sum(first @ second.T for first, second in pairs)
            found = kept.matrix(name)[:, torch.from_numpy(indices[name])]
            scale = float(expected.abs().max())
            assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
            atol = scale * (1e-13 if dtype == torch.float64 else 3e-6)
            torch.testing.assert_close(found.double(), expected, rtol=0, atol=atol)
            rows = np.arange(0, group.size, 3)
            exact = kept.exact(name, rows, indices[name][rows])
            np.testing.assert_allclose(exact, expected.diagonal()[rows], rtol=0, atol=1e-12 * scale)
            assert not kept.drifted(name, indices[name])
    assert max(kept.differences.values()) == 3


def test_matrices_that_are_dropped_are_computed_anew(monkeypatch):
    spec, a, b = pair(MODELS[3])
    expected = match_weights(spec, a, b, seed=1)
    monkeypatch.setattr(weights, "_LEAST", 0)
    monkeypatch.setattr(weights, "_MOST", 10_000)
    assert match_weights(spec, a, b, seed=1).permutation == expected.permutation
    monkeypatch.setattr(similarities, "_DIFFERENCES", 1)
    assert match_weights(spec, a, b, seed=1).permutation == expected.permutation


def test_a_group_is_visited_only_when_something_beside_it_moved(monkeypatch):
    spec, a, b = pair(MODELS[0])
    solved = []
    monkeypatch.setattr(outcome, "solve_batch", lambda m, warm: solved.extend(m) or solve_batch(m, warm=warm))
    match = match_weights(spec, a, b)
    assert len(spec.groups) < len(solved) < match.sweeps * len(spec.groups)
    solved.clear()
    again = match_weights(spec, a, b, start=match.permutation)
    assert (again.sweeps, len(solved)) == (1, len(spec.groups))


solve_batch = outcome.solve_batch


def test_every_assignment_begins_with_the_last_one_of_its_group(monkeypatch):
    spec, a, b = pair(MODELS[0])
    starts = []
    monkeypatch.setattr(outcome, "solve_batch", lambda m, warm: starts.extend(warm) or solve_batch(m, warm=warm))
    match_weights(spec, a, b)
    assert [start is None for start in starts].count(True) == len(spec.groups)


def test_similarities_that_float64_does_not_confirm_are_asked_once_more(monkeypatch):
    monkeypatch.setattr(similarities, "_FEW", 0)
    spec, a, b = pair(MODELS[0])
    expected = match_weights(spec, a, b)
    differences = Comparison.differences

    def wrong(self, before, now):
        for summand in differences(self, before, now):
            yield summand._replace(b=summand.b * 1.5)

    monkeypatch.setattr(Comparison, "differences", wrong)
    forgotten = []
    forget = Similarities.forget
    monkeypatch.setattr(Similarities, "forget", lambda self, name: forgotten.append(name) or forget(self, name))
    found = match_weights(spec, a, b)
    assert forgotten
    assert found.objective_after == pytest.approx(expected.objective_after, rel=0.02)
    monkeypatch.setattr(Comparison, "differences", differences)
    assert match_weights(spec, a, b, start=found.permutation).objective_after == found.objective_after


def test_a_gain_that_float32_cannot_tell_is_worked_out_in_float64():
    spec, a, _ = pair("mlp(64, 8, 10)")
    b = {name: tensor.clone() for name, tensor in a.items()}
    index = np.array([1, 0, *range(2, 8)])
    name = spec.groups[0].name
    run = Descent(Problem(spec, a, b), np.random.default_rng(0), spec.identity(), 1 << 30, None)
    matrix = run.similarities.matrix(name).numpy()
    tied = np.zeros_like(matrix)
    assert not run._accept(name, tied, index)
    assert (run.indices[name] == np.arange(8)).all()
    run.indices[name] = index
    assert run._accept(name, tied, np.arange(8))
    assert (run.indices[name] == np.arange(8)).all()


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_restarts_do_not_depend_on_what_runs_beside_them(cores, monkeypatch):
    spec, a, b = pair(MODELS[0], noise=8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)))
    match = match_weights(spec, a, b, seed=3, restarts=4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})
    alone = match_weights(spec, a, b, seed=3, restarts=1)
    assert match.restarts[0] == alone.objective_after
    assert match.objective_after == max(match.restarts)
    assert len(set(match.restarts)) > 1
    assert match.restarts == match_weights(spec, a, b, seed=3, restarts=4).restarts


def test_progress_is_told_of_every_start():
    spec, a, b = pair(MODELS[0])
    told = []
    match_weights(spec, a, b, restarts=3, progress=lambda *state: told.append(state))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_start_is_where_the_descent_begins():
    spec, a, _ = pair(MODELS[3])
    planted = Permutation.random(spec, 5)
    b = planted.apply(a)
    match = match_weights(spec, a, b, start=planted.invert())
    assert match.permutation == planted.invert()
    assert match.sweeps == 1
    before = {name: index.copy() for name, index in planted.indices.items()}
    match_weights(spec, a, b, start=planted)
    assert all(np.array_equal(before[name], index) for name, index in planted.indices.items())


def test_bad_starts_and_weights_are_refused():
    spec, a, b = pair(MODELS[0])
    other, _, _ = pair(MODELS[1])
    with pytest.raises(PermutationError, match="the start has other groups than a and b"):
        match_weights(spec, a, b, start=Permutation.identity(other))
    with pytest.raises(OptionError, match="restarts must be at least 1"):
        match_weights(spec, a, b, restarts=0)
    b["linear1.weight"] = torch.full_like(b["linear1.weight"], float("nan"))
    with pytest.raises(PermutationError, match="weight' of network b holds NaN"):
        match_weights(spec, a, b)


class Counting(Mapping):
    """A state dict that hands out copies and knows which are still referred to."""

    def __init__(self, state):
        self.state, self.alive, self.most = state, [], 0

    def __getitem__(self, name):
        tensor = self.state[name].clone()
        self.alive = [reference for reference in self.alive if reference() is not None]
        self.alive.append(weakref.ref(tensor))
        self.most = max(self.most, len(self.alive))
        return tensor

    def __iter__(self):
        return iter(self.state)

    def __len__(self):
        return len(self.state)


def test_tensors_are_let_go_after_use(monkeypatch):
    monkeypatch.setattr(sys.modules["fastmatch.kernels.gram.reference"], "_SMALL", 0)  # small pairs are joined
    spec, a, b = pair(MODELS[3])
    lazy = Counting(a), Counting(b)
    assert match_weights(spec, *lazy).permutation == match_weights(spec, a, b).permutation
    assert max(side.most for side in lazy) <= 3


def test_no_run_needs_more_sweeps_than_the_limit(monkeypatch):
    monkeypatch.setattr(descent, "MAX_SWEEPS", 1)
    assert match_weights(*pair(MODELS[0])).status == "sweep limit"


def test_matrices_go_with_the_run_that_needed_them(monkeypatch):
    runs = []
    begin = Descent.__init__
    monkeypatch.setattr(Descent, "__init__", lambda self, *rest: runs.append(self) or begin(self, *rest))
    spec, a, b = pair(MODELS[0], noise=8)
    match_weights(spec, a, b, restarts=5)
    assert len(runs) == 5
    assert not any(run.similarities._matrices for run in runs)
    assert runs[0].similarities.still is runs[4].similarities.still


@pytest.mark.parametrize("budget", [0, 1 << 30])
def test_sums_that_starts_share_are_kept_within_the_budget(budget):
    spec, a, b = pair(MODELS[0])
    problem, still = Problem(spec, a, b), {}
    kept = Similarities(problem, Positions(spec, spec.identity()), budget, still)
    first = kept.matrix(spec.groups[0].name).clone()
    assert set(still) == ({spec.groups[0].name} if budget else set())
    kept.forget(spec.groups[0].name)
    torch.testing.assert_close(kept.matrix(spec.groups[0].name), first)


def test_networks_that_are_being_trained_can_be_matched():
    spec, a, b = pair(MODELS[0])
    expected = match_weights(spec, a, b).permutation
    tracked = ({name: tensor.requires_grad_(tensor.is_floating_point()) for name, tensor in s.items()} for s in (a, b))
    assert match_weights(spec, *tracked).permutation == expected
