from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fastmatch import DataSet, Split, barrier, evaluate, triangle
from fastmatch.errors import ModelError, OptionError
from fastmatch.interpolation import barrier_height, triangle_height
from fastmatch.interpolation.triangle import barycentric_grid
from fastmatch.networks import build

MODEL = "mlp(64, 16, 16, 10)"


def split(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return Split(torch.randn(count, 64, generator=generator), torch.randint(0, 10, (count,), generator=generator))


def data():
    return DataSet("random", split(50, 0), split(30, 1), classes=10, mean=(0.0,), std=(1.0,))


def states(model=MODEL, seeds=(0, 1, 2)):
    result = []
    for seed in seeds:
        torch.manual_seed(seed)
        result.append({name: 2 * tensor for name, tensor in build(model).state_dict().items()})
    return result


def heights(means):
    """Barriers of a surface of three points on an edge, the same for every example."""
    return triangle_height(barycentric_grid(3), np.repeat(np.array(means, dtype=float)[:, None], 4, axis=1))


@pytest.mark.parametrize("grid", [2, 3, 4, 9, 26])
def test_the_grid_covers_the_triangle_once_with_exact_corners(grid):
    rows = barycentric_grid(grid)
    assert rows.shape == (grid * (grid + 1) // 2, 3)
    assert len(np.unique(np.round(rows * (grid - 1)), axis=0)) == len(rows)
    np.testing.assert_allclose(rows.sum(1), 1, atol=1e-15)
    assert (rows >= 0).all()
    assert rows[0].tolist() == [1, 0, 0]
    assert rows[-grid].tolist() == [0, 1, 0]
    assert rows[-1].tolist() == [0, 0, 1]
    assert rows.tolist() == sorted(rows.tolist(), reverse=True)


@pytest.mark.parametrize(
    ("surface", "linear", "mean", "max_", "at"),
    [  # a, ab, ac, b, bc, c
        ([1, 1, 1, 1, 3, 1], 2, 2, 2, (0, 0.5, 0.5)),
        ([0, 3, 1, 2, 2, 4], 2, 2, 0, (0.5, 0.5, 0)),  # linear is attained at another place than the top
        ([0, 1, 2, 2, 3, 4], 0, 2, 0, (1, 0, 0)),  # a plane is no barrier, though a corner is above the mean
        ([3, 0, 0, 3, 0, 3], 0, 0, 0, (1, 0, 0)),  # a bowl
        ([0, 0, 5, 0, 0, 6], 2, 4, 0, (0.5, 0, 0.5)),
    ],
)
def test_the_three_definitions_on_surfaces_worked_out_by_hand(surface, linear, mean, max_, at):
    height = heights(surface)
    assert (height.linear, height.mean, height.max) == (linear, mean, max_)
    assert height.coefficients == at


@settings(max_examples=50, deadline=None)
@given(arrays(np.float64, (15, 6), elements=st.floats(0, 10)))
def test_definitions_keep_their_order_and_no_edge_rises_above_its_triangle(values):
    coefficients = barycentric_grid(5)
    height = triangle_height(coefficients, values)
    assert height.linear >= 0
    assert -1e-12 <= height.max <= min(height.mean, height.linear) + 1e-12
    for third in range(3):
        rows = np.flatnonzero(coefficients[:, third] == 0)
        shares = coefficients[rows, 2 if third < 2 else 1]
        order = np.argsort(shares)
        edge = barrier_height(shares[order], values[rows[order]])
        assert edge.linear <= height.linear + 1e-12


def test_standard_errors_are_those_of_the_paired_differences():
    rng = np.random.default_rng(0)
    values = rng.random((6, 40)) + np.array([0.1, 0.2, 4.0, 0.3, 0.4, 0.5])[:, None]
    height = triangle_height(barycentric_grid(3), values)
    a, _, top, b, _, c = values
    assert height.coefficients == (0.5, 0, 0.5)
    for found, ends in ((height.linear_se, (a + c) / 2), (height.mean_se, (a + b + c) / 3), (height.max_se, c)):
        assert found == pytest.approx((top - ends).std(ddof=1) / np.sqrt(40), rel=1e-12)


def test_every_point_is_evaluated_once_as_evaluate_does():
    module, networks, problem, calls = build(MODEL), states(), data(), []
    result = triangle(module, networks, problem, grid=4, progress=lambda *counts: calls.append(counts))
    assert calls == [(done, 10) for done in range(1, 11)]
    assert result.grid == 4
    for name, examples in (("train", problem.train), ("test", problem.test)):
        expected = evaluate(module, networks, result.coefficients, examples)
        assert np.array_equal(result.surfaces[name].evaluation.losses, expected.losses)
        assert np.array_equal(result.surfaces[name].evaluation.errors, expected.errors)


@pytest.mark.parametrize("model", [MODEL, "mlp(64, 16, 16, 10, norm=batch)"])
def test_edges_are_the_barriers_of_the_pairs(model):
    networks, problem = states(model), data()
    result = triangle(build(model), networks, problem, grid=5)
    for edge, (start, end) in {"ab": (0, 1), "ac": (0, 2), "bc": (1, 2)}.items():
        pair = barrier(build(model), networks[start], networks[end], problem, alphas=5).curves["unaligned"]
        for name, curve in pair.items():
            found = result.surfaces[name].edges[edge]
            np.testing.assert_allclose(found.alphas, curve.alphas, atol=1e-15)
            np.testing.assert_allclose(found.evaluation.losses, curve.evaluation.losses, atol=1e-5)
            assert found.loss.linear == pytest.approx(curve.loss.linear, abs=1e-5)
            assert found.error.linear == pytest.approx(curve.error.linear, abs=1e-9)
            assert found.loss.linear <= result.surfaces[name].loss.linear + 1e-12


def test_identical_networks_have_no_barrier():
    a = states()[0]
    for surface in triangle(build(MODEL), [a, a, a], data(), grid=4).surfaces.values():
        assert surface.loss.linear < 1e-6
        assert surface.error.linear < 1e-12


def test_two_equal_corners_leave_the_line_to_the_third():
    a, b = states(seeds=(3, 4))
    result = triangle(build(MODEL), [a, b, b], data(), grid=5).surfaces["test"]
    assert result.edges["ab"].loss.linear == pytest.approx(result.edges["ac"].loss.linear, abs=1e-5)
    assert result.loss.linear == pytest.approx(result.edges["ab"].loss.linear, abs=1e-5)
    assert result.edges["bc"].loss.linear < 1e-6


def test_batch_norm_statistics_are_reset_at_every_point():
    model = "mlp(64, 16, 16, 10, norm=batch)"
    reset, kept = (triangle(build(model), states(model), data(), grid=3, bn=bn) for bn in ("reset", "keep"))
    first, second = (result.surfaces["test"].evaluation.losses for result in (reset, kept))
    assert not np.allclose(first, second)


def test_a_triangle_becomes_plain_json_with_every_figure():
    result = triangle(build(MODEL), states(), data(), grid=3)
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    surface = result.surfaces["test"]
    assert document["grid"] == 3
    assert document["coefficients"] == result.coefficients.tolist()
    assert document["surfaces"]["test"]["loss"] == surface.evaluation.loss.tolist()
    assert document["surfaces"]["test"]["error_se"] == surface.evaluation.error_se.tolist()
    assert document["surfaces"]["test"]["examples"] == 30
    expected = asdict(surface.loss)
    assert document["barriers"]["test"]["loss"] == expected | {"coefficients": list(expected["coefficients"])}
    assert document["edges"].keys() == {"ab", "ac", "bc"}
    assert document["edges"]["bc"]["test"]["error"] == asdict(surface.edges["bc"].error)


def test_bad_input_is_refused():
    with pytest.raises(OptionError, match="three corners, received 2 networks"):
        triangle(build(MODEL), states()[:2], data())
    with pytest.raises(OptionError, match="grid must be at least 2"):
        triangle(build(MODEL), states(), data(), grid=1)
    wide = build("mlp(64, 17, 16, 10)").state_dict()
    with pytest.raises(ModelError, match="network 2 does not fit"):
        triangle(build(MODEL), [*states()[:2], wide], data())
