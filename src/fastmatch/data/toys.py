"""Data that needs no files: scikit-learn's handwritten digits and its two moons."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from fastmatch.data.assemble import assemble
from fastmatch.data.split import DataSet
from fastmatch.errors import DataError

_DIGITS_TEST = 360


def digits() -> DataSet:
    """The 1797 handwritten digits of scikit-learn (Alpaydin and Kaynak 1998), 1x8x8, split into 1437 and 360.

    The split is fixed and pseudo-random, since the digits come ordered by writer.
    """
    from sklearn.datasets import load_digits

    raw = load_digits()
    images, labels = torch.from_numpy(raw.images).unsqueeze(1), torch.from_numpy(raw.target)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    test, train = order[:_DIGITS_TEST], order[_DIGITS_TEST:]
    return assemble("digits", (images[train], labels[train]), (images[test], labels[test]), normalise=True)


def moons(train: int = 512, test: int = 512, noise: float = 0.1, seed: int = 0) -> DataSet:
    """Two interleaved half circles in the plane, inputs of shape (N, 2), as scikit-learn draws them, not normalised.

    Parameters
    ----------
    train, test : int
        Numbers of examples, at least 2. The training examples do not depend on ``test``.
    noise : float
        Standard deviation of the Gaussian noise added to each coordinate.
    seed : int
        Of the noise and the order.

    Raises
    ------
    DataError
        A number is out of its range.
    """
    if min(train, test) < 2:
        raise DataError(f"moons: train={train}, test={test} is too few; each needs at least 2 examples")
    if not (math.isfinite(noise) and noise >= 0):
        raise DataError(f"moons: noise={noise} must be a finite number, 0 or more")
    if not 0 <= seed < 2**32:
        raise DataError(f"moons: seed={seed} must lie between 0 and 2**32 - 1")
    random = np.random.RandomState(seed)
    return assemble("moons", _draw(train, noise, random), _draw(test, noise, random), normalise=False)


def _draw(count: int, noise: float, random: np.random.RandomState) -> tuple[Tensor, Tensor]:
    from sklearn.datasets import make_moons

    inputs, labels = make_moons(count, noise=noise, random_state=random)
    return torch.from_numpy(inputs), torch.from_numpy(labels)
