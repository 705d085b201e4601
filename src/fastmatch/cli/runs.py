"""Training runs as ``fastmatch train --save-epochs`` leaves them: a folder of checkpoints by step."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

import fastmatch
from fastmatch.errors import OptionError

_FILE = re.compile(r"step-(\d+)\.(pt|safetensors)")


@dataclass(frozen=True, eq=False)
class Run:
    """Checkpoints of one training run; the network of the first of them stands for the architecture."""

    name: str
    checkpoints: dict[int, fastmatch.Checkpoint]

    @property
    def network(self) -> fastmatch.Checkpoint:
        """The earliest checkpoint."""
        return next(iter(self.checkpoints.values()))

    @property
    def states(self) -> dict[int, dict[str, Tensor]]:
        """State dicts by step."""
        return {step: network.state_dict for step, network in self.checkpoints.items()}

    @property
    def files(self) -> list[Path]:
        """Checkpoints that were read."""
        return [network.path for network in self.checkpoints.values()]

    def facts(self, side: str) -> dict[str, str]:
        """SHA-256 of every checkpoint, by side and step."""
        return {f"step {step} of {side}": network.sha256 for step, network in self.checkpoints.items()}


def read_run(path: str, model: str | None) -> Run:
    """Read the folder of a training run, or a checkpoint with its folder beside it, which is then the last step.

    Raises
    ------
    OptionError
        There is no such folder, it holds no steps or one of them twice, or the checkpoint does not say its step.
    CheckpointError, ModelError
        A checkpoint cannot be read.
    """
    given = Path(path)
    folder = given.with_suffix("") if given.is_file() else given
    if not folder.is_dir():
        beside = f"no folder {folder} beside it" if given.is_file() else "no such folder"
        raise OptionError(f"{path} is no training run: {beside}; write one with fastmatch train --save-epochs 0,1,2")
    found = {step: fastmatch.load(file, model) for step, file in _steps(folder).items()}
    if given.is_file():
        last = fastmatch.load(given, model)
        step = last.card.step if last.card else None
        if step is None:
            raise OptionError(f"{path} does not say after which step it was written; name its folder {folder} instead")
        found.setdefault(step, last)
    return Run(path, dict(sorted(found.items())))


def _steps(folder: Path) -> dict[int, Path]:
    files: dict[int, Path] = {}
    for file in sorted(folder.iterdir()):
        if match := _FILE.fullmatch(file.name):
            step = int(match[1])
            if step in files:
                raise OptionError(f"{folder} holds step {step} twice, {files[step].name} and {file.name}; remove one")
            files[step] = file
    if not files:
        raise OptionError(f"{folder} holds no step-000123.pt; write them with fastmatch train --save-epochs 0,1,2")
    return files
