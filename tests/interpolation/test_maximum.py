"""Barriers without curves, and curves whose ends and maxima are exact, against whole exact curves."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fastmatch import barrier, barrier_maxima, barriers, triangle
from fastmatch.errors import OptionError
from fastmatch.interpolation import strategies
from fastmatch.interpolation.barrier import Shape, sharpen
from fastmatch.interpolation.evaluation import Chosen, Evaluation
from tests.interpolation.populations import population, shuffled

MODELS = [
    "mlp(64, 16, 12, 10)",
    "mlp(64, 16, 12, 10, norm=batch)",
    "shallow_cnn(width=4, norm=batch, in_channels=1, size=8)",
]


@pytest.fixture
def lowered(monkeypatch):
    """Networks are lowered, and run in bfloat16, whatever the evaluation costs and the processor has."""
    monkeypatch.setattr(strategies, "_WORTH", 0.0)
    monkeypatch.setattr(strategies, "has_bfloat16", lambda: True)


@pytest.mark.parametrize("form", ["functional", "lowered"])
@pytest.mark.parametrize("model", MODELS[:2])
def test_maxima_are_those_of_the_whole_curves(model, form, digits, request):
    if form == "lowered":
        request.getfixturevalue("lowered")
    module, (a, b) = population(model, digits, 2)
    data = digits.take(700)
    options = {"permutation": shuffled(model, digits, 5), "alphas": 7}
    whole, ticks = barrier(module, a, b, data, **options), []
    found = barrier_maxima(module, a, b, data, **options, progress=lambda *counts: ticks.append(counts))
    assert ticks == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert list(found.maxima) == ["unaligned", "aligned"]
    for pair, splits in whole.curves.items():
        for split, curve in splits.items():
            maximum = found.maxima[pair][split]
            assert maximum.height == pytest.approx(curve.loss.linear, abs=1e-5)
            assert maximum.height_se == pytest.approx(curve.loss.linear_se, abs=1e-5)
            assert maximum.alpha == curve.loss.alpha
            assert maximum.total == 7 * curve.evaluation.examples
            assert 2 * curve.evaluation.examples <= maximum.evaluated <= maximum.total
    assert max(maximum.height for maximum in found.maxima["unaligned"].values()) > 0.01
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    maximum = found.maxima["aligned"]["train"]
    assert document["barriers"]["aligned"]["train"]["loss"] == {
        "linear": maximum.height,
        "linear_se": maximum.height_se,
        "alpha": maximum.alpha,
        "evaluated": maximum.evaluated,
        "total": maximum.total,
    }


def test_without_a_permutation_there_is_one_line(digits):
    module, (a, b) = population(MODELS[0], digits, 2)
    found = barrier_maxima(module, a, b, digits.take(30), alphas=3, bn="keep")
    assert list(found.maxima) == ["unaligned"]
    with pytest.raises(OptionError, match="at least 2"):
        barrier_maxima(module, a, b, digits, alphas=1)


def decisive(height, alphas, curve):
    """Rows that barriers are read off."""
    return [0, len(alphas) - 1, alphas.tolist().index(height.alpha), int(curve.evaluation.loss.argmax())]


@pytest.mark.parametrize("model", MODELS)
def test_of_a_fast_curve_errors_ends_and_maxima_are_exact(model, digits, lowered):
    module, (a, b) = population(model, digits, 2)
    data = digits.take(120)
    options = {"permutation": shuffled(model, digits, 5), "alphas": 5}
    fast, exact = (barrier(module, a, b, data, **options, precision=p) for p in ("fast", "highest"))
    assert (fast.precision, exact.precision) == ("fast", "highest")
    other = 0
    for pair, splits in fast.curves.items():
        for split, curve in splits.items():
            expected = exact.curves[pair][split].evaluation
            rows = decisive(curve.loss, fast.alphas, curve)
            assert np.array_equal(curve.evaluation.losses[rows], expected.losses[rows])
            assert np.array_equal(curve.evaluation.errors, expected.errors)
            other += not np.array_equal(curve.evaluation.losses, expected.losses)
    assert other  # else nothing was fast


def test_fast_barriers_of_pairs_and_triangles_are_exact_too(digits, lowered, monkeypatch):
    module, states = population(MODELS[0], digits, 3)
    data = digits.take(120)
    fast, exact = (triangle(module, states, data, grid=4, precision=p) for p in ("fast", "highest"))
    assert fast.precision == "fast"
    for split, surface in fast.surfaces.items():
        assert surface.loss == exact.surfaces[split].loss
        assert surface.error == exact.surfaces[split].error
    exact, quick, runs = barriers(module, states, data, alphas=5), strategies.Runner.quick, []
    monkeypatch.setattr(strategies.Runner, "quick", lambda *given: runs.append(given) or quick(*given))
    assert barriers(module, states, data, alphas=5, precision="fast").heights == exact.heights
    assert runs


ALPHAS = np.linspace(0, 1, 5)
LINE = Shape(list(range(5)), np.stack([1 - ALPHAS, ALPHAS], 1), [0, 4])


def evaluation(means, precision="fast"):
    losses = np.repeat(np.array(means, dtype=float)[:, None], 3, axis=1)
    return Evaluation(LINE.coefficients, losses, losses > 1, Chosen("lowered", ""), precision)


@pytest.mark.parametrize(
    ("fast", "exact", "asked"),
    [
        ([0, 1, 2, 1, 0], [0, 1, 2, 1, 0], [[0, 2, 4]]),
        ([0, 1.9, 2, 1, 0], [0, 1.9, 1.8, 1, 0], [[0, 2, 4], [1]]),  # what was largest no longer is
        ([0, 1.9, 2, 1.95, 0], [0, 1.5, 1.6, 1.7, 0], [[0, 2, 4], [3], [1]]),
        ([0, 1, 2, 3.5, 4], [0, 1, 2, 3.5, 4], [[0, 3, 4]]),
        ([0, 1, 1, 1, 0], [2, 1, 1, 1, 2], [[0, 1, 4]]),
    ],
)
def test_rows_are_evaluated_again_until_every_maximum_is_exact(fast, exact, asked):
    calls, whole = [], evaluation(exact, "highest")

    def again(places):
        calls.append(places.tolist())
        return {"test": whole.at(places)}

    found = sharpen({"test": evaluation(fast)}, [LINE], again)["test"]
    assert calls == asked
    rows = [row for places in asked for row in places]
    assert np.array_equal(found.losses[rows], whole.losses[rows])
    assert found.precision == "fast"


def test_what_is_exact_is_not_evaluated_again():
    found = {"test": evaluation([0, 1, 2, 1, 0], "highest")}
    assert sharpen(found, [LINE], None) == found
