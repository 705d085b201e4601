"""Data as resident tensors: a split of labelled examples, and a data set of two splits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fastmatch.errors import DataError, OptionError


def batch_count(examples: int, size: int) -> int:
    """Number of batches of about ``size`` that ``examples`` examples are cut into as evenly as possible.

    No batch holds a single example unless there is only one, since batch normalisation refuses it: with ``size`` 2 and
    an odd number of examples one batch holds 3. No other batch exceeds ``size``.

    Raises
    ------
    OptionError
        ``size`` is below 2.
    """
    if size < 2:
        raise OptionError(
            f"batch size {size} is too small; use at least 2, since batch normalisation refuses one example"
        )
    return max(1, min(math.ceil(examples / size), examples // 2))


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled examples, kept whole on one device.

    Attributes
    ----------
    inputs : Tensor
        float32, shape (N, ...).
    labels : Tensor
        int64, shape (N,); class indices from 0.
    """

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.labels)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Views of all examples in order, in batches of at most about ``size``; see :func:`batch_count`."""
        count = batch_count(len(self), size)
        return zip(self.inputs.tensor_split(count), self.labels.tensor_split(count), strict=True)

    def take(self, n: int, seed: int = 0) -> Split:
        """A pseudo-random subset of ``n`` examples, or the split itself where it has no more than that.

        Subsets with one seed are nested: they are prefixes of one permutation.

        Raises
        ------
        DataError
            ``n`` is below 1.
        """
        if n < 1:
            raise DataError(f"cannot take {n} examples; the limit must be at least 1")
        if n >= len(self):
            return self
        return self._shuffled(n, seed)

    def shuffle(self, seed: int = 0) -> Split:
        """All examples in a pseudo-random order."""
        return self._shuffled(len(self), seed)

    def _shuffled(self, n: int, seed: int) -> Split:
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        index = order[:n].to(self.labels.device)
        return Split(self.inputs[index], self.labels[index])

    def to(self, device: str | torch.device) -> Split:
        """The same examples on ``device``; nothing is copied where they are there already."""
        return Split(self.inputs.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class DataSet:
    """A training and a test split of one problem.

    Attributes
    ----------
    name : str
        The data string that it was loaded from.
    classes : int
        Labels lie in ``[0, classes)``.
    mean, std : tuple of float
        What the inputs were normalised with, one value per channel: ``raw = inputs * std + mean``, where raw pixels of
        eight bits count from 0 to 1. ``(0.0,)`` and ``(1.0,)`` for inputs that stay as they came.
    """

    name: str
    train: Split
    test: Split
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return tuple(self.train.inputs.shape[1:])

    def take(self, n: int, seed: int = 0) -> DataSet:
        """Both splits cut to at most ``n`` examples; see :meth:`Split.take`."""
        return replace(self, train=self.train.take(n, seed), test=self.test.take(n, seed))

    def to(self, device: str | torch.device) -> DataSet:
        """The same data on ``device``."""
        return replace(self, train=self.train.to(device), test=self.test.to(device))
