from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fastmatch.data import is_builtin, load_data
from fastmatch.errors import DataError


def test_digits_are_whole_split_and_normalised_by_the_training_set() -> None:
    data = load_data("digits")
    assert (len(data.train), len(data.test), data.classes, data.input_shape) == (1437, 360, 10, (1, 8, 8))
    assert (data.train.inputs.dtype, data.train.labels.dtype) == (torch.float32, torch.int64)
    torch.testing.assert_close(data.train.inputs.mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(data.train.inputs.std(correction=0), torch.tensor(1.0))
    raw = torch.cat([data.train.inputs, data.test.inputs]) * data.std[0] + data.mean[0]
    torch.testing.assert_close(raw, raw.round(), atol=1e-4, rtol=0)
    assert torch.cat([data.train.labels, data.test.labels]).bincount().tolist() == [
        178, 182, 177, 183, 181, 182, 181, 179, 174, 180,
    ]  # fmt: skip


def test_digits_are_the_same_every_time() -> None:
    first, second = load_data("digits"), load_data("digits")
    assert torch.equal(first.train.inputs, second.train.inputs)
    assert torch.equal(first.test.labels, second.test.labels)


def test_moons_take_arguments_and_are_not_normalised() -> None:
    data = load_data("moons(train=64, test=10, noise=0.0)")
    assert (len(data.train), len(data.test), data.classes, data.input_shape) == (64, 10, 2, (2,))
    assert (data.mean, data.std) == ((0.0,), (1.0,))
    outer = data.train.inputs[data.train.labels == 0]
    torch.testing.assert_close(outer.norm(dim=1), torch.ones(32))


def test_moons_training_examples_depend_on_the_seed_but_not_on_the_test_size() -> None:
    first = load_data("moons(test=10, seed=1)")
    assert torch.equal(first.train.inputs, load_data("moons(test=20, seed=1)").train.inputs)
    assert not torch.equal(first.train.inputs, load_data("moons(test=10, seed=2)").train.inputs)


def test_limit_takes_from_both_splits_without_changing_normalisation_or_noise() -> None:
    whole = load_data("digits", label_noise=0.3)
    part = load_data("digits", label_noise=0.3, limit=100)
    assert (len(part.train), len(part.test)) == (100, 100)
    assert (part.mean, part.std) == (whole.mean, whole.std)
    assert torch.equal(part.train.inputs, whole.train.take(100).inputs)
    assert torch.equal(part.train.labels, whole.train.take(100).labels)


def test_label_noise_replaces_exactly_that_fraction_of_training_labels_by_other_classes() -> None:
    clean, noisy = load_data("digits"), load_data("digits", label_noise=0.5)
    changed = noisy.train.labels != clean.train.labels
    assert int(changed.sum()) == round(0.5 * 1437)
    assert torch.equal(noisy.test.labels, clean.test.labels)
    shift = (noisy.train.labels - clean.train.labels)[changed] % 10
    assert set(shift.tolist()) == set(range(1, 10))


def test_label_noise_is_seeded() -> None:
    first, again, other = (load_data("digits", label_noise=0.2, seed=seed).train.labels for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_all_labels_of_two_classes_flip_under_full_noise() -> None:
    clean, noisy = load_data("moons"), load_data("moons", label_noise=1.0)
    assert torch.equal(noisy.train.labels, 1 - clean.train.labels)


@pytest.mark.parametrize("data", ["digits", "moons(noise=0.3)", "mnist", "cifar10"])
def test_builtin_data_is_known_as_such(data: str) -> None:
    assert is_builtin(data)


@pytest.mark.parametrize("data", ["my.npz", "package.module:function", "file.py:function", "nothing", "digits(", ""])
def test_files_code_and_unknown_names_are_not_builtin(data: str) -> None:
    assert not is_builtin(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("svhn", "unknown data 'svhn'; use digits, moons, mnist, cifar10"),
        ("digits(8)", "digits: too many positional arguments"),
        ("mnist(8)", "mnist: too many positional arguments"),
        ("moons(size=8)", "moons: got an unexpected keyword argument 'size'"),
        ("moons(train=many)", "moons: train .*'many'"),
        ("moons(train=1)", "train=1, test=512 is too few"),
        ("moons(noise=-0.1)", "noise=-0.1 must be a finite number"),
        ("moons(noise=1e999)", "noise=inf must be a finite number"),
        ("moons(seed=-1)", "seed=-1 must lie between"),
        ("digits(", "cannot read 'digits\\('"),
    ],
)
def test_bad_strings_are_one_line_errors(data: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_data(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("noise", [-0.1, 1.1, float("nan")])
def test_label_noise_outside_its_range_is_refused(noise: float) -> None:
    with pytest.raises(DataError, match="is not a fraction"):
        load_data("digits", label_noise=noise)


def test_label_noise_needs_a_second_class(tmp_path: Path) -> None:
    images, labels = np.zeros((4, 2, 2), np.uint8), np.zeros(4, np.uint8)
    path = tmp_path / "one.npz"
    np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    with pytest.raises(DataError, match="has one class only"):
        load_data(str(path), label_noise=0.5)


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(DataError, match="the limit must be at least 1"):
        load_data("digits", limit=0)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_a_limited_subset_has_its_share_of_label_noise(seed, fraction):
    """Noise and subset are drawn from independent streams, whatever the seeds."""
    clean = load_data("digits", limit=300).train.labels
    noisy = load_data("digits", limit=300, label_noise=fraction, seed=seed).train.labels
    assert (clean != noisy).float().mean().item() == pytest.approx(fraction, abs=0.09)
