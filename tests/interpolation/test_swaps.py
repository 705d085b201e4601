"""Swaps evaluated layer by layer against permuted state dicts evaluated in full."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from fastmatch import trace
from fastmatch.data import Split
from fastmatch.interpolation.chain import find_chain
from fastmatch.interpolation.chain_swaps import ChainSwaps
from fastmatch.interpolation.swaps import PermutedSwaps, swapped, swaps_of


def chain(*widths, activation=nn.ReLU, bias=True):
    layers = [nn.Flatten()]
    for inputs, units in pairwise(widths):
        layers += [nn.Linear(inputs, units, bias=bias), activation()]
    return nn.Sequential(*layers[:-1]).eval()


class Residual(nn.Module):
    """A sum with what came before is no chain."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x):
        x = torch.relu(self.first(x))
        return self.last(x + torch.relu(self.second(x)))


class Tied(nn.Module):
    """One weight twice."""

    def __init__(self):
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x):
        x = torch.relu(self.first(x))
        return self.last(torch.relu(self.middle(torch.relu(self.middle(x)))))


MIDDLE = np.array([[0.5, 0.5]])
LINE = np.stack([1 - np.linspace(0, 1, 5), np.linspace(0, 1, 5)], 1)
FIVE = np.concatenate([np.full((1, 5), 0.2), [[0.5, 0, 0, 0.5, 0]]])
CASES = {
    "one layer, middle": (lambda: chain(6, 7, 3), MIDDLE),
    "two layers, line": (lambda: chain(6, 7, 5, 3, activation=nn.GELU), LINE),
    "two layers, five networks": (lambda: chain(6, 7, 5, 3, activation=nn.Tanh, bias=False), FIVE),
    "three tiny layers, five networks": (lambda: chain(6, 3, 2, 4, 3), FIVE),
    "one unit": (lambda: chain(6, 1, 4, 3), MIDDLE),
}


def problem(build, rows, dtype=torch.float64, examples=40):
    networks = []
    for seed in range(rows.shape[1]):
        torch.manual_seed(seed)
        networks.append({name: 3 * tensor.to(dtype) for name, tensor in build().state_dict().items()})
    module = build()
    inputs = torch.randn(examples, 6, dtype=torch.float32)
    data = Split(inputs, torch.randint(3, (examples,)))
    return module, trace(module, (inputs[:2],)), networks, data


def proposals(spec, networks, count, generator, single):
    sizes = [group.size for group in spec.groups]
    swaps = np.stack([generator.integers(0, size, (count, networks, 2)) for size in sizes], 2)
    if single:
        keep = np.zeros((count, networks, len(sizes)), bool)
        keep[np.arange(count), generator.integers(networks, size=count), generator.integers(len(sizes), size=count)] = 1
        swaps[..., 1] = np.where(keep, swaps[..., 1], swaps[..., 0])
    return swaps


@pytest.mark.parametrize("case", CASES)
def test_both_ways_agree_over_a_long_chain(case):
    build, rows = CASES[case]
    module, spec, networks, data = problem(build, rows)
    assert isinstance(swaps_of(spec, module, networks, rows, data, "loss"), ChainSwaps)
    chain = find_chain(module, spec, networks[0], data.inputs[:5])
    for quantity in ("loss", "error"):
        quick = ChainSwaps(spec, chain, networks, rows, data, quantity)
        plain = PermutedSwaps(spec, module, networks, rows, data, quantity)
        for single in (False, True):
            _agree(spec, quick, plain, len(networks), single)


def _agree(spec, quick, plain, networks, single):
    """The same values for a dozen batches, one candidate of each being accepted."""
    generator = np.random.default_rng(0)
    begin = [spec.random(generator) for _ in range(networks)]
    np.testing.assert_allclose(quick.start(begin), plain.start(begin), rtol=0, atol=1e-9)
    for step in range(12):
        swaps = proposals(spec, networks, 1 + step % 4, generator, single)
        np.testing.assert_allclose(quick.values(swaps), plain.values(swaps), rtol=0, atol=1e-9)
        chosen = int(generator.integers(len(swaps)))
        quick.accept(chosen)
        plain.accept(chosen)


def test_float32_does_not_drift_over_many_accepted_swaps():
    build, rows = CASES["two layers, line"]
    module, spec, networks, data = problem(build, rows, torch.float32)
    quick = swaps_of(spec, module, networks, rows, data, "loss")
    generator, indices = np.random.default_rng(1), [spec.identity()] * 2
    quick.start(indices)
    for swaps in proposals(spec, 2, 400, generator, False):
        values = quick.values(swaps[None])
        quick.accept(0)
        indices = swapped(spec, indices, swaps)
    plain = PermutedSwaps(spec, module, networks, rows, data, "loss")
    np.testing.assert_allclose(values[0], plain.start(indices), rtol=3e-6)


def test_a_candidate_has_one_value_in_every_batch():
    build, rows = CASES["two layers, five networks"]
    module, spec, networks, data = problem(build, rows, torch.float32)
    for quantity in ("loss", "error"):
        quick = swaps_of(spec, module, networks, rows, data, quantity)
        quick.start([spec.identity()] * 5)
        for single in (False, True):
            swaps = proposals(spec, 5, 9, np.random.default_rng(2), single)
            together = quick.values(swaps)
            alone = np.concatenate([quick.values(swap[None]) for swap in swaps])
            np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("build", [Residual, Tied, lambda: chain(6, 5, 3, activation=nn.PReLU)])
def test_what_is_no_chain_is_evaluated_in_full(build):
    module, spec, networks, data = problem(build, MIDDLE)
    engine = swaps_of(spec, module, networks, MIDDLE, data, "loss")
    assert isinstance(engine, PermutedSwaps)
    swaps = proposals(spec, 2, 2, np.random.default_rng(0), False)
    engine.start([spec.identity()] * 2)
    assert engine.values(swaps).shape == (2, 1)


def test_a_chain_names_its_layers_and_groups():
    module, spec, networks, data = problem(lambda: chain(6, 7, 5, 3), MIDDLE)
    found = find_chain(module, spec, networks[0], data.inputs[:5])
    assert [layer.weight for layer in found.layers] == ["1.weight", "3.weight", "5.weight"]
    assert [layer.group for layer in found.layers] == [*(group.name for group in spec.groups), None]
    elsewhere = find_chain(module.to("meta"), spec, networks[0], data.inputs[:5])
    assert elsewhere.layers == found.layers
