"""Many networks in one order: planted copies come back, cycles close, and the objective is what it is said to be."""

from functools import cache
from itertools import combinations, permutations

import numpy as np
import pytest
import torch

from fastmatch import DataError, Permutation, Split, match_activations, match_many, match_pairs, match_weights, trace
from fastmatch.errors import OptionError, PermutationError
from fastmatch.matching import activations, synchronise, universe
from fastmatch.matching.activations import next_places
from fastmatch.matching.midpoint import hold_back
from fastmatch.matching.observed import find_places
from fastmatch.matching.synchronise import order_by_activations
from tests.analysis import trained
from tests.matching.test_joint import NETWORKS
from tests.problems import assert_same_state, build, example

REFERENCES = ("universe", "mean", "first")
METHODS = ("weight", "activation")
MLP, RESNET = "mlp(64, 24, 20, 10)", "resnet20(width=1, norm=batch, in_channels=1, size=8)"


def copies(spec, state, count=3):
    """A network as it is, and permuted copies of it."""
    return [state, *(Permutation.random(spec, seed).apply(state) for seed in range(1, count))]


def assert_lined_up(joint, networks):
    assert joint.permutations[0] == Permutation.identity(joint.permutations[0].spec)
    for permutation, network in zip(joint.permutations, networks, strict=True):
        assert_same_state(permutation.apply(network), dict(networks[0]))


@pytest.fixture(scope="module", autouse=True)
def shared_exports():
    """One export of each network, whose state dicts the tests give: it takes longer than matching."""
    known = {}

    def find(spec, module, example, similarity):
        key = (module, spec.digest, tuple(example.shape), example.dtype, similarity)
        if key not in known:
            known[key] = find_places(spec, module, example, similarity)
        waiting, graph = known[key]
        return dict(waiting), graph

    with pytest.MonkeyPatch.context() as patch:
        for user in (synchronise, activations):
            patch.setattr(user, "find_places", find)
        yield


@cache
def copied(model):
    module = build(model)
    spec = trace(module, example(model))
    return module, spec, copies(spec, module.state_dict())


@pytest.fixture(params=[MLP, RESNET])
def planted(request):
    return copied(request.param)


@pytest.fixture(scope="module")
def trio():
    """Three networks trained from different seeds."""
    return [trained.run(seed)[trained.STEPS[-1]] for seed in range(3)]


@pytest.mark.parametrize(
    ("planted", "reference"), [*((MLP, name) for name in REFERENCES), (RESNET, "universe")], indirect=["planted"]
)
@pytest.mark.parametrize("method", METHODS)
def test_permuted_copies_come_back(planted, digits, method, reference):
    module, spec, networks = planted
    data = digits.train.take(100)
    joint = match_many(spec, networks, module=module, data=data, method=method, reference=reference)
    assert_lined_up(joint, networks)
    assert joint.status == "converged"


@pytest.fixture(scope="module", params=["mixer", "encoder"])
def nested(request):
    """A network of groups inside others, of random weights, and examples for it."""
    create, shape = NETWORKS[request.param]
    torch.manual_seed(0)
    module = varied(create())
    inputs = torch.randn(200, *shape)
    return module, trace(module, (inputs[:2],)), Split(inputs, trained.data().train.take(200).labels)


def varied(module):
    for parameter in module.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    return module.eval()


@pytest.mark.parametrize("method", METHODS)
def test_groups_with_insides_come_back(nested, method):
    module, spec, data = nested
    networks = copies(spec, module.state_dict())
    assert_lined_up(match_many(spec, networks, module=module, data=data, method=method), networks)


@pytest.mark.parametrize("nested", ["mixer"], indirect=True)
def test_the_objective_before_is_that_of_networks_as_they_are(nested):
    """Of groups too that are observed when others are lined up already: each alone, with the other kept in order."""
    module, spec, data = nested
    networks = copies(spec, module.state_dict())
    parts = [
        match_many(spec.freeze([frozen]), networks, module=module, data=data, method="activation", reference="first")
        for frozen in ("stem", "tokens")
    ]
    joint = match_many(spec, networks, module=module, data=data, method="activation", reference="first")
    assert joint.objective_before == pytest.approx(sum(part.objective_before for part in parts), rel=1e-6)


