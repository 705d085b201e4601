from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastmatch.data import DataSet, load_data
from fastmatch.errors import DataError

KEYS = ("train_images", "train_labels", "test_images", "test_labels")


def arrays(*shape: int, count: int = 12) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, *shape), dtype=np.uint8)
    labels = np.arange(count, dtype=np.uint8) % 3
    return dict(zip(KEYS, (images, labels, images[:5], labels[:5]), strict=True))


def load(tmp_path: Path, content: dict[str, Any]) -> DataSet:
    path = tmp_path / "some.npz"
    np.savez(path, **content)
    return load_data(str(path))


def test_colour_images_become_channels_first_and_normalised_per_channel(tmp_path: Path) -> None:
    content = arrays(4, 5, 3)
    data = load(tmp_path, content)
    pixels = content["train_images"].astype(np.float64) / 255
    mean, std = pixels.mean((0, 1, 2)), pixels.std((0, 1, 2))
    expected = ((pixels - mean) / std).transpose(0, 3, 1, 2)
    assert (data.input_shape, data.classes, len(data.test)) == ((3, 4, 5), 3, 5)
    assert data.train.inputs.is_contiguous()
    torch.testing.assert_close(data.train.inputs, torch.tensor(expected, dtype=torch.float32))
    torch.testing.assert_close(data.test.inputs, data.train.inputs[:5])
    np.testing.assert_allclose([data.mean, data.std], [mean, std], rtol=1e-6)


def test_grey_images_get_one_channel(tmp_path: Path) -> None:
    content = arrays(6, 6)
    data = load(tmp_path, content)
    assert data.input_shape == (1, 6, 6)
    raw = (data.train.inputs[:, 0] * data.std[0] + data.mean[0]) * 255
    torch.testing.assert_close(raw, torch.from_numpy(content["train_images"]).float(), atol=1e-3, rtol=0)


def test_vectors_stay_as_they_are(tmp_path: Path) -> None:
    content = arrays(7)
    content["train_images"], content["test_images"] = (content[key].astype(">f8") for key in (KEYS[0], KEYS[2]))
    data = load(tmp_path, content)
    assert data.input_shape == (7,)
    assert data.train.inputs.dtype == torch.float32
    assert data.train.inputs.tolist() == content["train_images"].tolist()


def test_a_constant_channel_stays_finite(tmp_path: Path) -> None:
    content = arrays(4, 4, 2)
    content["train_images"][..., 1] = 7
    data = load(tmp_path, content)
    assert data.train.inputs[:, 1].abs().max() < 1e-6
    assert data.std[1] == 1.0


def test_named_archives_are_found_in_the_folder_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "mnist.npz", **arrays(8, 8))
    np.savez(tmp_path / "cifar10.npz", **arrays(8, 8, 3))
    monkeypatch.setenv("FASTMATCH_DATA", str(tmp_path / "elsewhere"))
    assert load_data("mnist", data_dir=str(tmp_path)).input_shape == (1, 8, 8)
    monkeypatch.setenv("FASTMATCH_DATA", str(tmp_path))
    assert load_data("cifar10").input_shape == (3, 8, 8)


def test_a_named_archive_that_is_missing_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTMATCH_DATA", raising=False)
    with pytest.raises(DataError, match=r"mnist needs mnist\.npz; .*--data-dir or FASTMATCH_DATA"):
        load_data("mnist")
    with pytest.raises(DataError, match=r"no cifar10\.npz in .*--data-dir or FASTMATCH_DATA") as caught:
        load_data("cifar10", data_dir=str(tmp_path))
    assert str(tmp_path) in str(caught.value)


def test_a_missing_path_is_named() -> None:
    with pytest.raises(DataError, match=r"no data file nowhere/some\.npz"):
        load_data("nowhere/some.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"plain text", b"\x80\x04N."])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "some.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"must be an \.npz archive"):
        load_data(str(path))


def test_a_truncated_archive_a_folder_and_a_bare_array_are_refused(tmp_path: Path) -> None:
    whole, cut, bare = tmp_path / "whole.npz", tmp_path / "cut.npz", tmp_path / "bare.npz"
    np.savez_compressed(whole, **arrays(8, 8))
    cut.write_bytes(whole.read_bytes()[:-100])
    with bare.open("wb") as handle:
        np.save(handle, np.zeros(3))
    (tmp_path / "folder.npz").mkdir()
    for path in (cut, bare, tmp_path / "folder.npz"):
        with pytest.raises(DataError, match=r"must be an \.npz archive"):
            load_data(str(path))


def test_pickled_arrays_are_not_loaded(tmp_path: Path) -> None:
    content: dict[str, Any] = arrays(8, 8)
    content["train_labels"] = np.array([{}] * 12, dtype=object)
    with pytest.raises(DataError, match="plain numeric arrays"):
        load(tmp_path, content)


def changed(key: str, value: np.ndarray) -> dict[str, np.ndarray]:
    return {**arrays(4, 4), key: value}


NAN = np.full((12, 4, 4), np.nan)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train_images": np.zeros(3)}, "has no train_labels, test_images, test_labels; it needs the arrays"),
        (
            changed("train_labels", np.zeros(11, np.int64)),
            r"inputs of shape \(12, 1, 4, 4\) and labels of shape \(11,\)",
        ),
        (changed("train_labels", np.zeros((12, 1), np.int64)), r"labels of shape \(12, 1\); it needs"),
        (changed("train_labels", np.zeros(12)), "training data has labels that are not class indices"),
        (changed("test_labels", np.full(5, -1)), "test data has labels that are not class indices"),
        (changed("test_labels", np.array(list("abcde"))), "test data is not numeric"),
        (changed("test_images", np.zeros((5, 4, 3), np.uint8)), "training and test examples have shapes"),
        (changed("train_images", np.zeros(12, np.uint8)), r"has images of shape \(12,\)"),
        (changed("train_images", np.zeros((12, 1, 4, 4, 1), np.uint8)), "has images of shape"),
        (changed("train_images", np.zeros((12, 4, 4), np.complex64)), "has images of type complex64"),
        (changed("train_images", NAN), "training data has inputs that are NaN"),
        (arrays(4, 4, count=0), "training data is empty"),
        (arrays(4, 0), "training data is empty"),
    ],
)
def test_unusable_arrays_are_one_line_errors(tmp_path: Path, content: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load(tmp_path, content)
    assert "\n" not in str(caught.value)
