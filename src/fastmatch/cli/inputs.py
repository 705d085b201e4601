"""Where commands take their data from: the command line, the card, or neither."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import torch

import fastmatch
from fastmatch import files
from fastmatch.errors import OptionError

CERTIFY_EXAMPLES = 64


def require_data(
    network: fastmatch.Checkpoint,
    data: str | None,
    data_dir: str | None,
    limit: int | None,
    load: Callable[..., fastmatch.DataSet] = fastmatch.load_data,
) -> fastmatch.DataSet:
    """Load the data named on the command line, else the card's, and check that the network takes them.

    ``load`` may be :func:`fastmatch.load_data` with a memory, where many networks share their data.
    """
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
    dataset = load(name, limit=limit, data_dir=data_dir, label_noise=label_noise(network, name))
    fastmatch.check_fit(network.module, dataset)
    return dataset


def label_noise(network: fastmatch.Checkpoint, data: str) -> float:
    """Label noise that the network was trained with: its training examples are those with the noise."""
    noise = network.card.extra.get("label_noise") if network.card and network.card.data == data else None
    return float(noise) if isinstance(noise, int | float) else 0.0


def find_data(
    network: fastmatch.Checkpoint, data: str | None, data_dir: str | None, limit: int | None = None
) -> fastmatch.DataSet | None:
    """As :func:`require_data`, but None where the command line names no data and the card's are not at hand."""
    try:
        return require_data(network, data, data_dir, limit)
    except fastmatch.DataError:
        if data is not None:
            raise
        return None


def data_facts(dataset: fastmatch.DataSet, limit: int | None) -> dict[str, Any]:
    """Name, limit and hex SHA-256 of all examples: figures of equal facts can stand beside each other."""
    digest = hashlib.sha256()
    for split in (dataset.train, dataset.test):
        for tensor in (split.inputs, split.labels):
            digest.update(str(tuple(tensor.shape)).encode() + tensor.cpu().contiguous().numpy().tobytes())
    return {"data": dataset.name, "limit": limit, "data_sha256": digest.hexdigest()}


def network_facts(digests: Iterable[str], name: str = "network") -> dict[str, str]:
    """Digests of networks, one by one, so that the one that differs can be named."""
    return {f"{name} {number}": digest for number, digest in enumerate(digests, start=1)}


def model_facts(network: fastmatch.Checkpoint) -> dict[str, str | None]:
    """Model string, and the digest of the code that it names."""
    return {"model": network.model, "model_sha256": code_digest(network.model)}


def code_digest(model: str) -> str | None:
    """Hex SHA-256 of the file that a model string ``file.py:function`` names; None where it names none."""
    file, found, _ = model.partition(".py:")
    return files.sha256(f"{file}.py") if found else None


def check_tracing(method: str, tracing: str) -> None:
    """Refuse methods that look at activations on a network that was traced as it ran: they are not observed.

    Raises
    ------
    OptionError
        For that combination.
    """
    if method not in ("none", "auto") and fastmatch.METHODS[method].needs != "weights" and tracing == "run":
        raise OptionError("activations are observed on the exported network; use --method weight with --tracing run")


def move_state(state: Mapping[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    """Weights on a device; nothing is copied where they are there already."""
    return {name: tensor.to(device) for name, tensor in state.items()}


def move_network(
    network: fastmatch.Checkpoint, dataset: fastmatch.DataSet, device: torch.device
) -> fastmatch.Checkpoint:
    """Move a network, and check that it runs there: its own code may name another device."""
    moved = network.to(device)
    if moved is network:
        return network
    try:
        with torch.no_grad():
            moved.module(dataset.train.inputs[:2].to(device))
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise OptionError(f"{network.model} does not run on {device} ({reason}); use --device cpu") from error
    return moved


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
