"""Whether a network and a data set go together."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fastmatch.data.split import DataSet
from fastmatch.errors import DataError


def check_fit(module: nn.Module, data: DataSet) -> None:
    """Run two examples through ``module`` and check that it returns one logit or more for every class.

    The module should be in eval mode, or running statistics will see the two examples.

    Raises
    ------
    DataError
        The examples do not fit the network's input, or its output is not of shape (N, at least ``data.classes``).
    """
    examples = data.train.inputs[:2]
    try:
        with torch.no_grad():
            outputs = module(examples)
    except torch.OutOfMemoryError:  # of a GPU: says nothing about the data
        raise
    except (RuntimeError, ValueError, IndexError, TypeError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{data.name} has examples of shape {data.input_shape}, which the network does not take ({reason});"
            " choose data or a network that fits"
        ) from error
    if not (isinstance(outputs, Tensor) and outputs.ndim == 2 and len(outputs) == len(examples)):
        raise DataError(
            f"the network does not return one row of logits per example of {data.name}; return (N, classes)"
        )
    if outputs.shape[1] < data.classes:
        raise DataError(
            f"{data.name} has {data.classes} classes but the network only {outputs.shape[1]} outputs;"
            " choose data or a network that fits"
        )
