"""Histograms of direct and indirect barriers between many small networks, before and after matching.

Entezari et al. 2022, appendix E.3, figure 18: MLPs of two layers on MNIST, all pairs. The indirect barrier of a pair is
the minimum over third networks of the larger barrier on the way. There the permutation is the best of all; here it is
the better, on training examples, of weight and activation matching.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

import fastmatch
from fastmatch import plots
from fastmatch.analysis import indirect_barriers
from fastmatch.training import Recipe
from studies import study
from studies.population import Task
from studies.worlds import match_pair

SMALL = {"widths": (4, 16, 64), "networks": 10, "limit": 2000, "epochs": 12}
FULL = {"widths": (2, 4, 8, 16, 32, 64), "networks": 100, "limit": None, "epochs": 20}
KINDS = ("direct", "indirect")


def main(report: study.Report, widths: tuple[int, ...], networks: int, limit: int | None, epochs: int) -> None:
    data = study.data_name()
    inputs = 784 if data == "mnist" else 64
    found = {}
    for width in widths:
        task = Task(f"mlp({inputs}, {width}, {width}, 10)", data, Recipe(epochs=epochs), limit)
        found[width] = {
            stage: {"direct": matrix, "indirect": indirect_barriers(matrix)}
            for stage, matrix in zip(("before", "after"), matrices(task, networks), strict=True)
        }
    upper, sides = np.triu_indices(networks, 1), independent_pairs(networks)
    rows = [
        (width, stage, kind, *statistics(matrix[upper]), float(matrix[sides].mean()))
        for width, stages in found.items()
        for stage, kinds in stages.items()
        for kind, matrix in kinds.items()
    ]
    columns = ["width", "permutation", "barrier", "mean", "median", "largest", "mean, pairs without common network"]
    report.table(f"Training-loss barriers of {networks} networks on {data} (nats)", columns, rows)
    path = report.picture("histograms", "Histograms over all pairs; above direct, below indirect barriers.")
    figure = plots.new_figure(path, (8, 5))
    panels = figure.subplots(2, 2, sharex="col")
    for across, stage in enumerate(("before", "after")):
        for down, kind in enumerate(KINDS):
            axes = panels[down, across]
            axes.hist([found[width][stage][kind][upper] for width in widths], bins=15, label=list(map(str, widths)))
            axes.set_title(f"{kind}, {stage} matching", fontsize=9)
            axes.set_xlabel("barrier (nats)" if down else "")
            axes.set_ylabel("" if across else "pairs")
    panels[0, 0].legend(title="width", frameon=False, fontsize=8)
    plots.save(figure, path)
    falls = {(w, s, k): m for w, s, k, m, *_ in rows}
    report.say(
        "; ".join(
            f"width {w}: direct {falls[w, 'before', 'direct']:.3f} -> {falls[w, 'after', 'direct']:.3f}, indirect "
            f"{falls[w, 'before', 'indirect']:.3f} -> {falls[w, 'after', 'indirect']:.3f}"
            for w in widths
        )
    )


def matrices(task: Task, networks: int) -> list[np.ndarray]:
    """Barriers of all pairs, as trained and under the better of two matchings."""
    states = task.population(range(networks))
    module, spec, data = task.module(), task.spec(), task.dataset
    pairs = list(combinations(range(networks), 2))
    found = [None, *({p: match_pair(spec, module, *(states[i] for i in p), data, m) for p in pairs} for m in METHODS)]
    before, *matched = (
        fastmatch.barriers(module, states, data, permutations=permutations, alphas=11).matrix(split="train")
        for permutations in found
    )
    return [before, np.minimum(*matched)]


METHODS = ("weight", "activation")


def independent_pairs(networks: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that share no network: the first half beside the second in random order."""
    order = np.random.default_rng(0).permutation(networks)
    half = networks // 2
    return order[:half], order[half : 2 * half]


def statistics(barriers: np.ndarray) -> tuple[float, float, float]:
    """Mean, median and maximum."""
    return float(barriers.mean()), float(np.median(barriers)), float(barriers.max())


if __name__ == "__main__":
    study.run(main, file=__file__, doc=__doc__, small=SMALL, full=FULL)