@pytest.mark.parametrize("nested", ["mixer"], indirect=True)
def test_groups_that_stay_in_order_are_lined_up_too(nested, monkeypatch):
    """What was compared counts as lined up for the next stage, even if no network moved."""
    module, spec, data = nested
    stages = []

    def watched(waiting, done):
        stages.append(set(done))
        return next_places(waiting, done)

    monkeypatch.setattr(synchronise, "next_places", watched)
    networks = [module.state_dict()] * 3
    match_many(spec, networks, module=module, data=data, method="activation", reference="mean")
    assert len(stages) == 2
    assert stages[0] < stages[1]


def test_weights_that_a_module_holds_are_taken_without_gradients(trio):
    networks = [{name: tensor.clone().requires_grad_() for name, tensor in network.items()} for network in trio]
    found = match_many(trained.spec(), networks, method="weight")
    assert found.permutations == match_many(trained.spec(), trio, method="weight").permutations


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("method", METHODS)
def test_cycles_close_exactly(trio, method, reference):
    spec, data = trained.spec(), trained.data().train.take(300)
    joint = match_many(spec, trio, module=trained.module(), data=data, method=method, reference=reference)
    for i, j, k in permutations(range(3)):
        around = joint.between(i, j).compose(joint.between(k, i)).compose(joint.between(j, k))
        assert around == Permutation.identity(spec)
    assert_same_state(joint.between(0, 2).apply(trio[2]), joint.permutations[2].apply(trio[2]))


@pytest.mark.parametrize("reference", REFERENCES)
def test_the_objective_is_the_sum_over_pairs_of_weights(trio, reference):
    spec = trained.spec()
    joint = match_many(spec, trio, method="weight", reference=reference)
    placed = [permutation.apply(network) for permutation, network in zip(joint.permutations, trio, strict=True)]
    for found, states in ((joint.objective_before, trio), (joint.objective_after, placed)):
        total = sum((a[name].double() * b[name].double()).sum() for a, b in combinations(states, 2) for name in a)
        assert found == pytest.approx(float(total))


def test_the_objective_is_the_sum_over_pairs_of_correlations(trio):
    spec, module, data = trained.spec(), trained.module(), trained.data().train.take(300)
    joint = match_many(spec, trio, module=module, data=data, method="activation")
    placed = [permutation.apply(network) for permutation, network in zip(joint.permutations, trio, strict=True)]
    for found, states in ((joint.objective_before, trio), (joint.objective_after, placed)):
        total = sum(match_activations(spec, module, a, b, data).objective_before for a, b in combinations(states, 2))
        assert found == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_the_universe_is_at_least_as_good_as_the_other_references(trio, method):
    spec, data = trained.spec(), trained.data().train.take(300)
    found = {
        reference: match_many(spec, trio, module=trained.module(), data=data, method=method, reference=reference)
        for reference in REFERENCES
    }
    assert found["universe"].objective_after >= max(found[name].objective_after for name in ("mean", "first"))
    assert found["universe"].objective_after > found["first"].objective_after
    assert found["first"].objective_after > found["first"].objective_before


@pytest.mark.parametrize("method", METHODS)
def test_no_network_gains_by_moving_once_more(trio, method):
    """Fixed points of the ascent: every network lies best against the sum of the others."""
    spec, module, data = trained.spec(), trained.module(), trained.data().train.take(300)
    joint = match_many(spec, trio, module=module, data=data, method=method)
    placed = [permutation.apply(network) for permutation, network in zip(joint.permutations, trio, strict=True)]
    again = match_many(spec, placed, module=module, data=data, method=method, reference="mean", seed=3)
    if method == "activation":
        assert all(permutation == Permutation.identity(spec) for permutation in again.permutations)
    assert again.objective_after == pytest.approx(joint.objective_after, rel=1e-3)
    assert again.objective_before == pytest.approx(joint.objective_after, rel=1e-6)


