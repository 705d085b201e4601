"""Recover a planted permutation of two networks that stay on disk: ``python -m benchmarks.large FOLDER``.

Writes both networks in shards (random weights, 4 bytes a parameter each), then matches them, and says how long that
took and how much memory.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

import fastmatch
from benchmarks.memory import forget_peak, status
from fastmatch import networks

MODEL = "resnet20(width=64)"


def write_shards(folder: Path, name: str, state: Mapping[str, Tensor]) -> Path:
    """Write a state dict, a tensor a file, and the index of its files."""
    files = {}
    for number, key in enumerate(state):
        files[key] = f"{name}-{number:05d}.safetensors"
        safetensors.torch.save_file({key: state[key].contiguous()}, folder / files[key])
    index = folder / f"{name}.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": files}))
    return index


class Random(Mapping[str, Tensor]):
    """Standard normal tensors of the shapes of a network, made when asked for."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}

    def __getitem__(self, name: str) -> Tensor:
        seed = list(self.shapes).index(name)
        return torch.randn(self.shapes[name], generator=torch.Generator().manual_seed(seed))

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)


class Permuted(Random):
    """The same, with units moved."""

    def __init__(self, network: torch.nn.Module, permutation: fastmatch.Permutation) -> None:
        super().__init__(network)
        self.permutation = permutation

    def __getitem__(self, name: str) -> Tensor:
        spec, indices = self.permutation.spec, self.permutation.indices
        return spec.permute({name: super().__getitem__(name)}, indices, [name])[name]


def main(folder: Path) -> None:
    """Write, match, compare."""
    with torch.device("meta"):
        network = networks.build(MODEL).eval()
        inputs = torch.randn(2, *networks.input_shape(MODEL))
    spec = fastmatch.trace(network, (inputs,))
    planted = fastmatch.Permutation.random(spec, seed=1)
    paths = {name: folder / f"{name}.safetensors.index.json" for name in "ab"}
    if not all(path.exists() for path in paths.values()):
        write_shards(folder, "a", Random(network))
        write_shards(folder, "b", Permuted(network, planted))
    a, b = (fastmatch.Stream(path) for path in paths.values())
    forget_peak()
    match = fastmatch.match_weights(spec, a, b)
    size = sum(parameter.numel() for parameter in network.parameters())
    print(
        f"{MODEL}, {size / 1e9:.2f} billion parameters: recovered {match.permutation == planted.invert()} "
        f"in {match.seconds:.0f} s, {match.sweeps} sweeps; "
        f"peak memory {status('VmHWM') / 1000:.2f} GB"
    )


if __name__ == "__main__":
    began = time.perf_counter()
    main(Path(sys.argv[1]))
    print(f"{time.perf_counter() - began:.0f} s in all")
