"""What the studies of sparse networks share: networks pruned level by level, and retrained under any masks."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

import fastmatch
from fastmatch import checkpoints, data, training
from studies.population import CACHE, State, Task

SMALL: dict[str, Any] = {
    "model": "mlp(784, 128, 128, 10)",
    "recipe": training.Recipe(optimizer="sgd", lr=0.1, weight_decay=1e-4, warmup=1.0, epochs=5),
    "rewind_epochs": 0.5,
    "fraction": 0.5,
    "levels": 6,
    "replicates": 3,
    "limit": 4000,
}
# Sharma et al. 2024, appendix D and F: VGG-16 of standard width with layer norm, 20 % a level, 5 replicates.
FULL: dict[str, Any] = {
    "model": "vgg16(width=64, norm=layer)",
    "recipe": training.Recipe(optimizer="sgd", lr=0.1, weight_decay=1e-4, warmup=5.0, epochs=160),
    "rewind_epochs": 5.0,
    "fraction": 0.2,
    "levels": 20,
    "replicates": 5,
    "limit": None,
}


@dataclass(frozen=True)
class Experiment:
    """A task, and how its networks are pruned."""

    task: Task
    pruning: training.Pruning

    @classmethod
    def of(
        cls,
        data_name: str,
        *,
        model: str,
        recipe: training.Recipe,
        rewind_epochs: float,
        fraction: float,
        levels: int,
        limit: int | None,
        rewinding: str = "weights",
    ) -> Experiment:
        """From the sizes of a study."""
        task = Task(model_for(data_name, model), data_name, recipe, limit)
        step = round(rewind_epochs * data.batch_count(len(task.dataset.train), recipe.batch_size))
        pruning = training.Pruning(fraction=fraction, levels=levels, rewind=step, rewinding=rewinding)
        return cls(task, pruning)

    def densities(self) -> list[float]:
        """Fraction of weights kept at each level but the dense one."""
        return [self.pruning.density(level) for level in range(1, self.pruning.levels + 1)]

    def levels(self, seed: int) -> list[training.Level]:
        """The dense network and its levels of iterative magnitude pruning."""
        return _prune(self, seed)[0]

    def start(self, seed: int) -> State:
        """What retraining starts from: the rewound network; the trained one where only the learning rate goes back."""
        levels, known = _prune(self, seed)
        if self.pruning.rewinding == "lr":
            return levels[0].network.state_dict
        return known["rewind"].state_dict

    def retrained(self, seed: int, masks: checkpoints.Masks) -> tuple[State, float]:
        """The rewound network of ``seed``, trained again under ``masks``, and its test accuracy."""
        start, task = self.start(seed), self.task.seeded(seed)
        path = CACHE / f"{_digest(asdict(task), self.pruning.rewind, start, masks)}.safetensors"
        if not path.is_file():
            module = task.module()
            module.load_state_dict(start)
            result = training.train(module, task.dataset, task.recipe, masks=masks, begin=self.pruning.rewind)
            card = checkpoints.Card(extra={"test_accuracy": result.test_accuracy})
            CACHE.mkdir(parents=True, exist_ok=True)
            checkpoints.write(path, module.state_dict(), card, masks)
        stored = checkpoints.read(path)
        assert stored.card is not None
        return stored.state_dict, float(stored.card.extra["test_accuracy"])

    def align(self, a: State, b: State, method: str) -> fastmatch.Permutation:
        """The permutation of b that lines it up with a, by ``"weight"`` or ``"activation"``."""
        task, spec = self.task, _spec(self.task)
        if method == "weight":
            return fastmatch.match_weights(spec, a, b).permutation
        examples = task.dataset.train
        return fastmatch.match_activations(spec, task.module(), a, b, examples, similarity="linear").permutation


def model_for(data_name: str, model: str) -> str:
    """The model of a study, for the inputs of the digits where they stand in for MNIST."""
    return model.replace("784", "64") if data_name == "digits" else model


def paired(values: Any, others: Any) -> tuple[float, float]:
    """Mean difference over replicates and its standard error."""
    difference = np.asarray(values, dtype=float) - np.asarray(others, dtype=float)
    count = len(difference)
    return float(difference.mean()), float(difference.std(ddof=1) / count**0.5) if count > 1 else float("nan")


@lru_cache
def _spec(task: Task) -> fastmatch.PermutationSpec:
    return task.spec()


@lru_cache(maxsize=8)
def _prune(experiment: Experiment, seed: int) -> tuple[list[training.Level], training.PruningFolder]:
    """The levels of a network, and the files they are in."""
    task, pruning = experiment.task.seeded(seed), experiment.pruning
    about = {name: value for name, value in asdict(pruning).items() if name != "levels"}
    folder = CACHE / f"pruned-{_digest(asdict(task), about)}"
    folder.mkdir(parents=True, exist_ok=True)
    known = training.PruningFolder(folder, checkpoints.Card(), ".safetensors")
    module = training.initialise(task.model, task.recipe.init, task.recipe.init_seed)
    return training.prune_iteratively(module, task.dataset, task.recipe, pruning, known=known), known


def _digest(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in (str(torch.__version__), *parts):
        if isinstance(part, dict) and all(hasattr(value, "numpy") for value in part.values()):
            for name, tensor in part.items():
                digest.update(name.encode() + tensor.numpy().tobytes())
        else:
            digest.update(repr(part).encode())
    return digest.hexdigest()[:24]
