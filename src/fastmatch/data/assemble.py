"""From raw tensors of any source to a checked, normalised data set."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastmatch.data.split import DataSet, Split
from fastmatch.errors import DataError

Pair = tuple[Any, Any]
"""Inputs and labels of one split, as tensors or as anything ``torch.as_tensor`` takes."""


def assemble(name: str, train: Pair, test: Pair, *, normalise: bool) -> DataSet:
    """Check two splits and make a data set of them.

    Parameters
    ----------
    name : str
        The data string, for messages.
    train, test : pair
        Inputs (N, ...) and integer labels (N,).
    normalise : bool
        Inputs are images (N, C, H, W): subtract the mean and divide by the standard deviation of each channel, both
        taken over the whole training split. Eight-bit pixels are first scaled to [0, 1].

    Raises
    ------
    DataError
        The splits are empty, not finite, of the wrong shape or type, or do not fit each other.
    """
    raw_train, train_labels = _checked(train, f"{name}: training data")
    raw_test, test_labels = _checked(test, f"{name}: test data")
    if raw_train.shape[1:] != raw_test.shape[1:]:
        shapes = f"{tuple(raw_train.shape[1:])} and {tuple(raw_test.shape[1:])}"
        raise DataError(f"{name}: training and test examples have shapes {shapes}; give both the same shape")
    train_inputs, test_inputs = _as_float(raw_train), _as_float(raw_test)
    mean, std = torch.zeros(1), torch.ones(1)
    if normalise:
        mean, std = _channel_statistics(train_inputs)
        shift, scale = mean.float()[:, None, None], std.float()[:, None, None]
        for inputs in (train_inputs, test_inputs):
            inputs.sub_(shift).div_(scale)
    return DataSet(
        name=name,
        train=Split(train_inputs, train_labels),
        test=Split(test_inputs, test_labels),
        classes=int(max(train_labels.max(), test_labels.max())) + 1,
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
    )


def _checked(pair: Pair, where: str) -> tuple[Tensor, Tensor]:
    inputs, labels = (_tensor(values, where) for values in pair)
    if labels.ndim != 1 or inputs.ndim < 2 or len(inputs) != len(labels):
        shapes = f"inputs of shape {tuple(inputs.shape)} and labels of shape {tuple(labels.shape)}"
        raise DataError(f"{where} has {shapes}; it needs (N, ...) and (N,)")
    if inputs.numel() == 0:
        raise DataError(f"{where} is empty; it needs at least one example")
    if labels.is_floating_point() or labels.dtype == torch.bool or labels.long().min() < 0:
        raise DataError(f"{where} has labels that are not class indices; use integers from 0")
    if inputs.is_complex() or (inputs.is_floating_point() and not torch.isfinite(inputs).all()):
        raise DataError(f"{where} has inputs that are NaN, infinite or complex; use finite real numbers")
    return inputs, labels.long()


def _tensor(values: Any, where: str) -> Tensor:
    try:
        return torch.as_tensor(values, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{where} is not numeric; give tensors or arrays of numbers") from error


def _as_float(inputs: Tensor) -> Tensor:
    """A contiguous float32 copy, with eight-bit values scaled to [0, 1]."""
    values = inputs.contiguous().to(torch.float32, copy=True)
    return values.div_(255) if inputs.dtype == torch.uint8 else values


def _channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, summed in float64 a chunk at a time; a constant channel gets 1."""
    chunks = images.split(64)
    count = images.numel() // images.shape[1]
    total = torch.stack([chunk.double().sum((0, 2, 3)) for chunk in chunks]).sum(0)
    mean = total / count
    squares = torch.stack([(chunk.double() - mean[:, None, None]).square().sum((0, 2, 3)) for chunk in chunks]).sum(0)
    std = (squares / count).sqrt()
    return mean, torch.where(std > 0, std, 1.0)
