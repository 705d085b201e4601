"""Outputs of the first layers of networks, computed once for all combinations of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from fastmatch.interpolation.lowered import Lowered, State


@dataclass(frozen=True)
class _Layer:
    """A first layer: where each unit stands by its weights, and outputs for every split."""

    units: dict[bytes, int]
    outputs: Mapping[str, Tensor]


class FirstLayers:
    """Keeps outputs of linear first layers, [examples, ..., units] for each split, within a limit of memory.

    A network whose first layer has the units of one that is known, in any order, as a permuted network has, takes them
    from there.

    Parameters
    ----------
    inputs
        Of each split.
    limit
        Bytes.
    """

    def __init__(self, lowered: Lowered, inputs: Mapping[str, Tensor], limit: float) -> None:
        self._lowered = lowered
        self._inputs = inputs
        self._limit = limit
        self._known: list[_Layer] = []

    def outputs(self, networks: Sequence[State]) -> list[Mapping[str, Tensor]] | None:
        """Outputs for each network, or None if the first layer is not linear or they do not fit."""
        examples = sum(map(len, self._inputs.values()))
        size = self._lowered.first_size(networks[0]) * examples
        room = int(self._limit / size) - len(networks) if size else -1
        if room < 0:
            return None
        self._known = self._known[max(0, len(self._known) - room) :]
        return [self._of(*self._lowered.first_layer(network)) for network in networks]

    def _of(self, weight: Tensor, bias: Tensor | None) -> Mapping[str, Tensor]:
        table = weight if bias is None else torch.cat([weight, bias[:, None]], 1)
        units = [row.tobytes() for row in table.cpu().numpy()]
        for layer in self._known:
            places = [layer.units.get(unit) for unit in units]
            if places == list(range(len(layer.units))):
                return layer.outputs
            if None not in places:
                chosen = torch.tensor(places, device=weight.device)
                return {split: values.index_select(-1, chosen) for split, values in layer.outputs.items()}
        outputs = {
            split: F.linear(self._lowered.first_inputs(inputs.to(weight.dtype)), weight, bias)
            for split, inputs in self._inputs.items()
        }
        self._known.append(_Layer({unit: place for place, unit in enumerate(units)}, outputs))
        return outputs
