"""Networks of iterative magnitude pruning in a folder, a checkpoint for each, that an interrupted run goes on with."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, MutableMapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastmatch import files
from fastmatch.checkpoints import Card, read, write
from fastmatch.errors import CheckpointError, OutputError
from fastmatch.training.imp import REWOUND, PrunedNetwork, level_name


class PruningFolder(MutableMapping[str, PrunedNetwork]):
    """``rewind.pt``, ``level-00.pt``, ``level-01.pt`` ...: what :func:`fastmatch.training.prune_iteratively` knows.

    Every file carries the card, which must say all that the networks depend on, and the digest of the file it follows
    from. Files of another card, or that follow from another file, are refused, never replaced.

    Parameters
    ----------
    folder
        Made when the first network is written.
    card
        Of the run, without step and epoch.
    suffix
        ``.pt`` or ``.safetensors``.

    Raises
    ------
    OutputError
        ``folder`` is a file, or cannot be made.
    CheckpointError
        When a network is asked for or written: its file is damaged, or one of another run.
    """

    def __init__(self, folder: str | os.PathLike[str], card: Card, suffix: str = ".pt") -> None:
        self._folder, self._card, self._suffix = Path(folder), card, suffix
        if os.path.lexists(folder) and not self._folder.is_dir():  # found out before the dense network is trained
            what = "it is a file" if self._folder.is_file() else "it is no folder"
            raise OutputError(f"cannot write the levels to {folder}: {what}; choose another --output")

    def __contains__(self, name: object) -> bool:
        """Whether there is a file, of whatever run."""
        return self._path(str(name)).is_file()

    def __getitem__(self, name: str) -> PrunedNetwork:
        """Read a network."""
        path = self._path(name)
        if not path.is_file():
            raise KeyError(name)
        stored = read(path)
        found = stored.card or Card()
        self._require_same(path, found)
        if found.extra.get("follows") != self._before(name):
            before = self._name_before(name)
            if before is not None:
                self.get(before)  # where that one is damaged, it is named
            raise CheckpointError(f"{path} does not follow from the level before it; remove it to train it again")
        return PrunedNetwork(stored.state_dict, stored.masks, found.step or 0, found.epoch or 0)

    def __setitem__(self, name: str, network: PrunedNetwork) -> None:
        """Write a network, over none but one of the same run."""
        try:
            self._folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"cannot write the levels to {self._folder}: {error.strerror}; choose another --output"
            ) from error
        path = self._path(name)
        if path.is_file():
            self._require_same(path, read(path).card or Card())
        card = replace(self._card, extra={**self._card.extra, "level": name, "follows": self._before(name)})
        write(path, network.state_dict, card.at(network.step, network.epoch), network.masks)

    def __delitem__(self, name: str) -> None:
        """Remove a file."""
        self._path(name).unlink()

    def __iter__(self) -> Iterator[str]:
        """Names of the networks that are there."""
        return iter(sorted(path.stem for path in self._folder.glob(f"*{self._suffix}")))

    def __len__(self) -> int:
        """Number of networks."""
        return len(list(iter(self)))

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{self._suffix}"

    def _before(self, name: str) -> str | None:
        """Digest of the file that a network follows from."""
        before = self._name_before(name)
        return files.sha256(self._path(before)) if before is not None and before in self else None

    def _name_before(self, name: str) -> str | None:
        if name == REWOUND:
            return None
        number = int(name.rpartition("-")[2])
        return level_name(number - 1) if number else REWOUND

    def _require_same(self, path: Path, found: Card) -> None:
        there, wanted = _facts(found), _facts(self._card)
        for name in wanted | there:
            if there.get(name) != wanted.get(name):
                raise CheckpointError(
                    f"{path} was made with {name} {there.get(name)}, not {wanted.get(name)}; "
                    "use what it was made with, or choose another --output"
                )


def _facts(card: Card) -> dict[str, Any]:
    """What a card says of its run, in one level, as it is read back from a file."""
    data = json.loads(json.dumps(card.to_json()))
    extra = {name: value for name, value in data.pop("extra").items() if name not in ("level", "follows")}
    facts = {name: value for name, value in data.items() if name not in ("step", "epoch")}
    for name, value in extra.items():
        facts |= {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
    return facts
