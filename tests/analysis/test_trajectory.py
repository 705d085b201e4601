"""A permutation of one step, measured at all of them: planted answers, the barriers of each pair, and what is known."""

import json

import numpy as np
import pytest
import torch

from fastmatch import Permutation, barrier, trace
from fastmatch.analysis import fixed_fraction, simultaneous_barriers, trajectory
from fastmatch.errors import OptionError
from fastmatch.interpolation.pairs import Segments
from tests.analysis.trained import STEPS, data, module, run, spec


@pytest.fixture
def some():
    return data().take(80)


def moved(states, permutation):
    return {step: permutation.apply(state) for step, state in states.items()}


@pytest.mark.parametrize("method", ["weight", "activation"])
def test_a_permuted_copy_is_recovered_at_every_step_and_has_no_barrier(method, some):
    planted = Permutation.random(spec(), 5)
    a = run(0)
    found = trajectory(module(), spec(), a, moved(a, planted), some, method=method, joint=True, alphas=5)
    assert found.rows == ("unaligned", "0", "12", "24", "joint")
    assert all(permutation == planted.invert() for permutation in found.permutations.values())
    np.testing.assert_allclose(found.matrix()[1:], 0, atol=1e-6)
    assert (found.matrix(quantity="error")[1:] == 0).all()
    assert found.matrix()[0, -1] > 0.1
    assert set(found.fixed_fraction().values()) == {1.0}
    assert found.fixed_points()["0"] == {group.name: group.size for group in spec().groups}


def test_a_run_against_itself_has_no_barrier_anywhere(some):
    found = simultaneous_barriers(module(), run(0), run(0), some, {"none": Permutation.identity(spec())}, alphas=5)
    for split in ("train", "test"):
        np.testing.assert_allclose(found.matrix(split=split), 0, atol=1e-6)


def test_every_entry_is_the_barrier_of_that_pair(some):
    a, b = run(0), run(1)
    found = trajectory(module(), spec(), a, b, some, at=[12], alphas=5)
    assert found.rows == ("unaligned", "12")
    permutation = found.permutations["12"]
    for column, step in enumerate(STEPS):
        expected = barrier(module(), a[step], b[step], some, permutation=permutation, alphas=5).curves
        for row, name in enumerate(("unaligned", "aligned")):
            for split in ("train", "test"):
                height = expected[name][split].loss
                assert found.matrix(split=split)[row, column] == pytest.approx(height.linear, abs=1e-6)
                spread = found.matrix(split=split, definition="linear_se")[row, column]
                assert spread == pytest.approx(height.linear_se, abs=1e-6)


def test_the_latest_step_is_the_reference_of_fixed_points(some):
    found = trajectory(module(), spec(), run(0), run(1), some, at=[24, 0], joint=True, alphas=2)
    assert found.reference == "24"
    assert found.fixed_fraction()["24"] == 1.0
    shared = found.permutations["0"].fixed_points(found.permutations["24"])
    assert found.fixed_points()["0"] == shared
    assert found.fixed_fraction()["0"] == sum(shared.values()) / 44
    assert fixed_fraction(Permutation.identity(spec())) == 1.0


def test_what_is_known_is_not_computed_again(some, monkeypatch):
    known, calls, ticks = {}, [], []
    arguments = (module(), spec(), run(0), run(1), some)
    first = trajectory(*arguments, at=[24], alphas=3, known=known)
    assert set(known) == {"permutation 24", *(f"barrier {row} {step}" for row in ("unaligned", "24") for step in STEPS)}
    del known["barrier 24 12"]
    known = json.loads(json.dumps(known))
    original = Segments.__call__
    monkeypatch.setattr(Segments, "__call__", lambda self, *pair: calls.append(pair[0]) or original(self, *pair))
    again = trajectory(*arguments, at=[24], alphas=3, known=known, progress=lambda *tick: ticks.append(tick))
    assert calls == [(1, 4)]
    assert ticks == [(number, 7) for number in range(1, 8)]
    assert again.to_json() == first.to_json()
    json.dumps(again.to_json())


def test_bad_runs_are_refused(some):
    a, b = run(0), run(1)
    arguments = (module(), spec())
    with pytest.raises(OptionError, match="only the first run has step 12"):
        trajectory(*arguments, a, {step: b[step] for step in (0, 24)}, some)
    with pytest.raises(OptionError, match="at least two steps"):
        trajectory(*arguments, {0: a[0]}, {0: b[0]}, some)
    with pytest.raises(OptionError, match="no step 7; the runs have 0, 12, 24"):
        trajectory(*arguments, a, b, some, at=[7])
    with pytest.raises(OptionError, match="'weights' is unknown; choose weight or activation"):
        trajectory(*arguments, a, b, some, method="weights")
    with pytest.raises(OptionError, match="no step to match at"):
        trajectory(*arguments, a, b, some, at=[])
    with pytest.raises(OptionError, match="cannot be called"):
        simultaneous_barriers(module(), a, b, some, {"unaligned": Permutation.identity(spec())})


def test_a_permutation_of_no_units_agrees_with_every_other():
    linear = torch.nn.Linear(4, 2)
    assert fixed_fraction(Permutation.identity(trace(linear, (torch.randn(2, 4),)))) == 1.0
