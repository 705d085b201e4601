from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest

from fastmatch import evaluate, match_weights, trace
from fastmatch.errors import OptionError
from fastmatch.interpolation import barrier_height
from fastmatch.interpolation.race import race
from fastmatch.training import Recipe, initialise, train

ALPHAS = np.linspace(0, 1, 25)
BUMP = 4 * ALPHAS * (1 - ALPHAS)


class Lookup:
    """Losses of a matrix [rows, examples]; refuses places that were given before or do not follow on them."""

    def __init__(self, matrix):
        self.matrix = np.asarray(matrix, dtype=np.float64)
        self.seen = np.zeros(len(self.matrix), dtype=int)
        self.stops = [[] for _ in self.matrix]

    def __call__(self, row, places):
        if places.step is not None or places.start != self.seen[row]:
            raise AssertionError(f"row {row} is asked for {places} after {self.seen[row]} examples")
        if not places.start < places.stop <= self.matrix.shape[1]:
            raise AssertionError(f"row {row} is asked for {places} of {self.matrix.shape[1]} examples")
        self.seen[row] = places.stop
        self.stops[row].append(places.stop)
        return self.matrix[row, places]


def raced(matrix, alphas=None, **options):
    """Race on a matrix, and compare what it says it evaluated with what it asked for."""
    lookup = Lookup(matrix)
    alphas = np.linspace(0, 1, len(lookup.matrix)) if alphas is None else alphas
    found = race(lookup, alphas, lookup.matrix.shape[1], **options)
    np.testing.assert_array_equal(found.seen, lookup.seen)
    assert found.evaluated == lookup.seen.sum()
    assert found.total == lookup.matrix.size
    assert found.seen[0] == found.seen[-1] == lookup.matrix.shape[1]
    return found


def shuffled(matrix, seed):
    return matrix[:, np.random.default_rng(seed).permutation(matrix.shape[1])]


def missed(matrix, shuffles=100, **options):
    """In how many shuffles the race finds less than the whole curve, and its median share of examples."""
    whole = barrier_height(np.linspace(0, 1, len(matrix)), matrix).linear
    found = [raced(shuffled(matrix, seed), **options) for seed in range(shuffles)]
    assert all(one.height <= whole + 1e-9 for one in found)
    share = np.median([one.evaluated / one.total for one in found])
    return sum(one.height < whole - 1e-9 for one in found), share


def noisy(means, examples=4000, spread=0.1, seed=0):
    rng = np.random.default_rng(seed)
    return np.asarray(means)[:, None] + spread * rng.standard_normal((len(means), examples))


@pytest.mark.parametrize("top", [1, 7, 12, 23])
def test_a_planted_maximum_is_found_with_its_exact_height_on_few_examples(top):
    means = 1 + BUMP
    means[top] += 1
    matrix = noisy(means)
    found, whole = raced(matrix), barrier_height(ALPHAS, matrix)
    assert found.alpha == whole.alpha == ALPHAS[top]
    assert found.height == pytest.approx(whole.linear, rel=1e-12)
    assert found.height_se == pytest.approx(whole.linear_se, rel=1e-12)
    assert found.seen[top] == 4000
    assert sorted(set(found.seen)) == [256, 4000]
    assert found.evaluated == 3 * 4000 + 22 * 256


def test_of_two_peaks_the_higher_one_is_found():
    """Where golden section or a walk uphill ends on the lower one."""
    means = 0.5 * np.exp(-(((ALPHAS - 0.2) / 0.05) ** 2)) + 0.55 * np.exp(-(((ALPHAS - 0.8) / 0.05) ** 2))
    matrix = noisy(means, spread=0.3)
    assert missed(matrix, shuffles=20)[0] == 0
    assert raced(matrix).alpha == pytest.approx(0.8, abs=0.03)


def test_deviations_are_above_the_line_between_unequal_ends_on_an_uneven_grid():
    alphas = np.array([0.0, 0.1, 0.25, 0.9, 1.0])
    matrix = noisy([4.0, 4.0, 3.5, 1.8, 1.0], spread=0.05)
    found, whole = raced(matrix, alphas), barrier_height(alphas, matrix)
    assert found.alpha == whole.alpha == 0.9
    assert found.height == pytest.approx(whole.linear, rel=1e-12)


def test_a_flat_curve_has_height_0_at_its_start():
    losses = np.random.default_rng(0).integers(0, 9, 1000)
    found = raced(np.repeat(losses[None], 5, axis=0))  # on a line that is exact in binary
    assert (found.alpha, found.height, found.height_se) == (0, 0, 0)


def test_a_valley_has_height_0_and_costs_one_row_beyond_the_ends():
    found = raced(noisy(1 - BUMP))
    assert (found.alpha, found.height, found.height_se) == (0, 0, 0)
    assert np.count_nonzero(found.seen == 4000) == 3
    assert found.seen.min() == 256


@pytest.mark.parametrize("examples", [1, 2, 40, 255, 256])
def test_with_no_more_examples_than_the_first_the_whole_curve_is_evaluated(examples):
    matrix = noisy(BUMP, examples=examples, spread=1)
    found, whole = raced(matrix), barrier_height(ALPHAS, matrix)
    assert found.evaluated == found.total
    assert found.height == pytest.approx(whole.linear, rel=1e-12)
    assert found.height_se == pytest.approx(whole.linear_se, rel=1e-12, nan_ok=True)
    assert found.alpha == whole.alpha


def test_two_alphas_are_the_ends_alone():
    found = raced(noisy([1.0, 2.0]))
    assert (found.alpha, found.height, found.evaluated, found.total) == (0, 0, 8000, 8000)


