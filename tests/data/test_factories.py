from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
import torch

from fastmatch.data import load_data
from fastmatch.errors import DataError

FACTORIES = """
    import numpy as np
    import torch
    from torch.utils.data import Dataset, IterableDataset, TensorDataset

    X, Y = torch.arange(12.0, dtype=torch.float64).reshape(6, 2), torch.tensor([0, 1, 2, 0, 1, 2])

    def tensors():
        return (X, Y), (X[:2], Y[:2])

    def arrays(count=6):
        return (X.numpy()[:count], Y.numpy()[:count]), (X.numpy(), Y.numpy())

    def datasets():
        return TensorDataset(X, Y), Squares()

    class Squares(Dataset):
        def __len__(self):
            return 3
        def __getitem__(self, index):
            return np.full(2, index**2, np.float32), index

    class Endless(IterableDataset):
        def __iter__(self):
            yield X[0], 0

    def endless():
        return Endless(), Endless()

    def ragged():
        return [(torch.zeros(2), 0), (torch.zeros(3), 0), (torch.zeros(2), 0)], (X, Y)

    def alone():
        return TensorDataset(X, Y)

    def broken():
        raise RuntimeError("two\\nlines")
"""


@pytest.fixture
def user(tmp_path: Path) -> Path:
    path = tmp_path / "user.py"
    path.write_text(textwrap.dedent(FACTORIES))
    return path


@pytest.mark.parametrize("name", ["tensors", "arrays", "datasets"])
def test_tensors_arrays_and_torch_datasets_give_the_same_training_split(user: Path, name: str) -> None:
    data = load_data(f"{user}:{name}")
    assert data.name == f"{user}:{name}"
    assert (data.train.inputs.dtype, data.train.labels.dtype) == (torch.float32, torch.int64)
    assert data.train.inputs.tolist() == torch.arange(12.0).reshape(6, 2).tolist()
    assert data.train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert (data.classes, data.mean, data.std) == (3, (0.0,), (1.0,))


def test_items_of_a_torch_dataset_are_stacked(user: Path) -> None:
    test = load_data(f"{user}:datasets").test
    assert test.inputs.tolist() == [[0, 0], [1, 1], [4, 4]]
    assert test.labels.tolist() == [0, 1, 2]


def test_factories_take_arguments_and_limits(user: Path) -> None:
    data = load_data(f"{user}:arrays(count=4)", limit=5)
    assert (len(data.train), len(data.test)) == (4, 5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent", "has no function 'absent'"),
        ("broken", "RuntimeError: two lines"),
        ("alone", "returned TensorDataset; return a pair"),
        ("endless", "cannot read its examples"),
        ("ragged", "cannot read its examples"),
    ],
)
def test_unusable_factories_are_one_line_errors(user: Path, name: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_data(f"{user}:{name}")
    assert "\n" not in str(caught.value)
