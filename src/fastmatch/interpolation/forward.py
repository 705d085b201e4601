"""A network on one batch of data, with weights that are not its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fastmatch.errors import DataError
from fastmatch.symmetry import call, float_type


def forward(module: nn.Module, state: Mapping[str, Tensor], inputs: Tensor) -> Any:
    """Output of ``module`` with weights ``state``, computed in the type of the weights.

    Raises
    ------
    DataError
        The network does not take the inputs.
    """
    try:
        # A copy: the network may change what it is given in place.
        return call(module, state, (inputs.to(float_type(state), copy=True),))
    except torch.OutOfMemoryError:  # of a GPU: says nothing about the data
        raise
    except (RuntimeError, ValueError, IndexError, TypeError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"the network does not take examples of shape {tuple(inputs.shape[1:])} in batches of {len(inputs)} "
            f"({reason}); choose data that fit"
        ) from error
