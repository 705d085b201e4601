"""Groups with insides: solved jointly, against brute force, and recovered when planted."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from fastmatch import Permutation, Split, match_activations, match_weights, trace
from fastmatch.matching.joint import grams, solve_joint
from tests.problems import assert_same_state


def brute_force(own, inner):
    """Best total over all orders of the units and of the insides of each pair."""
    count = len(own)
    best = -np.inf
    for order in itertools.permutations(range(count)):
        total = sum(own[i, order[i]] for i in range(count))
        for blocks in inner.values():
            copies, _, size = blocks.shape[:3]
            total += sum(
                max(
                    sum(blocks[f, i, k, order[i], inside[k]] for k in range(size))
                    for inside in itertools.permutations(range(size))
                )
                for f, i in np.ndindex(copies, count)
            )
        best = max(best, total)
    return best


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shapes", [{}, {"x": (1, 3, 2)}, {"x": (2, 3, 3), "y": (1, 3, 2)}])
def test_units_and_insides_are_assigned_as_well_as_by_brute_force(seed, shapes):
    generator = np.random.default_rng(seed)
    own = generator.normal(size=(3, 3))
    inner = {name: generator.normal(size=(f, n, m, n, m)) for name, (f, n, m) in shapes.items()}
    columns, insides = solve_joint(own, inner)
    total = own[np.arange(3), columns].sum()
    for name, blocks in inner.items():
        for f, i, k in np.ndindex(insides[name].shape):
            total += blocks[f, i, k, columns[i], insides[name][f, i, k]]
    assert total == pytest.approx(brute_force(own, inner))


def test_gram_blocks_compare_along_the_trailing_axes():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(2, 3, 4, 5, generator=generator) for _ in range(2))
    result = grams([(a, b), (a, b)], [2, 0, 1], 2)
    expected = 2 * torch.einsum("fnmr,FNmr->mfnFN", a, b).reshape(4, 6, 6)
    torch.testing.assert_close(torch.from_numpy(result), expected, rtol=1e-5, atol=1e-5)


class Grouped(nn.Module):
    """Grouped convolutions in a row, with a norm of other groups between them."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 12, 3), nn.GroupNorm(3, 12)
        self.deep, self.head = nn.Conv2d(12, 15, 3, groups=3), nn.Linear(15, 4)

    def forward(self, x):
        return self.head(torch.relu(self.deep(torch.relu(self.norm(self.stem(x))))).mean((2, 3)))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(5, 12), nn.Linear(12, 3)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(12, 4, 20, batch_first=True, dropout=0.0), 2)

    def forward(self, x):
        return self.head(self.encoder(self.stem(x)))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(5, 9, 2, batch_first=True), nn.Linear(9, 3)

    def forward(self, x):
        return self.head(self.lstm(x)[0])


class Mixer(nn.Module):
    """Tokens are mixed beside the channels, which must be lined up first."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(5, 12), nn.Linear(12, 3)
        self.tokens, self.back = nn.Linear(6, 10), nn.Linear(10, 6)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        return self.head(x + self.back(torch.relu(self.tokens(x.mT))).mT)


NETWORKS = {
    "mixer": (Mixer, (6, 5)),
    "grouped": (Grouped, (1, 8, 8)),
    "encoder": (Encoder, (6, 5)),
    "recurrent": (Recurrent, (4, 5)),
}


@pytest.fixture(scope="module", params=NETWORKS)
def planted(request):
    build, shape = NETWORKS[request.param]
    torch.manual_seed(0)
    module = build().eval()
    for parameter in module.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    inputs = torch.randn(300, *shape)
    spec = trace(module, (inputs[:2],))
    state = module.state_dict()
    permutation = Permutation.random(spec, 1)
    return (
        module,
        spec,
        state,
        permutation,
        permutation.apply(state),
        Split(inputs, torch.zeros(300, dtype=torch.int64)),
    )


def test_weights_recover_the_permutation(planted):
    _, spec, a, permutation, b, _ = planted
    match = match_weights(spec, a, b)
    assert match.permutation == permutation.invert()
    assert_same_state(match.permutation.apply(b), dict(a))


@pytest.mark.parametrize("similarity", ["summed", "pearson", "linear"])
def test_activations_recover_the_permutation(planted, similarity):
    module, spec, a, permutation, b, data = planted
    match = match_activations(spec, module, a, b, data, similarity=similarity)
    assert match.permutation == permutation.invert()


def test_laws_hold_and_files_keep_index_arrays_with_bases(planted, tmp_path):
    _, spec, a, p, b, _ = planted
    q = Permutation.random(spec, 2)
    assert_same_state(p.invert().apply(b), dict(a))
    assert_same_state(p.compose(q).apply(a), q.apply(b))
    assert p.compose(p.invert()) == Permutation.identity(spec)
    p.save(tmp_path / "p.safetensors")
    assert Permutation.load(tmp_path / "p.safetensors") == p


def test_the_objective_of_every_start_is_at_least_that_of_the_identity(planted):
    _, spec, a, _, _, _ = planted
    generator = torch.Generator().manual_seed(3)
    other = {name: torch.randn(tensor.shape, generator=generator) for name, tensor in a.items()}
    match = match_weights(spec, a, other, restarts=2)
    assert match.objective_after >= match.objective_before
    aligned = match.permutation.apply(other)
    total = sum((a[name].double() * aligned[name].double()).sum().item() for name in a)
    assert match.objective_after == pytest.approx(total)