def test_the_first_reference_is_matching_each_to_the_first(trio):
    spec, module, data = trained.spec(), trained.module(), trained.data().train.take(300)
    weights = match_many(spec, trio, method="weight", reference="first", seed=2)
    activations = match_many(spec, trio, module=module, data=data, method="activation", reference="first")
    for number in (1, 2):
        assert weights.permutations[number] == match_weights(spec, trio[0], trio[number], seed=2).permutation
        found = match_activations(spec, module, trio[0], trio[number], data).permutation
        assert activations.permutations[number] == found


def test_one_seed_gives_one_result(trio):
    spec = trained.spec()
    first, second = (match_many(spec, trio, method="weight", seed=5) for _ in range(2))
    assert first.permutations == second.permutations
    assert first.objective_after == second.objective_after


def test_auto_takes_the_one_with_the_better_mean(trio):
    spec, module, data = trained.spec(), trained.module(), trained.data().train.take(600)
    joint = match_many(spec, trio, module=module, data=data)
    assert joint.method.removeprefix("auto: ") in ("weight (universe)", "activation (universe)")
    assert "loss of the mean of all networks" in joint.notes[-1]
    alone = match_many(spec, trio)
    assert alone.method == "weight (universe)"
    assert "without data" in alone.notes[0]


def test_auto_compares_activations_on_other_examples_than_it_judges(trio, monkeypatch):
    spec, module, data = trained.spec(), trained.module(), trained.data().train.take(600)
    seen = []

    def observe(spec, module, networks, examples, *others):
        seen.append(examples)
        return order_by_activations(spec, module, networks, examples, *others)

    monkeypatch.setattr(universe, "order_by_activations", observe)
    match_many(spec, trio, module=module, data=data)
    fit, held = hold_back(data)
    assert torch.equal(seen[0].inputs, fit.inputs)
    assert len(fit) + len(held) == len(data)


def test_pairs_are_matched_by_themselves_and_need_not_agree(trio):
    spec = trained.spec()
    found = match_pairs(spec, trio, method="weight", seed=1)
    for i, j in combinations(range(3), 2):
        assert found.between(i, j) == match_weights(spec, trio[i], trio[j], seed=1).permutation
        assert found.between(i, j).compose(found.between(j, i)) == Permutation.identity(spec)
    around = found.between(1, 0).compose(found.between(2, 1)).compose(found.between(0, 2))
    moved = sum(int((index != np.arange(len(index))).sum()) for index in around.indices.values())
    assert found.inconsistency == pytest.approx(moved / 44)
    assert 0 < found.inconsistency < 1
    assert found.to_json()["pairs"][1]["pair"] == [0, 2]


@pytest.mark.parametrize("planted", [MLP], indirect=True)
def test_pairs_of_permuted_copies_agree(planted):
    _, spec, networks = planted
    found = match_pairs(spec, networks[:3], method="weight")
    assert found.inconsistency == 0
    assert match_pairs(spec, networks[:2], method="weight").inconsistency == 0


def test_what_does_not_work_is_refused(trio):
    spec = trained.spec()
    with pytest.raises(OptionError, match="received one network; give at least two"):
        match_many(spec, trio[:1])
    with pytest.raises(OptionError, match="choose universe, mean or first"):
        match_many(spec, trio, reference="pairwise")
    with pytest.raises(OptionError, match="not by 'sinkhorn'"):
        match_many(spec, trio, method="sinkhorn")
    with pytest.raises(DataError, match="give the network and its data"):
        match_many(spec, trio, method="activation")
    broken = {name: tensor.clone() for name, tensor in trio[2].items()}
    broken["linear1.bias"][0] = torch.nan
    with pytest.raises(PermutationError, match="of network 2 holds NaN"):
        match_many(spec, [*trio[:2], broken])
    with pytest.raises(PermutationError, match="network 1"):
        match_pairs(spec, [trio[0], {}])


def test_networks_in_float64_keep_their_precision(trio):
    spec = trained.spec()
    double = [{name: tensor.double() for name, tensor in network.items()} for network in trio]
    joint = match_many(spec, double, method="weight")
    assert joint.objective_after == pytest.approx(match_many(spec, trio, method="weight").objective_after, rel=1e-2)
    assert joint.permutations[1].apply(double[1])["linear1.weight"].dtype == torch.float64
