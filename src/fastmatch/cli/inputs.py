"""Where commands take their data from: the command line, the card, or neither."""

from __future__ import annotations

import torch

import fastmatch

CERTIFY_EXAMPLES = 64


def find_data(
    network: fastmatch.Checkpoint, data: str | None, data_dir: str | None, limit: int | None, *, required: bool
) -> fastmatch.DataSet | None:
    """Load the data set named on the command line, else the card's; None where none is needed or the card's is not found."""
    name = data or (network.card.data if network.card else None)
    if name is None:
        if required:
            raise fastmatch.DataError(f"{network.path} does not say what it was trained on; name the data with --data")
        return None
    if data is None and not fastmatch.is_builtin_data(name):
        raise fastmatch.DataError(
            f"the card of {network.path} names data {name!r}, which are not built in; name them with --data if you trust them"
        )
    try:
        dataset = fastmatch.load_data(name, limit=limit, data_dir=data_dir)
    except fastmatch.DataError:
        if required or data is not None:
            raise
        return None
    fastmatch.check_fit(network.module, dataset)
    return dataset


def example_inputs(network: fastmatch.Checkpoint, dataset: fastmatch.DataSet | None) -> tuple[torch.Tensor, ...]:
    """Real examples where there are data, else the checkpoint's own."""
    if dataset is not None:
        return (dataset.train.take(CERTIFY_EXAMPLES).inputs,)
    if network.example_inputs is None:
        raise fastmatch.DataError(f"the inputs of {network.model} are not known; name data with --data")
    return network.example_inputs
