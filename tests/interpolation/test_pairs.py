"""Barriers of many pairs are those of each pair alone."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict

import numpy as np
import pytest

from fastmatch import Permutation, barrier, barriers
from fastmatch.errors import DataError, ModelError, OptionError
from fastmatch.interpolation import strategies
from fastmatch.interpolation.barrier import BarrierHeight
from fastmatch.interpolation.evaluator import Evaluator
from fastmatch.interpolation.pairs import _seen_from
from tests.interpolation.populations import population, shuffled
from tests.problems import build

MLP, NORMED = "mlp(64, 16, 12, 10)", "mlp(64, 16, 12, 10, norm=batch)"
COUNT, ALPHAS = 4, 5


@pytest.fixture
def data(digits):
    return digits.take(60)


def assert_same(found, expected):
    """Heights of a pair and the curve of ``barrier`` that they must be those of."""
    for split, curve in expected.items():
        for quantity in ("loss", "error"):
            one, other = asdict(found[split][quantity]), asdict(getattr(curve, quantity))
            if other["linear"] < 1e-6:  # where a curve does not rise, rounding says where it is highest
                one["alpha"] = other["alpha"]
            np.testing.assert_allclose(
                list(one.values()), list(other.values()), atol=2e-6, err_msg=f"{split} {quantity}"
            )


@pytest.mark.parametrize("worth", [None, 0.0], ids=["functional", "lowered"])
@pytest.mark.parametrize("model", [MLP, NORMED])
def test_every_pair_has_the_barriers_that_it_has_alone(model, worth, data, digits, monkeypatch):
    if worth is not None:
        monkeypatch.setattr(strategies, "_WORTH", worth)
    module, states = population(model, digits)
    found = barriers(module, states, data, alphas=ALPHAS)
    assert list(found.heights) == list(itertools.combinations(range(COUNT), 2))
    for (i, j), heights in found.heights.items():
        assert_same(heights, barrier(module, states[i], states[j], data, alphas=ALPHAS).curves["unaligned"])
    assert max(heights["test"]["loss"].linear for heights in found.heights.values()) > 0.01


@pytest.mark.parametrize("given", ["there", "back", "both"])
@pytest.mark.parametrize("pair", [(0, 1), (1, 0)])
def test_permutations_count_in_the_direction_they_are_given(pair, given, data, digits):
    """The second network is a copy of the first: lined up the right way round, there is no barrier."""
    module, states = population(MLP, digits)
    moved = shuffled(MLP, digits, 1)
    known = {"there": {(0, 1): moved.invert()}, "back": {(1, 0): moved}}
    known["both"] = known["there"] | known["back"]
    for heights in barriers(module, states, data, pairs=[pair], permutations=known[given], alphas=3).heights.values():
        assert heights["test"]["loss"].max < 1e-5
    assert barriers(module, states, data, pairs=[pair], alphas=3).heights[pair]["test"]["loss"].linear > 1e-3


@pytest.mark.parametrize("model", [MLP, NORMED])
def test_permuted_pairs_have_the_barriers_of_aligned_curves(model, data, digits):
    module, states = population(model, digits)
    known = {(0, 2): shuffled(model, digits, 1), (3, 2): shuffled(model, digits, 2), (2, 3): shuffled(model, digits, 3)}
    pairs = [(0, 2), (2, 0), (3, 2), (2, 3), (0, 3)]
    found = barriers(module, states, data, pairs=pairs, permutations=known, alphas=ALPHAS)
    assert list(found.heights) == pairs
    for i, j in pairs:
        shuffle = known.get((i, j)) or known.get((j, i), Permutation.identity(shuffled(model, digits, 1).spec))
        shuffle = shuffle.invert() if (i, j) == (2, 0) else shuffle
        expected = barrier(module, states[i], states[j], data, permutation=shuffle, alphas=ALPHAS)
        assert_same(found.heights[i, j], expected.curves["aligned"])
    # Two permutations that are not each other's inverse are two curves.
    assert found.heights[3, 2]["test"]["loss"].linear != pytest.approx(
        found.heights[2, 3]["test"]["loss"].linear, abs=1e-4
    )


def test_a_reversed_pair_is_the_same_curve_from_its_other_end(data, digits):
    module, states = population(MLP, digits)
    ticks = []
    pairs = [(0, 2), (2, 0), (0, 2)]
    found = barriers(module, states, data, pairs=pairs, alphas=11, progress=lambda *counts: ticks.append(counts))
    assert ticks == [(1, 1)]
    there, back = (found.heights[pair]["test"]["loss"] for pair in [(0, 2), (2, 0)])
    assert asdict(there) | {"alpha": back.alpha} == asdict(back)
    assert there.alpha + back.alpha == 1


@pytest.mark.parametrize("count", [2, 4, 11, 25])
def test_alphas_from_the_other_end_are_those_of_the_grid(count):
    grid = np.linspace(0, 1, count)
    for place, alpha in enumerate(grid.tolist()):
        height = BarrierHeight(1, 1, 1, 0, 0, 0, alpha)
        found = _seen_from((1, 0), (0, 1), {(0, 1): {"test": {"loss": height}}}, grid)["test"]["loss"]
        assert found.alpha == grid[count - 1 - place]


def test_every_network_is_evaluated_once_for_all_its_pairs(data, digits, monkeypatch):
    rows = []
    right = Evaluator.evaluate
    monkeypatch.setattr(
        Evaluator,
        "evaluate",
        lambda self, networks, given, **options: rows.append(len(given)) or right(self, networks, given, **options),
    )
    module, states = population(MLP, digits)
    barriers(module, states, data, alphas=ALPHAS)
    assert sorted(rows) == [1] * COUNT + [ALPHAS - 2] * 6


@pytest.mark.parametrize("alphas", [2, 3])
def test_one_against_many(alphas, data, digits):
    module, states = population(MLP, digits)
    found = barriers(module, states, data, pairs=((0, np.int64(j)) for j in range(1, COUNT)), alphas=alphas)
    assert list(found.heights) == [(0, 1), (0, 2), (0, 3)]
    for (i, j), heights in found.heights.items():
        assert_same(heights, barrier(module, states[i], states[j], data, alphas=alphas).curves["unaligned"])


def test_the_matrix_has_every_pair_from_both_sides(data, digits):
    module, states = population(MLP, digits)
    found = barriers(module, states, data, pairs=[(0, 2), (3, 0)], alphas=3)
    for split, quantity, definition in itertools.product(
        ("train", "test"), ("loss", "error"), ("linear", "mean", "max")
    ):
        matrix = found.matrix(split=split, quantity=quantity, definition=definition)
        for (i, j), heights in found.heights.items():
            assert matrix[i, j] == matrix[j, i] == getattr(heights[split][quantity], definition)
        assert (np.diag(matrix) == 0).all()
        assert np.isnan(matrix).sum() == 16 - 4 - 4
    assert np.array_equal(
        found.matrix(), found.matrix(split="test", quantity="loss", definition="linear"), equal_nan=True
    )


def test_the_matrix_keeps_both_directions_where_both_were_measured(data, digits):
    module, states = population(MLP, digits)
    known = {(0, 2): shuffled(MLP, digits, 1), (2, 0): shuffled(MLP, digits, 2)}
    found = barriers(module, states, data, pairs=list(known), permutations=known, alphas=3)
    matrix = found.matrix()
    assert matrix[0, 2] == found.heights[0, 2]["test"]["loss"].linear
    assert matrix[2, 0] == found.heights[2, 0]["test"]["loss"].linear
    assert matrix[0, 2] != matrix[2, 0]


def test_barriers_become_plain_json(data, digits):
    module, states = population(MLP, digits)
    found = barriers(module, states, data, pairs=[(2, 1)], alphas=3)
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert (document["alphas"], document["networks"]) == ([0.0, 0.5, 1.0], COUNT)
    (only,) = document["pairs"]
    assert only["pair"] == [2, 1]
    assert only["barriers"]["train"]["error"] == asdict(found.heights[2, 1]["train"]["error"])


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "no pairs among 4 networks"),
        ([(0, 0)], r"pair \(0, 0\) does not name two of 4 networks"),
        ([(0, 1), (1, 4)], r"pair \(1, 4\)"),
        ([(-1, 0)], r"pair \(-1, 0\)"),
    ],
)
def test_pairs_that_are_none_are_refused(pairs, message, data, digits):
    with pytest.raises(OptionError, match=message):
        barriers(*population(MLP, digits), data, pairs=pairs)


def test_a_single_network_has_no_pair(data, digits):
    module, states = population(MLP, digits)
    with pytest.raises(OptionError, match="give at least two networks"):
        barriers(module, states[:1], data)


def test_networks_and_data_that_do_not_fit_are_refused(data, digits):
    module, states = population(MLP, digits)
    with pytest.raises(ModelError, match="does not fit the module"):
        barriers(module, [states[0], build("mlp(64, 17, 12, 10)").state_dict()], data)
    with pytest.raises(OptionError, match="at least 2"):
        barriers(module, states, data, alphas=1)
    with pytest.raises(DataError, match="at least two examples"):
        barriers(build(NORMED), population(NORMED, digits)[1], data.take(1))


def test_curves_are_means_seen_from_the_first_network_of_a_pair(data, digits):
    module, states = population(MLP, digits)
    found = barriers(module, states, data, pairs=[(0, 1), (2, 0)], alphas=ALPHAS)
    for i, j in found.heights:
        for split, curve in barrier(module, states[i], states[j], data, alphas=ALPHAS).curves["unaligned"].items():
            np.testing.assert_allclose(found.means[i, j][split]["loss"], curve.evaluation.loss, atol=2e-6)
            np.testing.assert_allclose(found.means[i, j][split]["error"], curve.evaluation.error, atol=1e-12)


def test_what_is_known_is_not_measured_again(data, digits):
    module, states = population(MLP, digits)
    whole, known, done = barriers(module, states, data, alphas=3), {}, []

    def stop(number, total):
        done.append((number, total))
        if number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        barriers(module, states, data, alphas=3, known=known, progress=stop)
    assert done == [(1, 6), (2, 6)]
    assert list(known) == ["0-1", "0-2"]
    known = json.loads(json.dumps(known))
    assert barriers(module, states, data, alphas=3, known=known).to_json() == whole.to_json()
    assert len(known) == 6
    known["0-1"]["means"]["test"]["loss"][1] = None  # as result files hold what is not finite
    assert np.isnan(barriers(module, states, data, alphas=3, known=known).means[0, 1]["test"]["loss"][1])
