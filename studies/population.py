"""Networks that the studies train, kept in a folder so that each is trained once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

import fastmatch
from fastmatch import checkpoints, networks, training
from fastmatch.data import batch_count

CACHE = Path(os.environ.get("FASTMATCH_STUDIES", Path(__file__).resolve().parent / ".cache"))
State = dict[str, Tensor]


@lru_cache(maxsize=4)
def load_data(name: str, limit: int | None = None, label_noise: float = 0.0) -> fastmatch.DataSet:
    """Data by name, read once."""
    return fastmatch.load_data(name, limit=limit, label_noise=label_noise)


@dataclass(frozen=True)
class Task:
    """An architecture, its data and how it is trained; ``parent`` are weights to start from, else the recipe's."""

    model: str
    data: str
    recipe: training.Recipe = field(default_factory=training.Recipe)
    limit: int | None = None
    label_noise: float = 0.0

    @property
    def dataset(self) -> fastmatch.DataSet:
        """The data that the networks are trained and measured on."""
        return load_data(self.data, self.limit, self.label_noise)

    def module(self) -> nn.Module:
        """The architecture; its weights play no part."""
        return networks.build(self.model).eval()

    def spec(self) -> fastmatch.PermutationSpec:
        """The groups of the architecture."""
        return fastmatch.trace(self.module(), (self.dataset.train.inputs[:4],))

    def seeded(self, seed: int, order_seed: int | None = None) -> Task:
        """The same with initial weights from ``seed``, and the order of the data from it or a seed of its own."""
        order = seed if order_seed is None else order_seed
        return replace(self, recipe=replace(self.recipe, init_seed=seed, order_seed=order))

    def train(self, seed: int = 0, order_seed: int | None = None, parent: State | None = None) -> State:
        """The network at the end of training."""
        return self.trajectory(seed, order_seed, parent)[-1]

    def population(self, seeds: Sequence[int]) -> list[State]:
        """Networks that differ in initial weights and order of the data."""
        return [self.train(seed) for seed in seeds]

    def trajectory(self, seed: int = 0, order_seed: int | None = None, parent: State | None = None) -> list[State]:
        """The networks after each of the epochs and steps that the recipe saves, and at the end, in order."""
        task = self.seeded(seed, order_seed)
        folder = CACHE / task._digest(parent)
        if not (folder / "final.safetensors").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            task._train(folder, parent)
        return [checkpoints.read(path).state_dict for path in sorted(folder.glob("*.safetensors"), key=_order)]

    def run(self, seed: int = 0, order_seed: int | None = None, parent: State | None = None) -> dict[int, State]:
        """The networks of :meth:`trajectory` by step."""
        each = batch_count(len(self.dataset.train), self.recipe.batch_size)
        saved = {*self.recipe.save_steps, *(epoch * each for epoch in self.recipe.save_epochs)}
        steps = (*sorted(saved), self.recipe.epochs * each)
        return dict(zip(steps, self.trajectory(seed, order_seed, parent), strict=True))

    def _train(self, folder: Path, parent: State | None) -> None:
        module = training.initialise(self.model, self.recipe.init, self.recipe.init_seed)
        if parent is not None:
            module.load_state_dict(parent)

        def save(snapshot: training.Snapshot) -> None:
            checkpoints.write(folder / f"{snapshot.step:08d}.safetensors", snapshot.state_dict)

        training.train(module, self.dataset, self.recipe, save=save)
        checkpoints.write(folder / "final.safetensors", module.state_dict())

    def _digest(self, parent: State | None) -> str:
        words = json.dumps([asdict(self), torch.__version__], sort_keys=True)
        digest = hashlib.sha256(words.encode())
        for name, tensor in (parent or {}).items():
            digest.update(name.encode() + tensor.numpy().tobytes())
        return digest.hexdigest()[:24]


def _order(path: Path) -> tuple[bool, str]:
    return path.stem == "final", path.stem
