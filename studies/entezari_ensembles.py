"""Functional difference as matching, and averages of networks from it, from a learned line, and from both.

Entezari et al. 2022, appendices B and C: figure 15 (functional difference improves the barrier) and table 3 (accuracy
of the average of two networks: functional difference, subspace learning, and both). Subspace learning (Wortsman et al.
2021) trains both ends of a line at once: every step descends on the loss at a random point of it, and on the squared
cosine of the ends, which keeps them apart. With both, it goes on from two trained networks, lined up by functional
difference. Accuracies are of the test set, half-way. The figure's annealing is not in this study.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

import fastmatch
from fastmatch import plots, training
from fastmatch.training import Recipe
from studies import study
from studies.population import State, Task

SMALL = {"widths": (32, 128), "width": 256, "pairs": 2, "limit": 10_000, "epochs": 8, "alphas": 11, "sets": ("mnist",)}
FULL = {
    "widths": (64, 256, 1024, 4096),
    "width": 1024,
    "pairs": 5,
    "limit": None,
    "epochs": 60,
    "alphas": 25,
    "sets": ("mnist", "cifar10"),
}
INPUTS = {"mnist": 784, "cifar10": 3072, "digits": 64}
PUBLISHED = {"mnist": (96.85, 97.63, 98.22), "cifar10": (52.95, 57.89, 58.94)}
METHODS = ("weight", "functional_greedy", "functional")
WAYS = ("FD", "SL", "FD + SL")
COSINE = 1.0  # Weight of the squared cosine of the ends, as in Wortsman et al.
LR = 1e-3
EXAMPLES = 2000  # That matching looks at.


def main(
    report: study.Report,
    widths: tuple[int, ...],
    width: int,
    pairs: int,
    limit: int | None,
    epochs: int,
    alphas: int,
    sets: tuple[str, ...],
) -> None:
    here = study.data_name()
    sets = sets if here == "mnist" else (here,)
    barriers = _figure(report, sets[0], (*widths, width), pairs, limit, epochs, alphas)
    best = {method: float(np.mean(values[-1])) for method, values in barriers.items()}
    report.say(
        f"At width {width} the barrier of the training error goes from {100 * best['none']:.2f} % to "
        f"{100 * best['functional_greedy']:.2f} % by functional difference as published, to "
        f"{100 * best['functional']:.2f} % with the exact assignment and {100 * best['weight']:.2f} % by weights."
    )
    rows = []
    for name in sets:
        found = _table(report, name, width, pairs, limit, epochs, alphas)
        published = PUBLISHED.get(name, (float("nan"),) * 3)
        rows += [
            [name, way, study.mean_std(found[way], 2), value, study.mean_std(found["parts"], 2)]
            for way, value in zip(WAYS, published, strict=True)
        ]
        order = sorted(WAYS, key=lambda way: -np.mean(found[way]))
        report.say(f"On {name}: {' > '.join(order)}; published FD + SL > SL > FD.")
    columns = ["data", "way", "accuracy of the average (%)", "published", "accuracy of the networks (%)"]
    report.table(f"Averages of two networks, width {width} (table 3)", columns, rows)


def _figure(
    report: study.Report, name: str, widths: tuple[int, ...], pairs: int, limit: int | None, epochs: int, alphas: int
) -> dict[str, list[list[float]]]:
    """Barriers of the training error of every pair, by method and width."""
    found: dict[str, list[list[float]]] = {method: [[] for _ in widths] for method in ("none", *METHODS)}
    for place, width in enumerate(widths):
        task = _task(name, width, limit, epochs)
        for a, b in _pairs(task, pairs):
            for method in found:
                matched = {} if method == "none" else {(0, 1): _permutation(task, a, b, method)}
                result = fastmatch.barriers(
                    task.module(), [a, b], task.dataset, permutations=matched, pairs=[(0, 1)], alphas=alphas
                )
                found[method][place].append(float(result.matrix(split="train", quantity="error")[0, 1]))
    percent = {method: [study.mean_std([100 * value for value in one], 2) for one in found[method]] for method in found}
    rows = [[width, *(percent[method][place] for method in found)] for place, width in enumerate(widths)]
    report.table(f"Barrier of the training error (%), one hidden layer, {name} (figure 15)", ["width", *found], rows)
    curves = {method: 100 * np.mean(values, axis=1) for method, values in found.items()}
    panel = plots.Panel(x=np.array(widths), curves=curves, xlabel="width", ylabel="barrier of the training error (%)")
    plots.draw_curves([panel], report.picture("barriers", "Barriers before and after matching (figure 15)."))
    return found


def _table(
    report: study.Report, name: str, width: int, pairs: int, limit: int | None, epochs: int, alphas: int
) -> dict[str, list[float]]:
    """Test accuracies in percent half-way, by way, and of the networks; draws the lines of the first pair."""
    task = _task(name, width, limit, epochs)
    accuracies: dict[str, list[float]] = {way: [] for way in ("parts", *WAYS)}
    lines: dict[str, np.ndarray] = {}
    for number, (a, b) in enumerate(_pairs(task, pairs)):
        aligned = _permutation(task, a, b, "functional_greedy").apply(b)
        starts = [training.initialise(task.model, "default", 1000 + 2 * number + end).state_dict() for end in range(2)]
        ends = {
            "FD": (a, aligned),
            "SL": learn_line(task.module(), starts[0], starts[1], task.dataset.train, epochs, number),
            "FD + SL": learn_line(task.module(), a, aligned, task.dataset.train, epochs, number),
        }
        grid = np.linspace(0.0, 1.0, alphas)
        for way, pair in ends.items():
            rows = np.stack([1 - grid, grid], 1)
            accuracy = 100 * (1 - fastmatch.evaluate(task.module(), pair, rows, task.dataset.test).error)
            accuracies[way].append(float(accuracy[alphas // 2]))
            lines.setdefault(way, accuracy)
            if way == "FD":
                accuracies["parts"] += [float(accuracy[0]), float(accuracy[-1])]
    panel = plots.Panel(x=np.linspace(0, 1, alphas), curves=lines, xlabel="alpha", ylabel="test accuracy (%)")
    plots.draw_curves(
        [panel], report.picture(f"lines-{name}", f"Test accuracy on the lines of the first pair, {name}.")
    )
    return accuracies


def learn_line(
    module: nn.Module, first: State, second: State, data: fastmatch.Split, epochs: int, seed: int
) -> tuple[State, State]:
    """Ends of a line of networks, trained together from ``first`` and ``second`` (Wortsman et al. 2021, section 3)."""
    ends = [{name: tensor.clone().requires_grad_() for name, tensor in end.items()} for end in (first, second)]
    optimizer = torch.optim.Adam([tensor for end in ends for tensor in end.values()], lr=LR)
    generator = torch.Generator().manual_seed(seed)
    batches = -(-len(data) // 128)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches)
    for _ in range(epochs):
        order = torch.randperm(len(data), generator=generator)
        for batch in order.tensor_split(batches):
            alpha = float(torch.rand((), generator=generator))
            mixed = {name: torch.lerp(tensor, ends[1][name], alpha) for name, tensor in ends[0].items()}
            loss = F.cross_entropy(functional_call(module, mixed, (data.inputs[batch],)), data.labels[batch])
            flat = [torch.cat([tensor.flatten() for tensor in end.values()]) for end in ends]
            loss = loss + COSINE * F.cosine_similarity(*flat, dim=0) ** 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    one, other = ({name: tensor.detach() for name, tensor in end.items()} for end in ends)
    return one, other


def _task(name: str, width: int, limit: int | None, epochs: int) -> Task:
    return Task(f"mlp({INPUTS[name]}, {width}, 10)", name, Recipe(epochs=epochs), limit)


def _pairs(task: Task, pairs: int) -> list[tuple[State, State]]:
    return list(pairwise(task.population(range(2 * pairs))))[::2]


def _permutation(task: Task, a: State, b: State, method: str) -> fastmatch.Permutation:
    pair = fastmatch.Pair(task.spec(), a, b, task.module(), task.dataset.train.take(EXAMPLES))
    return fastmatch.match(pair, method).permutation


if __name__ == "__main__":
    study.run(main, file=__file__, doc=__doc__, small=SMALL, full=FULL)
