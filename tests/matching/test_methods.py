"""Methods by name, the one that chooses, and what they say of options they do not take."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from fastmatch import METHODS, Pair, Permutation, check_options, evaluate, match, trace, training
from fastmatch.errors import DataError, OptionError
from fastmatch.matching import Stop, match_weights
from fastmatch.matching.midpoint import HELD, Midpoint, hold_back, lowest

MODEL = "mlp(64, 16, 16, 10)"
CANDIDATES = {  # Of auto.
    "weight": {"method": "weight", "restarts": 5},
    "activation (summed)": {"method": "activation", "similarity": "summed"},
    "activation (pearson)": {"method": "activation", "similarity": "pearson"},
}


@pytest.fixture(scope="module")
def trained(digits):
    """A pair of networks trained on digits."""
    states = []
    for seed in (0, 1):
        module = training.initialise(MODEL, seed=seed)
        training.train(module, digits, training.Recipe(epochs=15, lr=5e-3, order_seed=seed))
        states.append(module.state_dict())
    return Pair(trace(module, (digits.train.inputs[:2],)), *states, module, digits.train)


@pytest.mark.parametrize("planted", [0, 1])
def test_auto_finds_a_planted_permutation(trained, planted):
    permutation = Permutation.random(trained.spec, planted)
    found = match(dataclasses.replace(trained, b=permutation.apply(trained.a)))
    assert found.permutation == permutation.invert()
    assert found.midpoints["unaligned"] > found.midpoints["weight"]


def test_auto_keeps_the_lower_loss_half_way_and_says_so(trained):
    found = match(trained, seed=3)
    kept = min(CANDIDATES, key=lambda name: found.midpoints[name])
    alone = match(trained, seed=3, **CANDIDATES[kept])
    assert found.permutation == alone.permutation
    assert found.method == "auto: " + kept
    assert f"{kept} matching is kept" in found.notes[-1]
    middle = evaluate(trained.module, [trained.a, found.permutation.apply(trained.b)], [[0.5, 0.5]], trained.data)
    assert found.midpoints[kept] == pytest.approx(middle.loss[0], rel=1e-6)


def test_auto_follows_the_judge(trained, monkeypatch):
    """Another one is kept where the loss half-way says so; users are told if it is none to be glad of."""
    kept = {}
    for best in CANDIDATES:
        losses = iter([*(1.0 if name == best else 2.0 for name in CANDIDATES), 0.5 if best == "weight" else 3.0])
        monkeypatch.setattr(Midpoint, "loss", lambda *_, losses=losses: next(losses))
        kept[best] = match(trained)
        assert ("no match is lower" in kept[best].notes[-1]) == (best == "weight")
    assert [found.method for found in kept.values()] == [f"auto: {name}" for name in CANDIDATES]
    assert all(found.permutation == match(trained, **CANDIDATES[name]).permutation for name, found in kept.items())


def test_auto_without_data_matches_weights(trained):
    bare = Pair(trained.spec, trained.a, trained.b)
    found = match(bare, "auto", seed=1)
    assert found.permutation == match_weights(trained.spec, trained.a, trained.b, seed=1, restarts=5).permutation


def test_auto_refuses_before_it_begins(trained, monkeypatch):
    monkeypatch.setattr("fastmatch.matching.auto.match_weights", None)
    bare = Pair(trained.spec, trained.a, trained.b)
    with pytest.raises(OptionError, match="effort high descends on training examples"):
        match(bare, "auto", effort="high")
    with pytest.raises(DataError, match="give the network and its data"):
        match(dataclasses.replace(bare, data=trained.data), "auto")


def test_losses_that_are_nan_are_not_the_lowest():
    assert lowest({"first": math.nan, "second": 3.0, "third": 2.0}) == "third"
    assert lowest({"first": 1.0, "second": math.nan}) == "first"


def test_high_effort_goes_on_from_the_best_one(trained):
    found, start = match(trained, effort="high"), match(trained)
    judge = Midpoint(trained.spec, trained.module, trained.a, trained.b, hold_back(trained.data).held)
    assert found.midpoints["start"] == pytest.approx(judge.loss(start.permutation.indices), rel=1e-6)
    assert found.objective_after == pytest.approx(judge.loss(found.permutation.indices), rel=1e-6)
    assert found.objective_after < found.midpoints["start"]
    assert found.notes[: len(start.notes)] == start.notes


def test_a_search_that_is_stopped_returns_its_best(trained):
    def impatient(done, total):
        if done == 30:
            raise Stop

    found = match(trained, "straight_through", progress=impatient)
    assert found.status == "stopped"
    assert found.sweeps == 30
    judge = Midpoint(trained.spec, trained.module, trained.a, trained.b, hold_back(trained.data).held)
    assert found.objective_after == pytest.approx(judge.loss(found.permutation.indices), rel=1e-6)


def test_methods_that_look_at_data_ask_for_them(trained):
    bare = Pair(trained.spec, trained.a, trained.b)
    for name, method in METHODS.items():
        if method.needs != "weights":
            with pytest.raises(DataError, match="looks at training examples"):
                match(bare, name)


def test_options_are_refused_by_name():
    with pytest.raises(OptionError, match="no restarts; leave it out, or use --method weight or frank_wolfe or auto"):
        check_options("activation", restarts=3)
    with pytest.raises(OptionError, match="method 'magic' is unknown; choose from weight, frank_wolfe"):
        check_options("magic")
    check_options("activation", restarts=None, similarity="pearson")


def test_what_is_held_back_is_not_learned_from(digits):
    fit, held = hold_back(digits.train)
    assert len(held) == len(digits.train) // 5
    assert len(fit) + len(held) == len(digits.train)
    mixed, given = (
        part.flatten(1).sort(0).values for part in (torch.cat([fit.inputs, held.inputs]), digits.train.inputs)
    )
    assert torch.equal(mixed, given)  # all of them, each once
    many = dataclasses.replace(digits.train, inputs=torch.zeros(9000, 1), labels=torch.zeros(9000, dtype=torch.int64))
    assert len(hold_back(many).held) == HELD
    with pytest.raises(DataError, match="too few"):
        hold_back(digits.train.take(3))


def test_the_midpoint_is_half_of_both(trained, digits):
    permutation = Permutation.random(trained.spec, 5)
    judge = Midpoint(trained.spec, trained.module, trained.a, trained.b, digits.test)
    moved = permutation.apply(trained.b)
    half = {name: (trained.a[name] + moved[name]) / 2 for name in moved}
    logits = torch.func.functional_call(trained.module, half, (digits.test.inputs,))
    expected = torch.nn.functional.cross_entropy(logits.double(), digits.test.labels)
    assert judge.loss(permutation.indices) == pytest.approx(expected.item(), rel=1e-5)
    assert judge.loss(trained.spec.identity()) != pytest.approx(expected.item(), rel=1e-3)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "exhaustive"])
def test_every_method_says_what_it_did(trained, name):
    ticks = []
    steps = 4 if "steps" in METHODS[name].options else None
    found = match(trained, name, seed=2, steps=steps, progress=lambda done, total: ticks.append((done, total)))
    assert ticks
    assert all(0 <= done <= total for done, total in ticks)
    assert found.measure in ("similarity", "loss", "error", "barrier", "difference")
    assert found.seed == 2
    assert np.isfinite([found.objective_before, found.objective_after]).all()
    better = found.objective_after - found.objective_before
    assert better >= 0 if found.measure == "similarity" else better <= 0
    assert [group.name for group in found.groups] == [group.name for group in trained.spec.groups]


def test_auto_that_is_stopped_keeps_what_it_has(trained):
    def impatient(done, total):
        raise Stop

    found = match(trained, seed=1, progress=impatient)
    assert found.permutation == match_weights(trained.spec, trained.a, trained.b, seed=1).permutation
    assert "stopped" in found.notes[0]
