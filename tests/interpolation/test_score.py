"""Scores by a quick form: planted logits and deviations of which the exact ones are known."""

from __future__ import annotations

import pytest
import torch

from fastmatch.interpolation.score import score, score_quickly, scores_of

COUNT, CLASSES = 3000, 10


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=1):
    return torch.randn(*shape, generator=generator(seed))


def student(*shape, freedom):
    chi = sum(normal(*shape, seed=10 + number).square() for number in range(freedom)) / freedom
    return normal(*shape) / chi.sqrt()


def size(exact):
    return exact.abs().amax(1, keepdim=True)


def with_nan(exact, places):
    return torch.where(torch.arange(len(exact))[:, None] % 100 == places, torch.nan, exact)


def tied(exact):
    return exact.round()


# What the exact logits become, and the quick ones that belong to them.
DEVIATIONS = {
    "none": (lambda e: e, lambda e: e),
    "normal": (lambda e: e, lambda e: e + 2e-3 * size(e) * normal(*e.shape)),
    "rounded": (lambda e: e, lambda e: e.bfloat16().float()),
    "scaled": (lambda e: e, lambda e: 1.01 * e),
    "shifted": (lambda e: e, lambda e: e + 5),
    "heavy-tailed logits": (lambda e: e, lambda e: e + 1e-3 * size(e) * student(*e.shape, freedom=3)),
    "heavy-tailed examples": (
        lambda e: e,
        lambda e: e + 3e-3 * size(e) * student(len(e), 1, freedom=2) * normal(*e.shape),
    ),
    "without mean": (lambda e: e, lambda e: e + 3e-3 * size(e) * student(len(e), 1, freedom=1) * normal(*e.shape)),
    "unrelated": (lambda e: e, lambda e: normal(*e.shape)),
    "NaN in the quick form": (lambda e: e, lambda e: with_nan(e, 7)),
    "NaN in the exact form": (lambda e: with_nan(e, 7), lambda e: e.nan_to_num()),
    "NaN in both": (lambda e: with_nan(e, 7), lambda e: e),
    "infinite": (lambda e: torch.where(e > 9, torch.inf, e), lambda e: e.clamp(max=9)),
    "ties": (tied, lambda e: e + 1e-4 * normal(*e.shape)),
    "all equal": (torch.zeros_like, lambda e: e + 1e-4 * normal(*e.shape)),
    "nothing at all": (torch.zeros_like, lambda e: e),
    "one class": (lambda e: e[:, :1], lambda e: e + 1e-2),
}
CLOSE = ["none", "normal", "rounded", "scaled", "shifted"]


def planted(name, places=slice(0, COUNT), batch=250, scale=3.0):
    """Scores by the quick form, those by the exact one, and how many examples ran exactly."""
    exactly, quickly = DEVIATIONS[name]
    exact = exactly(scale * normal(COUNT, CLASSES, seed=0))
    quick = quickly(exact)
    labels = torch.randint(0, exact.shape[1], (COUNT,), generator=generator())
    runs = []
    found = score_quickly(
        lambda some: runs.append(len(exact[some])) or exact[some], lambda some: quick[some], labels, places, batch
    )
    return found, scores_of(exact[places], labels[places]), sum(runs)


@pytest.mark.parametrize("name", DEVIATIONS)
def test_errors_are_exact_and_the_mean_loss_is_close(name):
    found, expected, _ = planted(name)
    assert torch.equal(found.errors, expected.errors)
    allowed = 4 * 2e-4 * max(1.0, float(expected.losses.nanmean()))
    torch.testing.assert_close(found.losses.mean(), expected.losses.mean(), rtol=0, atol=allowed, equal_nan=True)
    assert (found.losses.dtype, found.errors.dtype) == (torch.float64, torch.bool)


@pytest.mark.parametrize("name", CLOSE)
def test_of_close_forms_few_examples_run_exactly(name):
    _, _, runs = planted(name, scale=1.0)
    assert 64 <= runs < 0.35 * COUNT


def test_no_example_runs_exactly_twice():
    _, _, runs = planted("unrelated")
    assert runs == COUNT


def test_a_shift_of_all_losses_is_taken_out():
    """Rounded weights move all losses by about the same, which no example that runs again would show."""
    found, expected, runs = planted("scaled", scale=0.5)
    assert runs < 0.5 * COUNT
    labels = torch.randint(0, CLASSES, (COUNT,), generator=generator())
    rough = scores_of(1.01 * 0.5 * normal(COUNT, CLASSES, seed=0), labels)
    assert abs(rough.losses.mean() - expected.losses.mean()) > 2e-3
    assert abs(found.losses.mean() - expected.losses.mean()) < 6e-4


@pytest.mark.parametrize("places", [slice(0, 1), slice(0, 2), slice(0, 65), slice(1000, 1777)], ids=str)
@pytest.mark.parametrize("batch", [2, 3, 7, 1000])
def test_places_and_batches_of_any_size(places, batch):
    found, expected, runs = planted("normal", places, batch)
    assert torch.equal(found.errors, expected.errors)
    assert runs >= min(64, len(expected.errors))
    torch.testing.assert_close(found.losses.mean(), expected.losses.mean(), rtol=2e-3, atol=2e-3)


def test_exact_scores_come_in_batches_of_about_the_size_in_order():
    logits, labels, sizes = normal(100, 4), torch.randint(0, 4, (100,), generator=generator()), []
    found = score(lambda some: sizes.append(some) or logits[some], labels, slice(10, 77), 20)
    expected = scores_of(logits[10:77], labels[10:77])
    assert torch.equal(found.losses, expected.losses)
    assert torch.equal(found.errors, expected.errors)
    assert max(some.stop - some.start for some in sizes) <= 20
    assert len(sizes) == 4
