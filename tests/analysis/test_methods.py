"""Methods side by side on one pair of networks."""

import json

import numpy as np
import pytest

from fastmatch import Pair, analysis, barrier, match, trace, training
from fastmatch.errors import OptionError
from fastmatch.matching import methods
from fastmatch.matching.methods import Method

MODEL = "mlp(64, 12, 10)"


@pytest.fixture(scope="module")
def trained(digits):
    states = []
    for seed in (0, 1):
        module = training.initialise(MODEL, seed=seed)
        training.train(module, digits, training.Recipe(epochs=8, order_seed=seed))
        states.append(module.state_dict())
    return Pair(trace(module, (digits.train.inputs[:2],)), *states, module, digits.train)


def test_each_method_has_its_own_match_and_barrier(trained, digits):
    some = digits.take(300)
    seen = []
    result = analysis.compare_methods(
        trained, some, methods=["activation", "weight"], alphas=5, progress=lambda *step: seen.append(step[0])
    )
    assert list(result.matches) == ["activation", "weight"]
    assert result.curves == {"unaligned": (0, 1), "activation": (0, 2), "weight": (0, 3)}
    for name, pair in result.curves.items():
        permutation = None if name == "unaligned" else match(trained, name).permutation
        alone = barrier(trained.module, trained.a, trained.b, some, permutation=permutation, alphas=5)
        curves = alone.curves["unaligned" if permutation is None else "aligned"]
        for split in ("train", "test"):
            expected = curves[split].loss.linear
            assert result.barriers.heights[pair][split]["loss"].linear == pytest.approx(expected, abs=1e-6)
    heights = {name: result.barriers.heights[pair]["train"]["loss"].linear for name, pair in result.curves.items()}
    assert heights[result.best] == min(heights["weight"], heights["activation"]) < heights["unaligned"]
    assert set(seen) == {"activation", "weight", "barriers"}
    data = json.loads(json.dumps(result.to_json()))
    assert data["best"] == result.best
    assert np.allclose(data["methods"]["weight"]["objective_after"], result.matches["weight"].objective_after)


def test_a_method_is_stopped_when_its_share_is_spent(trained, digits, monkeypatch):
    """The clock of another thread of time: each look at it takes a second."""
    now = iter(range(10_000))
    monkeypatch.setattr("fastmatch.analysis.methods.time.perf_counter", lambda: float(next(now)))

    def endless(pair, *, seed, progress):
        for step in range(1000):
            progress(step, 1000)
        raise AssertionError("was not stopped")

    entry = Method(endless, "weights", frozenset(), "for ever")
    monkeypatch.setitem(methods.METHODS, "endless", entry)
    result = analysis.compare_methods(trained, digits.take(100), methods=["endless", "weight"], budget=20.0, alphas=3)
    assert list(result.matches) == ["weight"]
    assert result.skipped == {"endless": "not done within 10 s; give a larger budget"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["magic"]}, "method 'magic' is unknown"),
        ({"budget": 0.0}, "budget must be a positive number"),
        ({"budget": float("nan")}, "budget must be a positive number"),
    ],
)
def test_wrong_options_are_refused(trained, digits, options, message):
    with pytest.raises(OptionError, match=message):
        analysis.compare_methods(trained, digits, **options)


def test_what_cannot_run_is_skipped_with_its_reason(trained, digits):
    bare = Pair(trained.spec, trained.a, trained.b)
    with pytest.raises(OptionError, match="no method gave a result: activation: this method looks at"):
        analysis.compare_methods(bare, digits, methods=["activation"])
