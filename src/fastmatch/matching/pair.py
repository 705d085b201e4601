"""A pair of networks to match."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from fastmatch.data import Split
from fastmatch.errors import DataError
from fastmatch.symmetry import PermutationSpec


@dataclass(frozen=True)
class Pair:
    """Two networks of one architecture, and what a method may look at beside their weights."""

    spec: PermutationSpec
    a: Mapping[str, Tensor]
    b: Mapping[str, Tensor]
    module: nn.Module | None = None
    data: Split | None = None

    @property
    def seen(self) -> tuple[PermutationSpec, nn.Module, Mapping[str, Tensor], Mapping[str, Tensor], Split]:
        """What methods that look at data are called with.

        Raises
        ------
        DataError
            There are no data.
        """
        if self.module is None or self.data is None:
            raise DataError("this method looks at training examples; give the network and its data")
        return self.spec, self.module, self.a, self.b, self.data
