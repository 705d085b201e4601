from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fastmatch import DataSet, Permutation, Split, barrier, evaluate, trace
from fastmatch.errors import DataError, ModelError, OptionError, PermutationError
from fastmatch.interpolation import barrier_height
from fastmatch.networks import build

MODEL = "mlp(64, 16, 16, 10)"
THREE = np.array([0.0, 0.5, 1.0])


def split(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return Split(torch.randn(count, 64, generator=generator), torch.randint(0, 10, (count,), generator=generator))


def data():
    return DataSet("random", split(50, 0), split(30, 1), classes=10, mean=(0.0,), std=(1.0,))


def pair(model=MODEL):
    states = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        states.append({name: 2 * tensor for name, tensor in build(model).state_dict().items()})
    return states


def heights(means, alphas=None):
    """Barriers of a curve with the given means, the same for every example."""
    alphas = np.linspace(0, 1, len(means)) if alphas is None else alphas
    return barrier_height(alphas, np.repeat(np.array(means, dtype=float)[:, None], 4, axis=1))


@pytest.mark.parametrize(
    ("curve", "linear", "mean", "max_", "alpha"),
    [
        ([1, 3, 1], 2, 2, 2, 0.5),  # equal ends: all three agree
        ([0, 3, 2], 2, 2, 1, 0.5),  # unequal ends: the larger end hides part of the bump
        ([2, 3, 0], 2, 2, 1, 0.5),
        ([0, 1, 2], 0, 1, 0, 0.0),  # a straight line is no barrier, though its end is above the mean
        ([2, 1, 0], 0, 1, 0, 0.0),
        ([0, 3, 3, 3, 4], 2, 2, 0, 0.25),  # linear is attained at another place than the top
        ([3, 0, 3], 0, 0, 0, 0.0),  # a valley
    ],
)
def test_the_three_definitions_on_curves_worked_out_by_hand(curve, linear, mean, max_, alpha):
    height = heights(curve)
    assert (height.linear, height.mean, height.max) == (linear, mean, max_)
    assert height.alpha == alpha
    assert height.linear_se == height.mean_se == height.max_se == 0


def test_the_line_between_the_ends_follows_the_alphas_of_an_uneven_grid():
    assert heights([0, 3, 8], np.array([0.0, 0.25, 1.0])).linear == 1  # 3 - 0.25 * 8


@settings(max_examples=60, deadline=None)
@given(arrays(np.float64, st.tuples(st.integers(2, 9), st.integers(2, 6)), elements=st.floats(0, 10, width=32)))
def test_definitions_are_never_negative_and_max_is_the_smallest(values):
    height = barrier_height(np.linspace(0, 1, len(values)), values)
    assert height.linear >= 0
    assert height.max >= -1e-12
    assert height.max <= min(height.mean, height.linear) + 1e-12
    first, last = values.mean(1)[[0, -1]]
    assert height.mean == pytest.approx(height.max + abs(first - last) / 2, abs=1e-9)


def deviation_of_the_mean(values):
    return values.std(ddof=1) / np.sqrt(len(values))


def test_standard_errors_are_those_of_the_paired_differences():
    rng = np.random.default_rng(0)
    values = rng.random((3, 40)) + np.array([0.1, 2.0, 0.5])[:, None]
    height = barrier_height(THREE, values)
    first, middle, last = values
    assert height.linear_se == pytest.approx(deviation_of_the_mean(middle - (first + last) / 2), rel=1e-12)
    assert height.mean_se == pytest.approx(deviation_of_the_mean(middle - (first + last) / 2), rel=1e-12)
    assert height.max_se == pytest.approx(deviation_of_the_mean(middle - last), rel=1e-12)


def test_what_all_alphas_share_of_an_example_does_not_widen_the_standard_error():
    rng = np.random.default_rng(0)
    values = np.array([1.0, 2.0, 1.0])[:, None] + 0.01 * rng.standard_normal((3, 50))
    hard = 100 * rng.random(50)
    alone, shared = barrier_height(THREE, values), barrier_height(THREE, values + hard)
    assert shared.linear_se == pytest.approx(alone.linear_se, rel=1e-9)
    assert shared.linear == pytest.approx(alone.linear, rel=1e-9)


@pytest.mark.parametrize("alphas", [2, 3, 4, 11, 25])
def test_the_grid_holds_both_ends_and_for_odd_numbers_the_middle(alphas):
    result = barrier(build(MODEL), *pair(), data(), alphas=alphas)
    assert len(result.alphas) == alphas
    assert (result.alphas[0], result.alphas[-1]) == (0.0, 1.0)
    assert (0.5 in result.alphas) is bool(alphas % 2)
    assert all(curve.evaluation.losses.shape[0] == alphas for curve in result.curves["unaligned"].values())


def test_curves_run_from_a_to_b_and_from_a_to_the_aligned_b():
    (a, b), module, problem = pair(), build(MODEL), data()
    permutation = Permutation.random(trace(module, (problem.train.inputs[:2],)), seed=3)
    result = barrier(module, a, b, problem, permutation=permutation, alphas=5)
    assert list(result.curves) == ["unaligned", "aligned"]
    for name, end in (("unaligned", b), ("aligned", permutation.apply(b))):
        rows = np.stack([1 - result.alphas, result.alphas], 1)
        for which, examples in (("train", problem.train), ("test", problem.test)):
            expected = evaluate(module, [a, end], rows, examples)
            curve = result.curves[name][which].evaluation
            np.testing.assert_allclose(curve.losses, expected.losses, atol=1e-6)
            assert np.array_equal(curve.errors, expected.errors)
            assert curve.examples == len(examples)


def test_without_a_permutation_there_is_one_curve():
    assert list(barrier(build(MODEL), *pair(), data(), alphas=3).curves) == ["unaligned"]


@pytest.mark.parametrize("model", [MODEL, "mlp(64, 16, 16, 10, norm=batch)"])
def test_identical_networks_have_no_barrier(model):
    a = pair(model)[0]
    for curve in barrier(build(model), a, a, data(), alphas=7).curves["unaligned"].values():
        for height in asdict(curve.loss), asdict(curve.error):
            assert abs(height["linear"]) < 1e-6
            assert abs(height["max"]) < 1e-6
        assert curve.error.linear == curve.error.linear_se == 0


def test_a_copy_with_its_units_moved_has_a_barrier_that_alignment_removes():
    a, module, problem = pair()[0], build(MODEL), data()
    moved = Permutation.random(trace(module, (problem.train.inputs[:2],)), seed=1)
    result = barrier(module, a, moved.apply(a), problem, permutation=moved.invert(), alphas=5)
    assert np.abs(np.diff(result.curves["unaligned"]["test"].evaluation.loss)).max() > 0.01
    assert result.curves["aligned"]["test"].loss.linear < 1e-6


def test_batch_norm_statistics_come_from_the_training_split_alone():
    model = "mlp(64, 16, 16, 10, norm=batch)"
    a, b = pair(model)
    problem = data()
    shifted = replace(problem, test=Split(problem.test.inputs * 5 + 3, problem.test.labels))
    plain, other = (barrier(build(model), a, b, d, alphas=3).curves["unaligned"] for d in (problem, shifted))
    assert np.array_equal(plain["train"].evaluation.losses, other["train"].evaluation.losses)
    expected = evaluate(build(model), [a, b], np.array([[0.5, 0.5]]), shifted.test, statistics=problem.train)
    assert np.array_equal(other["test"].evaluation.losses[1], expected.losses[0])
    kept = barrier(build(model), a, b, problem, alphas=3, bn="keep").curves["unaligned"]["train"].evaluation
    assert not np.allclose(kept.losses[1], plain["train"].evaluation.losses[1])


def test_progress_counts_networks_and_evaluates_a_once():
    module, problem, calls = build(MODEL), data(), []
    identity = Permutation.identity(trace(module, (problem.train.inputs[:2],)))
    barrier(module, *pair(), problem, permutation=identity, alphas=4, progress=lambda *counts: calls.append(counts))
    assert calls == [(done, 7) for done in range(1, 8)]


def test_a_barrier_becomes_plain_json_with_every_figure():
    result = barrier(build(MODEL), *pair(), data(), alphas=3)
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    curve = result.curves["unaligned"]["test"]
    assert document["alphas"] == [0.0, 0.5, 1.0]
    assert document["curves"]["unaligned"]["test"] == {
        "loss": curve.evaluation.loss.tolist(),
        "loss_se": curve.evaluation.loss_se.tolist(),
        "error": curve.evaluation.error.tolist(),
        "error_se": curve.evaluation.error_se.tolist(),
        "examples": 30,
    }
    assert document["barriers"]["unaligned"]["test"] == {"loss": asdict(curve.loss), "error": asdict(curve.error)}


def test_the_same_call_gives_the_same_figures_bit_for_bit():
    first, second = (barrier(build(MODEL), *pair(), data(), alphas=3).to_json() for _ in range(2))
    assert first == second


@pytest.mark.parametrize("alphas", [1, 0, -3])
def test_fewer_than_two_alphas_are_refused(alphas):
    with pytest.raises(OptionError, match=f"at least 2 .both ends., received {alphas}"):
        barrier(build(MODEL), *pair(), data(), alphas=alphas)


def test_networks_and_data_that_do_not_fit_are_refused():
    a, b = pair()
    wide = build("mlp(64, 17, 16, 10)").state_dict()
    with pytest.raises(ModelError, match="network 1 does not fit"):
        barrier(build(MODEL), a, wide, data())
    with pytest.raises(PermutationError, match="has shape"):
        barrier(
            build(MODEL), a, wide, data(), permutation=Permutation.identity(trace(build(MODEL), (torch.ones(2, 64),)))
        )
    images = replace(data(), train=Split(torch.zeros(4, 3, 5, 5), torch.zeros(4).long()))
    with pytest.raises(DataError, match=r"examples of shape \(3, 5, 5\)"):
        barrier(build(MODEL), a, b, images)
