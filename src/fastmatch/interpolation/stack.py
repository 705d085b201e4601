"""Networks packed into flat parameter sets, so that a combination of them is one operation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from fastmatch import kernels

_ALIGNMENT = 8  # Entries: 16 bytes of a half type, and more of wider ones.


class _Place(NamedTuple):
    """Where a tensor lies in the parameter sets of its type."""

    dtype: torch.dtype
    start: int
    shape: torch.Size

    @property
    def entries(self) -> slice:
        return slice(self.start, self.start + math.prod(self.shape))


class Stack:
    """Copies of several networks, a matrix [networks, parameters] for each type that combinations of them have.

    Combinations of half types are float32, other floating types stay as the first network has them. Every tensor and
    every row starts at a multiple of 16 bytes.

    Parameters
    ----------
    networks
        State dicts with the same names and shapes. Tensors that are not floating (counters, masks) are those of the
        first.
    """

    def __init__(self, networks: Sequence[Mapping[str, Tensor]]) -> None:
        self._first = dict(networks[0])
        self._places: dict[str, _Place] = {}
        lengths: dict[torch.dtype, int] = {}
        for name, tensor in self._first.items():
            if tensor.is_floating_point():
                dtype = torch.promote_types(tensor.dtype, torch.float32)
                place = self._places[name] = _Place(dtype, lengths.get(dtype, 0), tensor.shape)
                lengths[dtype] = _ALIGNMENT * math.ceil(place.entries.stop / _ALIGNMENT)
        device = next((self._first[name].device for name in self._places), None)
        self._sets = {
            dtype: torch.zeros(len(networks), length, dtype=dtype, device=device) for dtype, length in lengths.items()
        }
        for number, network in enumerate(networks):
            for name, place in self._places.items():
                self._view(self._sets[place.dtype][number], place).copy_(network[name])

    def combine(self, coefficients: ArrayLike) -> dict[str, Tensor]:
        """State dict of ``sum_m coefficients[m] * networks[m]`` in memory of its own; see :func:`kernels.combine`.

        Floating tensors are views of one flat tensor for each type.
        """
        row = torch.as_tensor(coefficients, dtype=torch.float64)[None]
        flat = {dtype: kernels.combine(sets, row)[0] for dtype, sets in self._sets.items()}
        return {
            name: self._view(flat[place.dtype], place) if (place := self._places.get(name)) else tensor.clone()
            for name, tensor in self._first.items()
        }

    @staticmethod
    def _view(flat: Tensor, place: _Place) -> Tensor:
        return flat[place.entries].view(place.shape)
