"""Linear combinations of networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def combine(networks: Sequence[Mapping[str, Tensor]], coefficients: Sequence[float]) -> dict[str, Tensor]:
    """``sum_m coefficients[m] * networks[m]``, tensor by tensor.

    Floating tensors are added up in their own type (float32 or wider), others (counters) come from the first network. A
    coefficient of 0 leaves its network out and a lone 1 copies it, so ends of a segment are exact.
    """
    terms = [(float(c), network) for c, network in zip(coefficients, networks, strict=True) if c != 0]
    result = {}
    for name, first in networks[0].items():
        if not first.is_floating_point():
            result[name] = first.clone()
            continue
        result[name] = torch.zeros_like(first, dtype=torch.promote_types(first.dtype, torch.float32))
        for coefficient, network in terms:
            result[name].add_(network[name], alpha=coefficient)
    return result
