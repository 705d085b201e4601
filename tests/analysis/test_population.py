from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from fastmatch import Permutation, barrier, match_weights, trace
from fastmatch.analysis import population
from fastmatch.errors import OptionError
from fastmatch.training import Recipe, initialise, train
from tests.interpolation.populations import trained

MODEL = "mlp(64, 16, 12, 10)"


@pytest.fixture
def data(digits):
    return digits.take(80)


def independent(data, count=4):
    states = []
    for seed in range(count):
        module = initialise(MODEL, seed=seed)
        train(module, data, Recipe(epochs=30, batch_size=40, lr=1e-2, order_seed=seed))
        states.append(module.state_dict())
    return module, states


def families(data):
    """Two networks trained by themselves, and copies of them with their units in another order."""
    module, (first, second) = independent(data, 2)
    spec = trace(module, (data.train.inputs[:2],))
    moved = [Permutation.random(spec, seed) for seed in range(3)]
    return module, [first, second, moved[0].apply(first), moved[1].apply(second), moved[2].apply(first)]


@pytest.mark.parametrize("method", ["weight", "activation"])
def test_permuted_copies_of_two_functions_are_two_clusters(method, data):
    module, states = families(data)
    bare = population(module, states, data, align="none")
    assert bare.epsilon()[np.triu_indices(5, 1)].min() > 0.1
    found = population(module, states, data, align="pairs", method=method)
    assert found.clusters.labels(1e-5).tolist() == [0, 1, 0, 1, 0]
    assert abs(found.epsilon()[[0, 0, 1], [2, 4, 3]]).max() < 1e-5
    assert found.clusters.connecting > 0.1
    assert found.permutations.keys() == found.barriers.heights.keys()


@pytest.mark.parametrize("reference", [0, 2])
def test_copies_lined_up_with_a_reference_are_one_cluster(reference, data):
    module, states = families(data)
    copies = [states[i] for i in (0, 2, 4)]
    found = population(module, copies, data, reference=reference)
    assert abs(found.epsilon(split="train")).max() < 1e-5
    assert found.clusters.connecting < 1e-5
    assert set(found.permutations) == {(reference, j) for j in range(3) if j != reference}
    for (i, j), permutation in found.permutations.items():
        for name, tensor in permutation.apply(copies[j]).items():
            torch.testing.assert_close(tensor, copies[i][name])


def test_identical_networks_have_no_barrier(data, digits):
    module, _ = trained(MODEL, digits)
    found = population(module, [module.state_dict()] * 3, data, align="none")
    for split in ("train", "test"):
        for quantity in ("loss", "error"):
            assert abs(found.epsilon(split=split, quantity=quantity)).max() < 1e-6


def test_barriers_and_curves_are_those_of_aligned_pairs(data):
    module, states = independent(data)
    found = population(module, states, data, align="pairs", alphas=5)
    spec = found.permutations[0, 1].spec
    for (i, j), heights in found.barriers.heights.items():
        permutation = match_weights(spec, states[i], states[j]).permutation
        assert permutation == found.permutations[i, j]
        curve = barrier(module, states[i], states[j], data, permutation=permutation, alphas=5).curves["aligned"]["test"]
        np.testing.assert_allclose(found.epsilon()[i, j], curve.loss.max, atol=2e-6)
        np.testing.assert_allclose(found.epsilon(definition="max_se")[j, i], curve.loss.max_se, atol=2e-6)
        np.testing.assert_allclose(found.barriers.means[i, j]["test"]["loss"], curve.evaluation.loss, atol=2e-6)
        np.testing.assert_allclose(found.ends()[[i, j]], curve.evaluation.loss[[0, -1]], atol=2e-6)
        assert heights["test"]["loss"].max == found.epsilon()[i, j]


def test_quartiles_are_over_pairs_at_each_alpha(data):
    module, states = independent(data)
    found = population(module, states, data, align="none", alphas=3)
    curves = found.curves(split="train", quantity="error")
    assert curves.shape == (6, 3)
    expected = [
        np.sort(curves, 0)[[2, 3]].mean(0),
        curves.max(0) >= found.quartiles(split="train", quantity="error")[2],
    ]
    np.testing.assert_allclose(found.quartiles(split="train", quantity="error")[1], expected[0])
    assert expected[1].all()
    np.testing.assert_array_equal(found.values(), found.epsilon()[np.triu_indices(4, 1)])


@pytest.mark.parametrize("align", ["none", "reference", "pairs"])
def test_a_population_that_was_interrupted_goes_on_where_it_stopped(align, data):
    module, states = independent(data)
    whole = population(module, states, data, align=align, alphas=3)
    known, ticks = {}, []

    def stop(done, total):
        ticks.append(total)
        if done == total - 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        population(module, states, data, align=align, alphas=3, known=known, progress=stop)
    known = json.loads(json.dumps(known))
    seen = set(known)
    assert len(seen) == ticks[-1] - 3
    resumed = population(module, states, data, align=align, alphas=3, known=known)
    assert json.dumps(resumed.to_json()) == json.dumps(whole.to_json())
    assert seen < set(known)
    marked = {name: entry for name, entry in known.items() if "align" not in name}
    marked["0-1"]["barriers"]["test"]["loss"]["max"] = 7.0  # what is known is not measured again
    assert population(module, states, data, align=align, alphas=3, known=known).epsilon()[1, 0] == 7.0


@pytest.mark.parametrize(
    ("count", "options", "message"),
    [
        (1, {}, "received 1 networks"),
        (3, {"align": "all"}, "align 'all' is unknown"),
        (3, {"method": "sinkhorn"}, "sinkhorn"),
        (3, {"reference": 3}, "reference 3 is none of 3 networks"),
    ],
)
def test_what_is_no_population_is_refused(count, options, message, data, digits):
    module, spec = trained(MODEL, digits)
    states = [Permutation.identity(spec).apply(module.state_dict())] * count
    with pytest.raises(OptionError, match=message):
        population(module, states, data, **options)


@pytest.mark.parametrize("method", ["weight", "activation"])
def test_a_population_stays_on_its_device(method, data, device):
    module, states = families(data)
    here = [{name: tensor.to(device) for name, tensor in state.items()} for state in states]
    expected = population(module, states, data, method=method, alphas=3)
    found = population(module.to(device), here, data.to(device), method=method, alphas=3)
    np.testing.assert_allclose(found.epsilon(), expected.epsilon(), atol=1e-4)
