"""Steps of annealing a second: fastmatch beside the plain loop that permutes, averages, loads and evaluates.

python -m benchmarks.annealing
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from benchmarks import report, trained
from benchmarks.provenance import provenance
from benchmarks.timing import cores
from fastmatch import Split, networks
from fastmatch.interpolation.swaps import Swaps, swaps_of
from fastmatch.matching import match_annealing
from fastmatch.matching.energy import Energy, Objective, energy_of
from fastmatch.symmetry import Indices, PermutationSpec

EXAMPLES, ROUNDS, BATCHES = 10_000, 3, (250, 1000, 10_000)


class Case(NamedTuple):
    """Hidden layers, what is lowered, and steps of a round: of fastmatch, and of the plain loop."""

    hidden: tuple[int, ...]
    objective: Objective
    steps: int
    plain: int
    alphas: int = 5


CASES = {
    "SA2, one layer of 64": Case((64,), "error", 4000, 30),
    "SA2, two layers of 64": Case((64, 64), "error", 2000, 30),
    "SA1, one layer of 64": Case((64,), "barrier", 1000, 6),
}


class Plain:
    """What published code does for each proposal, in batches of the best size."""

    def __init__(
        self,
        spec: PermutationSpec,
        module: nn.Module,
        pair: tuple[trained.State, trained.State],
        data: Split,
        energy: Energy,
    ):
        self.spec, self.module, self.pair, self.data, self.energy = spec, module, pair, data, energy
        self.batch = min(BATCHES, key=self._seconds)

    def _seconds(self, size: int) -> float:
        self.batch = size
        times = []
        for _ in range(2):
            began = time.process_time()
            self.value(self.spec.identity())
            times.append(time.process_time() - began)
        return min(times)

    @torch.no_grad()
    def value(self, indices: Indices) -> float:
        """Energy of b in this order."""
        states = [self.pair[0], self.spec.permute(self.pair[1], indices)]
        return float(self.energy.of(np.array([[self._point(states, row) for row in self.energy.rows]]))[0])

    def _point(self, states: list[trained.State], row: np.ndarray) -> float:
        average = {name: row[0] * states[0][name] + row[1] * states[1][name] for name in states[0]}
        self.module.load_state_dict(average)
        total = 0.0
        for inputs, labels in self.data.batches(self.batch):
            logits = self.module(inputs)
            if self.energy.quantity == "error":
                total += int((logits.argmax(1) != labels).sum())
            else:
                total += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
        return total / len(self.data)


def chain(value: Callable[[Indices], float], spec: PermutationSpec, steps: int) -> list[tuple[int, float]]:
    """Descent over the swaps of one seed, one after the other: which of them are taken, and the energies."""
    generator = np.random.default_rng(0)
    indices = spec.identity()
    present, taken = value(indices), []
    for step in range(steps):
        candidate = {name: order.copy() for name, order in indices.items()}
        for order in candidate.values():
            first, second = generator.integers(0, len(order), 2)
            order[[first, second]] = order[[second, first]]
        found = value(candidate)
        if found <= present:
            indices, present = candidate, found
            taken.append((step, found))
    return taken


def agrees(spec: PermutationSpec, engine: Swaps, energy: Energy, plain: Plain, steps: int) -> bool:
    """Whether both take the same swaps of one chain, at the same energies."""
    generator = np.random.default_rng(0)
    present = float(energy.of(engine.start([spec.identity()] * 2)[None])[0])
    taken = []
    for step in range(steps):
        swaps = np.zeros((1, 2, len(spec.groups), 2), dtype=np.int64)
        for number, group in enumerate(spec.groups):
            swaps[0, 1, number] = generator.integers(0, group.size, 2)
        found = float(energy.of(engine.values(swaps))[0])
        if found <= present:
            engine.accept(0)
            present = found
            taken.append((step, found))
    expected = chain(plain.value, spec, steps)
    same = [step for step, _ in taken] == [step for step, _ in expected]
    return same and np.allclose([value for _, value in taken], [value for _, value in expected], rtol=0, atol=2e-6)


def measure(name: str) -> report.Row:
    """One row: whether the chains agree, then seconds a step of both, round by round."""
    case = CASES[name]
    model = trained.mlp(*case.hidden)
    module, spec, pair = networks.build(model).eval(), trained.trace(model), trained.pair(model)
    data = trained.data().train.take(EXAMPLES)
    energy = energy_of(case.objective, module, pair, data, case.alphas)
    plain = Plain(spec, module, pair, data, energy)
    engine = swaps_of(spec, module, pair, energy.rows, data, energy.quantity)
    same = agrees(spec, engine, energy, plain, 3 * case.plain)
    options = {"objective": case.objective, "alphas": case.alphas}

    def anneal(steps: int) -> float:
        began = time.process_time()
        match_annealing(spec, module, *pair, data, steps=steps, **options)
        return time.process_time() - began

    ours, theirs, setups = [], [], []
    for _ in range(ROUNDS):
        setups.append(anneal(1))  # export, outputs of the first layer, temperatures, and the figures of the result
        ours.append((anneal(case.steps) - setups[-1]) / case.steps)
        began = time.process_time()
        for _ in range(case.plain):
            plain.value(spec.identity())
        theirs.append((time.process_time() - began) / case.plain)
    return {
        "case": name,
        "examples": len(data),
        "batch": plain.batch,
        "steps": case.steps,
        "agrees": same,
        "setup_seconds": statistics.median(setups),
        "steps_per_second": 1 / statistics.median(ours),
        "plain_steps_per_second": 1 / statistics.median(theirs),
        "threads": 1,
        "clock": "cpu",
        "times": {"fastmatch": {"cpu": ours}, "plain": {"cpu": theirs}},
        "speedup": {"fastmatch/plain": statistics.median(b / a for a, b in zip(ours, theirs, strict=True))},
    }


def main() -> int:
    """Return 1 where the chains differ."""
    path = Path(__file__).resolve().parent / "results" / "annealing.json"
    with cores(1):
        rows: list[report.Row] = []
        for name in CASES:
            rows.append(measure(name))
            print(report.table(rows[-1:]), flush=True)
            report.write(path, {"suite": "annealing", **provenance()}, rows)
    return int(not all(row["agrees"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
