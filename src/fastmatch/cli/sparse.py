"""What ``fastmatch train`` does with masks: where they come from, and iterative magnitude pruning."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import fastmatch
from fastmatch import checkpoints, training
from fastmatch.cli.inputs import code_digest, data_facts
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
    _check_sides(alignment, permutation.metadata, {"a": stored} | ({"b": parent} if parent else {}))
    return training.transport(stored.masks, permutation.invert())


def _check_sides(
    alignment: str,
    metadata: Mapping[str, Any],
    networks: Mapping[str, checkpoints.StoredCheckpoint | fastmatch.Checkpoint],
) -> None:
    """Refuse masks of another network than the alignment's a, or for another than its b, as far as the files tell."""
    same = {}
    for side, network in networks.items():
        facts = {"sha256": network.sha256, "lineage": lineage_of(network.card)}
        same[side] = {name: _agree(facts, metadata.get(name)) for name in ("a", "b")}
        here, there = (same[side][name] for name in ("ab" if side == "a" else "ba"))
        if any(there[name] and not here[name] for name in facts):
            raise OptionError(f"{alignment} lines b up with a: masks of its a go to its b; align the other way round")
    for side, network in networks.items():
        if same[side][side]["lineage"] is False and not same[side][side]["sha256"]:
            raise OptionError(
                f"{network.path} is of another run than {side} of {alignment}; align networks of the runs you mean"
            )


def _agree(facts: Mapping[str, str | None], known: Any) -> dict[str, bool | None]:
    """Which facts a side of an alignment shares; None where one is not known."""
    found = {name: known.get(name) if isinstance(known, dict) else None for name in facts}
    return {name: None if None in (value, found[name]) else value == found[name] for name, value in facts.items()}


def prune_levels(
    module: nn.Module,
    dataset: fastmatch.DataSet,
    recipe: training.Recipe,
    pruning: training.Pruning,
    card: checkpoints.Card,
    started: dict[str, Any],
    output: str,
    json_path: str | None,
    device: torch.device,
) -> None:
    """Prune level by level into the folder OUT, without suffix, and write the last level to OUT."""
    about = {name: value for name, value in asdict(pruning).items() if name != "levels"}
    made = {**started, "torch": str(torch.__version__), "device": device_name(device)}
    extra = dict(card.extra)
    extra |= {"pruning": about, "made": made, "lineage": extra.pop("lineage")}  # last: any difference changes it
    card = replace(card, extra=extra)
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


def origin(model: str, module: nn.Module, dataset: fastmatch.DataSet, limit: int | None) -> dict[str, Any]:
    """What a run starts from, beside its recipe: the network, its code where that is a file, its weights, the data."""
    weights = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        # A view as bytes, since numpy does not know every dtype.
        content = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        weights.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode() + content)
    return {"model": model, "code": code_digest(model), "start": weights.hexdigest(), **data_facts(dataset, limit)}


def lineage(origin: Mapping[str, Any], recipe: training.Recipe) -> str:
    """Hex SHA-256 of a run: all its files carry it, however many snapshots it saves."""
    chosen = asdict(replace(recipe, save_epochs=(), save_steps=()))
    return hashlib.sha256(json.dumps([origin, chosen], sort_keys=True).encode()).hexdigest()


def lineage_of(card: checkpoints.Card | None) -> str | None:
    """Lineage that a card tells."""
    found = card.extra.get("lineage") if card else None
    return found if isinstance(found, str) else None


def without_lineage(card: checkpoints.Card | None) -> checkpoints.Card | None:
    """Card of a network whose units were moved: alignments of its run are none of its own."""
    return (
        replace(card, extra={name: value for name, value in card.extra.items() if name != "lineage"}) if card else None
    )
