from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fastmatch import evaluate
from fastmatch.errors import OptionError
from fastmatch.interpolation import memory, score
from fastmatch.interpolation.memory import Work, free_memory, measure_work
from tests.problems import build

MiB = 1 << 20


@pytest.mark.parametrize(
    ("activation", "limit", "examples"),
    [
        (4096, 1e12, 1000),  # small activations: as many as are ever run at once
        (MiB, 1e12, 16),  # large ones: as few as are run at once where memory does not ask for less
        (64 << 10, 1e12, 64),  # as many as have 4 MiB
        (MiB, 12 * MiB, 4),  # three of each are held
        (MiB, 1, 2),  # normalisation needs two
        (0, 1, 2),
        (0, 1e12, 1000),
    ],
)
def test_batches_stay_in_the_caches_and_within_the_limit(activation, limit, examples):
    assert Work(0, activation).batch(limit) == examples


@pytest.mark.parametrize(
    ("activation", "limit", "examples"),
    [(MiB, 3000 * MiB, 682), (MiB, 900 * MiB, 300), (MiB, math.inf, 682), (MiB, 1, 250)],
)
def test_statistics_come_from_what_fits_and_never_from_too_few(activation, limit, examples):
    assert Work(0, activation).settled(limit) == examples


@pytest.mark.parametrize("examples", [1, 2, 5])
def test_work_is_that_of_one_example(examples):
    module = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Flatten(), nn.Linear(6 * 8 * 8, 10)).eval()
    inputs = torch.randn(examples, 3, 8, 8)
    work = measure_work(lambda: module(inputs), examples)
    assert work.operations == 2 * (6 * 8 * 8 * 3 * 9 + 6 * 8 * 8 * 10)
    assert work.activation == 4 * 6 * 8 * 8


def test_memory_is_free():
    assert 0 < free_memory(torch.device("cpu")) < 1 << 50


def test_memory_is_that_of_the_machine_where_nothing_says_what_is_free(monkeypatch, tmp_path):
    free = free_memory(torch.device("cpu"))
    monkeypatch.setattr(memory, "_LINUX", tmp_path / "none")
    assert free_memory(torch.device("cpu")) > free


@pytest.mark.parametrize("size", [None, 200 << 10, 1.0])
def test_what_may_be_taken_decides_about_batches_and_not_about_figures(size, digits, monkeypatch):
    sizes = []
    right = score.scores_of
    monkeypatch.setattr(score, "scores_of", lambda logits, labels: sizes.append(len(labels)) or right(logits, labels))
    module = build("resnet20(width=1, in_channels=1, size=8)")
    data, rows = digits.test.take(60), [[1.0]]
    found = evaluate(module, [module.state_dict()], rows, data, bn="keep", memory=size)
    assert max(sizes) == {None: 60, 200 << 10: 8, 1.0: 2}[size]
    expected = evaluate(module, [module.state_dict()], rows, data, bn="keep")
    torch.testing.assert_close(torch.tensor(found.losses), torch.tensor(expected.losses))


@pytest.mark.parametrize("size", [0, -1.0, math.nan, math.inf])
def test_no_memory_is_refused(size, digits):
    module = build("mlp(64, 10)")
    with pytest.raises(OptionError, match="memory must be a positive number of bytes"):
        evaluate(module, [module.state_dict()], [[1.0]], digits.test, memory=size)