def test_rows_see_twice_as_many_examples_in_every_round():
    lookup = Lookup(noisy([0, 0.99, 1, 0], examples=1000))
    race(lookup, np.linspace(0, 1, 4), 1000, first=100)
    assert lookup.stops[0] == lookup.stops[3] == [1000]
    assert lookup.stops[2] == [100, 200, 400, 800, 1000]


def test_a_curve_without_any_spread_is_found_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = raced(noisy(BUMP, spread=0))
    assert (found.alpha, found.height, found.height_se) == (0.5, 1, 0)


def test_a_sample_of_nearly_all_examples_decides_what_a_small_one_cannot():
    """290 of 300 examples leave little open; 290 of 300,000 would leave both rows in the race."""
    matrix = noisy([0, 1, 1.1, 0], examples=300, spread=1)
    matrix[1:3] += np.array([1.0, 1.1])[:, None] - matrix[1:3, :].mean(1, keepdims=True)
    decided = [raced(shuffled(matrix, seed), first=290).seen[1] == 290 for seed in range(20)]
    assert np.mean(decided) > 0.5


def trained_matrices(digits, width):
    """Per-example losses from one trained network to another, and to the same one aligned."""
    modules = [initialise(f"mlp(64, {width}, {width}, 10)", seed=seed) for seed in (0, 1)]
    for seed, module in enumerate(modules):
        train(module, digits, Recipe(epochs=30, lr=3e-3, order_seed=seed))
    a, b = (module.state_dict() for module in modules)
    aligned = match_weights(trace(modules[0], (digits.train.inputs[:2],)), a, b).permutation.apply(b)
    rows = np.stack([1 - ALPHAS, ALPHAS], 1)
    return [evaluate(modules[0], [a, end], rows, digits.train).losses for end in (b, aligned)]


@pytest.mark.parametrize("width", [16, 64])
def test_between_trained_networks_no_shuffle_misses_the_maximum(digits, width):
    unaligned, aligned = trained_matrices(digits, width)
    failures, share = missed(unaligned)
    assert failures == 0
    assert share < 0.35
    failures, share = missed(aligned)
    assert failures == 0
    assert share < 0.7
    assert missed(aligned, first=32)[0] == 0


def heavy_tailed():
    """Two peaks, the higher one by 2 %, that rest on log-normal losses of their own."""
    rng = np.random.default_rng(0)
    hard = np.exp(2.5 * rng.standard_normal((2, 10_000)))
    hard /= hard.mean(1, keepdims=True)
    peaks = [np.exp(-(((ALPHAS - place) / 0.1) ** 2)) for place in (0.3, 0.7)]
    return np.outer(peaks[0], hard[0]) + 1.02 * np.outer(peaks[1], hard[1])


def few_decide():
    """Most examples rise to 0.5 in the middle; a few rise by up to 170, most at 0.3, and put the maximum there."""
    rng = np.random.default_rng(0)
    matrix = noisy(0.5 * BUMP, spread=0.01)
    few = rng.permutation(4000)[:12]
    matrix[:, few] += 170 * np.exp(-(((ALPHAS - 0.3) / 0.2) ** 2))[:, None]
    matrix[[0, -1]] = 0
    return matrix


def few_decide_above_the_ends():
    """Most examples fall a little between the ends; a few rise so much that the mean rises too."""
    matrix = noisy(1 - 0.05 * BUMP, spread=0.01)
    matrix[:, np.random.default_rng(0).permutation(4000)[:12]] += 66 * BUMP[:, None]
    matrix[[0, -1]] = 1
    return matrix


def nearly_equal():
    """Row 3 is just below row 2 on all examples but 1 in 80, where it is far above; other rows vary as much."""
    matrix = noisy([0, 0, 0.5, 0.5, 0, 0, 0], spread=1)
    matrix[[0, -1]] = 0
    matrix[3] = matrix[2] - 0.01 + 3 * (np.arange(4000) % 80 == 0)
    return matrix


def ties():
    return np.concatenate([np.zeros((1, 4000)), noisy(np.ones(23), spread=0.3), np.zeros((1, 4000))])


@pytest.mark.parametrize("matrix", [heavy_tailed, few_decide, few_decide_above_the_ends, nearly_equal, ties])
def test_samples_that_mislead_do_not_hide_the_maximum(matrix):
    assert missed(matrix())[0] <= 1


@pytest.mark.parametrize("row", [0, 3, 12, 24])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_losses_that_are_not_finite_make_the_height_so_as_in_the_whole_curve(row, bad):
    matrix = noisy(BUMP)
    matrix[row] = bad
    with np.errstate(invalid="ignore"):
        line = np.outer(1 - ALPHAS, matrix[0]) + np.outer(ALPHAS, matrix[-1])
        expected = np.max((matrix - line).mean(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = raced(matrix)
    assert not np.isfinite(expected)
    np.testing.assert_equal(found.height, expected)
    assert np.isnan(found.height_se)
    assert found.alpha == (ALPHAS[row] if 0 < row < 24 else 0)
    assert set(found.seen[1:-1]) == {256}


def test_a_loss_that_is_not_finite_late_in_a_row_still_counts():
    matrix = noisy(BUMP)
    matrix[12, -1] = np.nan
    found = raced(matrix)
    assert np.isnan(found.height)
    assert found.alpha == 0.5


def test_the_same_losses_give_the_same_answer():
    matrix = noisy(BUMP, spread=1)
    first, second = (dataclasses.asdict(raced(matrix)) for _ in range(2))
    np.testing.assert_equal(first, second)


@pytest.mark.parametrize("first", [1, 0, -4])
def test_fewer_than_two_first_examples_are_refused(first):
    with pytest.raises(OptionError, match=f"first is {first}; give at least 2"):
        race(Lookup(np.ones((3, 10))), np.linspace(0, 1, 3), 10, first=first)
