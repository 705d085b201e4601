"""Products of features by torch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def feature_products(values: Sequence[Tensor]) -> Tensor:
    """See :func:`fastmatch.kernels.feature_products`."""
    rows = [value.reshape(len(value), math.prod(value.shape[1:])).double() for value in values]
    features = torch.stack(rows, 1)
    return features @ features.mT
