"""Real world and model of Entezari et al. 2022, section 3.5: networks from different seeds, and permutations of one."""

from __future__ import annotations

from itertools import combinations
from typing import Any, Literal

import numpy as np

import fastmatch
from studies.population import State, Task

WORLDS = ("real world", "model")
STAGES = ("before", "after")


def world_figures(
    task: Task, networks: int, alphas: int, examples: int, method: str, quantity: Literal["loss", "error"] = "loss"
) -> dict[str, Any]:
    """Losses and errors of networks, and barriers of all their pairs in both worlds, before and after matching.

    ``barriers[world][stage][split]`` are the barriers of the quantity, one for each pair.
    """
    module, spec, data = task.module(), task.spec(), task.dataset.take(examples)
    real = task.population(range(networks))
    model = [fastmatch.Permutation.random(spec, seed).apply(real[0]) for seed in range(networks)]
    splits, rows = {"train": data.train, "test": data.test}, np.eye(networks)
    ends = {split: fastmatch.evaluate(module, real, rows, examples) for split, examples in splits.items()}
    found: dict[str, Any] = {
        f"{split} {name}": float(getattr(ends[split], name).mean()) for split in splits for name in ("loss", "error")
    }
    found["barriers"] = {}
    for world, members in zip(WORLDS, (real, model), strict=True):
        pairs = combinations(range(networks), 2)
        matched = {(i, j): match_pair(spec, module, members[i], members[j], data, method) for i, j in pairs}
        results = [
            fastmatch.barriers(module, members, data, permutations=permutations, alphas=alphas)
            for permutations in ({}, matched)
        ]
        found["barriers"][world] = {
            stage: {split: _pairs(result.matrix(split=split, quantity=quantity)) for split in ("train", "test")}
            for stage, result in zip(STAGES, results, strict=True)
        }
    return found


def match_pair(
    spec: fastmatch.PermutationSpec, module: Any, a: State, b: State, data: fastmatch.DataSet, method: str
) -> fastmatch.Permutation:
    """Permutation of b by ``weight`` or ``activation``."""
    if method == "weight":
        return fastmatch.match_weights(spec, a, b, restarts=3).permutation
    return fastmatch.match_activations(spec, module, a, b, data.train).permutation


def _pairs(matrix: np.ndarray) -> list[float]:
    return matrix[np.triu_indices(len(matrix), 1)].tolist()
