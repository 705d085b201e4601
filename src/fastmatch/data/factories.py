"""Data sets that a user's own function returns."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastmatch.data.assemble import Pair, assemble
from fastmatch.data.split import DataSet
from fastmatch.errors import DataError
from fastmatch.strings import load_factory


def load_from_factory(data: str) -> DataSet:
    """Call the function that ``data`` names and make a data set of the training and test data that it returns.

    Each of the two is a torch ``Dataset`` with a length, whose items are (input, label), or a pair of inputs (N, ...)
    and labels (N,) as tensors or arrays. Inputs are not normalised, except that eight-bit values are scaled to [0, 1].

    Raises
    ------
    DataError
        The function cannot be imported, fails, or returns something else.
    """
    result = load_factory(data, DataError)()
    if not (isinstance(result, tuple | list) and len(result) == 2):
        raise DataError(f"{data} returned {type(result).__name__}; return a pair: training and test data")
    train, test = (_pair(part, data) for part in result)
    return assemble(data, train, test, normalise=False)


def _pair(part: Any, data: str) -> Pair:
    if isinstance(part, tuple | list) and len(part) == 2 and all(isinstance(x, Tensor | np.ndarray) for x in part):
        return part[0], part[1]
    try:
        examples = [part[index] for index in range(len(part))]
        inputs = torch.stack([torch.as_tensor(example) for example, _ in examples])
        return inputs, torch.tensor([int(label) for _, label in examples])
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(
            f"{data}: cannot read its examples ({reason}); give (input, label) items of one shape"
        ) from error
