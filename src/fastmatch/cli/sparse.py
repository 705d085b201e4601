"""What ``fastmatch train`` does with masks: where they come from, and iterative magnitude pruning."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import fastmatch
from fastmatch import checkpoints, files, training
from fastmatch.cli.output import console, progress, table, write_json
from fastmatch.devices import device_name
from fastmatch.errors import OptionError


class PruningOptions(NamedTuple):
    """As the command line gives them; None where it does not."""

    prune: float | None
    levels: int | None
    rewind: int | None
    rewinding: str | None
    prune_scope: str | None

    def pruning(self, mask: str | None) -> training.Pruning | None:
        """Check that they fit each other, and fill in what was left out; None where nothing is to be pruned."""
        given = {name: value for name, value in self._asdict().items() if value is not None}
        if self.prune is None:
            if unused := given.keys() - ({"rewind"} if mask else set()):
                name = min(unused).replace("_", "-")
                raise OptionError(f"--{name} is for --prune; say what fraction every level prunes, such as --prune 0.2")
            return None
        names = {"prune": "fraction", "prune_scope": "scope"}
        return training.Pruning(**{names.get(name, name): value for name, value in given.items()})


def find_masks(
    mask: str | None, alignment: str | None, parent: fastmatch.Checkpoint | None
) -> dict[str, Tensor] | None:
    """Masks to train under: those of the file ``mask``, moved by the inverse of an alignment, else the parent's own."""
    if mask is None:
        if alignment is not None:
            raise OptionError("--alignment carries the masks of a checkpoint; name it with --mask")
        return parent.masks if parent else None
    stored = checkpoints.read(mask)
    if stored.masks is None:
        raise fastmatch.CheckpointError(f"{mask} has no masks; name a checkpoint that `fastmatch train --prune` wrote")
    if alignment is None:
        return stored.masks
    permutation = fastmatch.Permutation.load(alignment)
    sides = {side: permutation.metadata.get(side) for side in ("a", "b")}
    digests = {side: origin.get("sha256") if isinstance(origin, dict) else None for side, origin in sides.items()}
    if stored.sha256 == digests["b"] or (parent is not None and parent.sha256 == digests["a"]):
        raise OptionError(f"{alignment} lines b up with a: masks of its a go to its b; align the other way round")
    return training.transport(stored.masks, permutation.invert())


def prune_levels(
    module: nn.Module,
    dataset: fastmatch.DataSet,
    recipe: training.Recipe,
    pruning: training.Pruning,
    card: checkpoints.Card,
    origin: dict[str, Any],
    output: str,
    json_path: str | None,
    device: torch.device,
) -> None:
    """Prune level by level into the folder OUT, without suffix, and write the last level to OUT."""
    about = {name: value for name, value in asdict(pruning).items() if name != "levels"}
    made = {**origin, "torch": str(torch.__version__), "device": device_name(device)}
    card = replace(card, extra={**card.extra, "pruning": about, "made": made})
    known = training.PruningFolder(Path(output).with_suffix(""), card, Path(output).suffix)
    before = sum(name.startswith("level-") for name in known)
    with progress("training levels") as tick:
        levels = training.prune_iteratively(module, dataset, recipe, pruning, known=known, progress=tick, device=device)
    last = levels[-1].network
    card = replace(card, extra={**card.extra, "level": levels[-1].number})
    checkpoints.write(output, last.state_dict, card.at(last.step, last.epoch), last.masks)
    rows = table("level", "weights kept (%)", "train loss", "train accuracy (%)", "test loss", "test accuracy (%)")
    for level in levels:
        figures = (level.train_loss, level.train_accuracy, level.test_loss, level.test_accuracy)
        shown = (f"{value:.4f}" if place % 2 == 0 else f"{100 * value:.2f}" for place, value in enumerate(figures))
        rows.add_row(str(level.number), f"{100 * level.density:.2f}", *shown)
    console.print(rows)
    reused = f", {min(before, len(levels))} of {len(levels)} levels known before" if before else ""
    console.print(f"wrote {output}, all levels to {Path(output).with_suffix('')}{reused}, on {device_name(device)}")
    write_json(
        json_path, {"levels": [level.to_json() for level in levels]}, seed=recipe.init_seed, device=device_name(device)
    )


def digest(source: str) -> str:
    """Digest of a file of data; the name itself where it is none, as that of built-in data is."""
    return files.sha256(source) if Path(source).is_file() else source
