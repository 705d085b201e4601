"""Checkpoints that stay on disk: tensors are mapped into memory when asked for, one at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import safetensors
from torch import Tensor

from fastmatch.checkpoints.masks import SAFETENSORS_PREFIX
from fastmatch.errors import CheckpointError


class Stream(Mapping[str, Tensor]):
    """A .safetensors checkpoint, or one in shards by its ``.safetensors.index.json``, as a state dict on disk.

    For networks larger than memory: ``match_weights(spec, Stream(a), Stream(b))``. A tensor takes memory while it is
    referred to. Masks of a pruned network are left out. Weights are not checked for NaN, which would read all of them;
    matching refuses what it finds.

    Raises
    ------
    CheckpointError
        A file is missing, truncated, not of this format, or does not hold what the index says.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise CheckpointError(f"no checkpoint at {path}; check the path")
        if self.path.suffix == ".json":
            self._files = _shards(self.path)
        else:
            self._files = dict.fromkeys(_names(self.path), self.path)

    def __getitem__(self, name: str) -> Tensor:
        file = self._files[name]
        try:
            with safetensors.safe_open(file, framework="pt") as handle:
                return handle.get_tensor(name)
        except (safetensors.SafetensorError, OSError) as error:
            raise CheckpointError(f"{file} has changed since it was opened; start again") from error

    def __contains__(self, name: object) -> bool:
        return name in self._files

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _names(file: Path) -> list[str]:
    try:
        with safetensors.safe_open(file, framework="pt") as handle:
            return [name for name in handle.keys() if not name.startswith(SAFETENSORS_PREFIX)]  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is missing, truncated or no safetensors file; fetch it again") from error


def _shards(index: Path) -> dict[str, Path]:
    """File of every tensor, as the index says and the files confirm; they lie beside the index."""
    try:
        files = {str(name): str(file) for name, file in json.loads(index.read_text())["weight_map"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise CheckpointError(f"{index} is no index of shards; name model.safetensors.index.json") from error
    if outside := [file for file in files.values() if Path(file).name != file]:
        raise CheckpointError(f"{index}: {outside[0]!r:.80} is not the name of a file beside it; fetch it again")
    held = {file: set(_names(index.parent / file)) for file in dict.fromkeys(files.values())}
    if missing := [name for name, file in files.items() if name not in held[file]]:
        raise CheckpointError(f"{index}: {missing[0]!r:.80} is not in {files[missing[0]]}; fetch both again")
    return {name: index.parent / file for name, file in files.items()}
