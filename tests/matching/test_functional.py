"""Functional difference: against the formula and against brute force, and planted permutations come back."""

from itertools import permutations

import numpy as np
import pytest
import torch
from torch import nn

from fastmatch import METHODS, Pair, Permutation, Split, match, trace
from fastmatch.errors import DataError, OptionError, PermutationError, SymmetryError
from fastmatch.matching.functional import greedy, match_functional
from tests.analysis import trained
from tests.matching.test_joint import NETWORKS
from tests.problems import build, example

PLANTED = [
    "mlp(64, 24, 20, 10, norm=layer)",
    "resnet20(width=1, norm=batch, in_channels=1, size=8)",
    "shallow_cnn(width=8, norm=batch, in_channels=1, size=12)",
]


def labelled(inputs):
    return Split(inputs, torch.zeros(len(inputs), dtype=torch.int64))


def formula(w_a, w_b, x_a, x_b):
    """Equation 2 of Entezari et al., entry by entry, with inverses."""
    moments = [np.linalg.inv(x.T @ x / len(x)) for x in (x_a, x_b)]
    metric = np.linalg.inv(moments[0] + moments[1])
    return np.array([[0.5 * (i - j) @ metric @ (i - j) for j in w_b] for i in w_a])


@pytest.fixture(scope="module")
def pair():
    return [trained.run(seed)[trained.STEPS[-1]] for seed in range(2)]


def regular(count=400):
    """Inputs whose second moments have an inverse."""
    return torch.randn(count, 64, generator=torch.Generator().manual_seed(0))


def reads(state, inputs):
    """What both hidden layers read, with the 1 of the bias."""
    hidden = torch.relu(inputs.double() @ state["linear1.weight"].double().T + state["linear1.bias"].double())
    return [torch.cat([x.double(), torch.ones(len(x), 1)], 1).numpy() for x in (inputs, hidden)]


def rows(state, layer):
    return torch.cat([state[f"{layer}.weight"], state[f"{layer}.bias"][:, None]], 1).double().numpy()


def test_differences_are_those_of_the_formula(pair):
    a, b = pair
    inputs = regular()
    found = match_functional(trained.spec(), trained.module(), a, b, labelled(inputs))
    first, second = (found.permutation.indices[name] for name in ("linear1", "linear2"))
    own, other = reads(a, inputs), reads(b, inputs)
    matrix = formula(rows(a, "linear1"), rows(b, "linear1"), own[0], other[0])
    assert found.groups[0].objective_before == pytest.approx(np.trace(matrix), rel=1e-4)
    assert found.groups[0].objective_after == pytest.approx(matrix[np.arange(24), first].sum(), rel=1e-4)
    order = np.append(first, 24)
    matrix = formula(rows(a, "linear2"), rows(b, "linear2")[:, order], own[1], other[1][:, order])
    assert found.groups[1].objective_after == pytest.approx(matrix[np.arange(20), second].sum(), rel=1e-3)
    assert found.measure == "difference"


def test_the_exact_assignment_is_no_worse_than_the_greedy_one(pair):
    a, b = pair
    data = labelled(regular())
    exact, quick = (
        match_functional(trained.spec(), trained.module(), a, b, data, assignment=name) for name in ("exact", "greedy")
    )
    assert exact.groups[0].objective_after < quick.groups[0].objective_after < quick.groups[0].objective_before


@pytest.mark.parametrize("size", [1, 2, 5, 30])
def test_greedy_takes_the_smallest_entry_of_what_is_left(size):
    matrix = np.random.default_rng(size).random((size, size))
    left, expected = matrix.copy(), np.full(size, -1)
    for _ in range(size):
        row, column = np.unravel_index(left.argmin(), left.shape)
        expected[row] = column
        left[row], left[:, column] = np.inf, np.inf
    assert greedy(matrix).tolist() == expected.tolist()


def test_the_assignment_of_a_small_layer_is_the_best_of_all(pair):
    a, b = ({name: tensor.clone() for name, tensor in state.items()} for state in pair)
    module = build("mlp(64, 5, 10)")
    spec = trace(module, (torch.randn(2, 64),))
    cut = {"linear1.weight": (slice(5),), "linear1.bias": (slice(5),), "linear2.weight": (slice(10), slice(5))}
    a, b = (
        {name: state[name][places] for name, places in cut.items()} | {"linear2.bias": torch.zeros(10)}
        for state in (a, b)
    )
    inputs = regular()
    found = match_functional(spec, module, a, b, labelled(inputs))
    matrix = formula(rows(a, "linear1"), rows(b, "linear1"), reads(a, inputs)[0], reads(b, inputs)[0])
    best = min(sum(matrix[i, order[i]] for i in range(5)) for order in permutations(range(5)))
    assert found.objective_after == pytest.approx(best, rel=1e-4)


