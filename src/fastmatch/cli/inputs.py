"""Where commands take their data from: the command line, the card, or neither."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

import fastmatch

CERTIFY_EXAMPLES = 64


def require_data(
    network: fastmatch.Checkpoint, data: str | None, data_dir: str | None, limit: int | None
) -> fastmatch.DataSet:
    """Load the data named on the command line, else the card's, and check that the network takes them."""
    name = data or (network.card.data if network.card else None)
    if name is None:
        raise fastmatch.DataError(f"{network.path} does not say what it was trained on; name the data with --data")
    if data is None and not fastmatch.is_builtin_data(name):
        raise fastmatch.DataError(
            f"the card of {network.path} names data {name!r}, which are not built in; name them with --data"
        )
    if network.fixed_batch is not None:
        raise fastmatch.DataError(
            f"{network.path} takes batches of {network.fixed_batch} only; to use data, export it with a dynamic batch "
            "size (dynamic_shapes=({0: torch.export.Dim.AUTO},)); without --data it can be aligned by weights"
        )
    dataset = fastmatch.load_data(name, limit=limit, data_dir=data_dir, label_noise=_label_noise(network, name))
    fastmatch.check_fit(network.module, dataset)
    return dataset


def _label_noise(network: fastmatch.Checkpoint, data: str) -> float:
    """Label noise that the network was trained with: its training examples are those with the noise."""
    noise = network.card.extra.get("label_noise") if network.card and network.card.data == data else None
    return float(noise) if isinstance(noise, int | float) else 0.0


def find_data(network: fastmatch.Checkpoint, data: str | None, data_dir: str | None) -> fastmatch.DataSet | None:
    """As :func:`require_data`, but None where the command line names no data and the card's are not at hand."""
    try:
        return require_data(network, data, data_dir, None)
    except fastmatch.DataError:
        if data is not None:
            raise
        return None


def example_inputs(network: fastmatch.Checkpoint, dataset: fastmatch.DataSet | None) -> tuple[torch.Tensor, ...]:
    """Real examples where there are data, else the checkpoint's own."""
    if dataset is not None:
        return (dataset.train.take(CERTIFY_EXAMPLES).inputs,)
    if network.example_inputs is None:
        raise fastmatch.DataError(
            f"the inputs of {network.model} are not known; name data with --data, or give the network an attribute "
            "example_input_array"
        )
    return network.example_inputs


def find_spec(
    network: fastmatch.Checkpoint,
    inputs: tuple[torch.Tensor, ...],
    path: str | None,
    freeze: Sequence[str],
    tracing: Literal["export", "run"],
) -> fastmatch.PermutationSpec:
    """Read the spec given on the command line, else trace the network, and freeze what is to stay."""
    if path is None:
        spec = fastmatch.trace(network.module, inputs, method=tracing)
    else:
        spec = fastmatch.load_spec(path, network.module)
    return spec.freeze(freeze)
