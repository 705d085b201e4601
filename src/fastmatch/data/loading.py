"""What a data string stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from fastmatch.data.archives import load_archive, load_named_archive
from fastmatch.data.factories import load_from_factory
from fastmatch.data.split import DataSet, Split
from fastmatch.data.toys import digits, moons
from fastmatch.errors import DataError, FastmatchError
from fastmatch.strings import invoke, is_factory, parse_call

_NOISE = 0x6E6F697365  # Tells the stream of label noise from all others.
_ARCHIVES = ("mnist", "cifar10")
_TOYS: dict[str, Callable[..., DataSet]] = {"digits": digits, "moons": moons}


def is_builtin(data: str) -> bool:
    """Whether ``data`` names built-in data: neither a file, nor code of the user, nor an unknown name."""
    try:
        return parse_call(data, DataError).name in (*_TOYS, *_ARCHIVES)
    except FastmatchError:
        return False


def load_data(
    data: str, *, limit: int | None = None, data_dir: str | None = None, label_noise: float = 0.0, seed: int = 0
) -> DataSet:
    """Load the data that a data string names.

    Parameters
    ----------
    data : str
        ``digits``, ``moons(train=512, test=512, noise=0.1, seed=0)``, ``mnist``, ``cifar10``, a path to an ``.npz``
        with train_images, train_labels, test_images and test_labels, or a user's own ``package.module:function`` or
        ``file.py:function``, which is imported and called.
    limit : int, optional
        Keep at most this many training and this many test examples: the same nested subsets whatever the seed.
        Normalisation and label noise come first, so they do not depend on it.
    data_dir : str, optional
        Folder of ``mnist.npz`` and ``cifar10.npz``; by default that in the environment variable ``FASTMATCH_DATA``.
    label_noise : float
        Fraction of all training labels that are replaced, each by another class drawn uniformly.
    seed : int
        Of the label noise.

    Raises
    ------
    DataError
        The string is unknown or malformed, the data are missing or unusable, or an argument is out of its range.
    """
    loaded = replace(_load(data, data_dir), name=data)
    if label_noise != 0.0:
        loaded = replace(loaded, train=_with_label_noise(loaded, label_noise, seed))
    return loaded if limit is None else loaded.take(limit)


def _load(data: str, data_dir: str | None) -> DataSet:
    if is_factory(data):
        return load_from_factory(data)
    if data.endswith(".npz"):
        return load_archive(data, Path(data))
    call = parse_call(data, DataError)
    if call.name in _ARCHIVES:
        return invoke(call, partial(load_named_archive, call.name, data_dir), DataError)
    if call.name in _TOYS:
        return invoke(call, _TOYS[call.name], DataError)
    known = ", ".join((*_TOYS, *_ARCHIVES))
    raise DataError(f"unknown data {data!r}; use {known}, a path to an .npz, or package.module:function")


def _with_label_noise(data: DataSet, fraction: float, seed: int) -> Split:
    """Exactly ``round(fraction * N)`` labels, chosen and shifted to another class pseudo-randomly."""
    if not 0.0 <= fraction <= 1.0:
        raise DataError(f"label noise {fraction} is not a fraction; it must lie between 0 and 1")
    if data.classes < 2:
        raise DataError(f"{data.name} has one class only, so its labels have no other; leave label noise at 0")
    # A stream of its own: that of Split.take with the same seed would put the noise into the subset that is kept.
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence([_NOISE, seed]).generate_state(1)[0]))
    labels = data.train.labels.clone()
    chosen = torch.randperm(len(labels), generator=generator)[: round(fraction * len(labels))]
    shift = torch.randint(1, data.classes, (len(chosen),), generator=generator)
    labels[chosen] = (labels[chosen] + shift) % data.classes
    return Split(data.train.inputs, labels)