@pytest.mark.parametrize(
    ("method", "model"), [*(("functional", model) for model in PLANTED), ("functional_greedy", PLANTED[0])]
)
def test_planted_permutations_come_back(method, model):
    module = build(model)
    spec = trace(module, example(model))
    planted = Permutation.random(spec, 4)
    a = module.state_dict()
    data = labelled(example(model, 60)[0])
    found = match(Pair(spec, a, planted.apply(a), module, data), method)
    assert found.permutation == planted.invert()
    assert found.objective_after < 1e-6 * found.objective_before


@pytest.mark.parametrize("network", ["encoder", "recurrent", "mixer"])
def test_groups_with_insides_come_back(network):
    create, shape = NETWORKS[network]
    torch.manual_seed(0)
    module = create().eval()
    for parameter in module.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    inputs = torch.randn(200, *shape)
    spec = trace(module, (inputs[:2],))
    planted, a = Permutation.random(spec, 1), module.state_dict()
    found = match_functional(spec, module, a, planted.apply(a), labelled(inputs))
    assert found.permutation == planted.invert()


def test_dead_inputs_and_float64_do_no_harm(pair):
    """Pixels that are always 0 and units that never fire make the moments singular."""
    spec, module = trained.spec(), trained.module().double()
    a = {name: tensor.double() for name, tensor in pair[0].items()}
    a["linear1.bias"][:3] = -100.0
    inputs = regular(50)
    inputs[:, :20] = 0
    planted = Permutation.random(spec, 2)
    found = match_functional(spec, module, a, planted.apply(a), labelled(inputs))
    assert found.permutation.indices["linear2"].tolist() == planted.invert().indices["linear2"].tolist()
    trained.module().float()


def test_the_sum_over_writers_does_not_grow_in_further_sweeps():
    model = PLANTED[1]
    first, second = (build(model, seed).state_dict() for seed in (0, 1))
    spec = trace(build(model), example(model))
    found = match_functional(spec, build(model), first, second, labelled(example(model, 60)[0]))
    assert found.sweeps >= 2
    assert found.objective_after < found.objective_before
    assert found.objective_after == pytest.approx(sum(group.objective_after for group in found.groups))


class Row(nn.Module):
    """Convolutions over a line, with stride, padding and dilation."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv1d(1, 6, 3, stride=2), nn.Conv1d(6, 5, 3, padding=2, dilation=2)
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))).mean(-1))


def test_patches_are_what_a_convolution_reads():
    torch.manual_seed(0)
    module = Row()
    a = module.state_dict()
    b = {name: tensor.clone() for name, tensor in a.items()}
    b["second.weight"][2] += 0.3 * torch.randn(6, 3)
    data = labelled(torch.randn(50, 1, 15))
    spec = trace(module, (data.inputs[:2],))
    found = match_functional(spec, module, a, b, data)
    change = module.second(torch.relu(module.first(data.inputs)))
    module.load_state_dict(b)
    change = (change - module.second(torch.relu(module.first(data.inputs)))).double()
    # Both networks read the same, so the parallel sum is half of the moments: a quarter of the squared change.
    expected = float(change.detach()[:, 2].square().sum() / 4 / len(data))
    assert found.groups[1].objective_before == pytest.approx(expected, rel=1e-5)


def test_what_it_cannot_do_is_refused(pair):
    spec, module, data = trained.spec(), trained.module(), labelled(regular(20))
    with pytest.raises(OptionError, match="choose exact or greedy"):
        match_functional(spec, module, *pair, data, assignment="soft")
    with pytest.raises(DataError, match="1 example"):
        match_functional(spec, module, *pair, labelled(regular(1)))
    broken = {name: tensor.clone() for name, tensor in pair[1].items()}
    broken["linear2.weight"][0, 0] = torch.inf
    with pytest.raises(PermutationError, match="of network b holds NaN"):
        match_functional(spec, module, pair[0], broken, data)
    grouped = NETWORKS["grouped"][0]().eval()
    images = labelled(torch.randn(20, 1, 8, 8))
    spec = trace(grouped, (images.inputs[:2],))
    with pytest.raises(SymmetryError, match="is written by no linear layer"):
        match_functional(spec, grouped, grouped.state_dict(), grouped.state_dict(), images)
    encoder = NETWORKS["encoder"][0]().eval()
    tokens = labelled(torch.randn(20, 6, 5))
    spec = trace(encoder, (tokens.inputs[:2],))
    outer = {name for group in spec.groups for name in group.base}
    for refused in (spec, spec.freeze(sorted(outer))):
        with pytest.raises(OptionError, match="not matched greedily"):
            match_functional(refused, encoder, encoder.state_dict(), encoder.state_dict(), tokens, assignment="greedy")


def test_both_are_methods_that_look_at_inputs():
    assert {METHODS[name].needs for name in ("functional", "functional_greedy")} == {"inputs"}
