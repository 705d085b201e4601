"""What ``align`` is asked for, of two networks or of many, and what both begin with."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

import fastmatch
from fastmatch.cli.inputs import check_tracing, example_inputs, find_data, find_spec, move_state, require_data
from fastmatch.cli.sparse import lineage_of


@dataclass(frozen=True)
class Request:
    """Options of the command line; ``asked`` are those of some methods only, None where they were left out."""

    method: str
    asked: Mapping[str, Any]
    seed: int
    model: str | None
    data: str | None
    data_dir: str | None
    spec_path: str | None
    freeze: Sequence[str]
    tracing: Literal["export", "run"]
    limit: int | None
    device: torch.device
    json_path: str | None

    def record(self, **others: Any) -> dict[str, Any]:
        """What an alignment file says of its options."""
        chosen = {"method": self.method, **self.asked, **others, "seed": self.seed, "limit": self.limit}
        return chosen | {"spec": self.spec_path, "freeze": list(self.freeze), "tracing": self.tracing}


class Prepared(NamedTuple):
    """Networks that fit a spec, weights and training examples on the device, and inputs to certify on."""

    networks: Sequence[fastmatch.Checkpoint]
    spec: fastmatch.PermutationSpec
    states: list[dict[str, torch.Tensor]]
    examples: fastmatch.Split | None
    inputs: tuple[torch.Tensor, ...]
    source: str | None  # Name of the data.

    @property
    def certified_on(self) -> str:
        """What the inputs are."""
        return f"{self.source} examples" if self.source else "random inputs"


def prepare(networks: Sequence[fastmatch.Checkpoint], request: Request) -> Prepared:
    """Find data and a spec, and check all that can be checked before matching."""
    check_tracing(request.method, request.tracing)
    first = networks[0]
    optional = fastmatch.METHODS[request.method].needs == "weights"
    dataset = (find_data if optional else require_data)(first, request.data, request.data_dir, request.limit)
    inputs = example_inputs(first, dataset)
    spec = find_spec(first, inputs, request.spec_path, request.freeze, request.tracing)
    if request.spec_path:
        spec.certify(first.module, inputs).require(f"a random permutation of the groups in {request.spec_path}")
    for network in networks:
        spec.check_state(network.state_dict, str(network.path))
    states = [move_state(network.state_dict, request.device) for network in networks]
    examples = None if dataset is None or request.tracing == "run" else dataset.train.to(request.device)
    return Prepared(networks, spec, states, examples, inputs, None if dataset is None else dataset.name)


def origin(network: fastmatch.Checkpoint, output: str) -> dict[str, str | None]:
    """Path, relative to the alignment where it can be, digest, and lineage of a checkpoint."""
    place = os.path.relpath(Path(network.path).resolve(), Path(output).resolve().parent)
    return {"path": place, "sha256": network.sha256, "lineage": lineage_of(network.card)}
