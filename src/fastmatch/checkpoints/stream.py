"""Checkpoints that stay on disk: tensors are mapped into memory when asked for, one at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import safetensors
from torch import Tensor

from fastmatch.errors import CheckpointError


class Stream(Mapping[str, Tensor]):
    """A .safetensors checkpoint, or one in shards by its ``.safetensors.index.json``, as a state dict on disk.

    For networks larger than memory: ``match_weights(spec, Stream(a), Stream(b))``. A tensor takes memory while it is
    referred to. Weights are not checked for NaN, which would read all of them; matching refuses what it finds.

    Raises
    ------
    CheckpointError
        A file is missing, truncated or not of this format.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise CheckpointError(f"no checkpoint at {path}; check the path")
        files = _shards(self.path) if self.path.suffix == ".json" else [self.path]
        self._files: dict[str, Path] = {}
        for file in files:
            try:
                with safetensors.safe_open(file, framework="pt") as handle:
                    self._files |= dict.fromkeys(handle.keys(), file)
            except (safetensors.SafetensorError, OSError) as error:
                raise CheckpointError(f"{file} is missing, truncated or no safetensors file; fetch it again") from error

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._files:
            raise KeyError(name)
        with safetensors.safe_open(self._files[name], framework="pt") as handle:
            return handle.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _shards(index: Path) -> list[Path]:
    try:
        names = json.loads(index.read_text())["weight_map"].values()
        return [index.parent / Path(name).name for name in dict.fromkeys(names)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is no index of shards; name model.safetensors.index.json") from error
