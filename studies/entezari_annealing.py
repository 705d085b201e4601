"""Simulated annealing: all networks at once against pairs, by width and depth, and barriers against steps.

Entezari et al. 2022, figures 6 and 12 (SA2 with five networks, and with two, "search space reduction", before and
after, by width and by depth), figure 14 and table 2 (barrier against the number of steps). Barriers are of the 0-1
error on the training examples that SA2 lowers it on; the mean over all pairs, or over pairs of neighbours where each is
annealed by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np

import fastmatch
from fastmatch import plots
from fastmatch.matching import anneal, match_annealing
from fastmatch.training import Recipe
from studies import study
from studies.population import Task

SMALL = {
    "limit": 4000,
    "examples": 1000,
    "networks": 5,
    "widths": (4, 16, 64),
    "depths": (1, 2, 3),
    "depth_width": 32,
    "steps": 1500,
    "deep_steps": 300,
    "counts": (10, 100, 1000, 10_000, 50_000),
    "count_pairs": 1,
    "recipe": Recipe(epochs=12),
}
FULL = {
    "limit": None,
    "examples": 60_000,
    "networks": 5,
    "widths": tuple(2**k for k in range(2, 13)),
    "depths": (1, 2, 4, 8),
    "depth_width": 1024,
    "steps": 50_000,
    "deep_steps": 50_000,
    "counts": (10, 100, 1000, 10_000, 50_000),
    "count_pairs": 5,
    "recipe": Recipe(optimizer="sgd", lr=0.01, schedule="constant", batch_size=64, epochs=3000),
}
PUBLISHED = {
    16: (0.470, 0.331, 0.190, 0.105, 0.055),
    32: (0.430, 0.302, 0.175, 0.0995, 0.055),
    64: (0.271, 0.202, 0.121, 0.085, 0.048),
}
_INPUTS = {"mnist": 784, "digits": 64}
_METHODS = ("before", "all together", "pairs", "pairs, weights", "pairs, from weights")


def main(
    report: study.Report,
    limit: int | None,
    examples: int,
    networks: int,
    widths: Sequence[int],
    depths: Sequence[int],
    depth_width: int,
    steps: int,
    deep_steps: int,
    counts: Sequence[int],
    count_pairs: int,
    recipe: Recipe,
) -> None:
    data = study.data_name()

    def task(*hidden: int) -> Task:
        return Task(f"mlp({_INPUTS[data]}, {', '.join(map(str, hidden))}, 10)", data, recipe, limit)

    wide = {width: searched(task(width), networks, examples, steps) for width in widths}
    deep = {depth: searched(task(*[depth_width] * depth), networks, examples, deep_steps) for depth in depths}
    for axis, found in (("width", wide), ("depth", deep)):
        rows = [[size, *(figures[name] for name in _METHODS)] for size, figures in found.items()]
        report.table(f"{data}, by {axis}: mean barrier of the training error", [axis, *_METHODS], rows)
    panels = [
        plots.Panel(
            x=list(found),
            curves={name: [figures[name] for figures in found.values()] for name in _METHODS},
            xlabel=axis,
            ylabel="barrier of the training error",
            log="x" if axis == "width" else "",
        )
        for axis, found in (("width", wide), ("depth", deep))
    ]
    caption = f"Barriers before and after annealing of {networks} networks together, and of pairs."
    plots.draw_curves(panels, report.picture("search", caption))
    report.say(compared("width", wide) + " " + compared("depth", deep))
    scaling(report, {width: task(width) for width in PUBLISHED}, examples, counts, count_pairs)


def searched(task: Task, networks: int, examples: int, steps: int) -> dict[str, float]:
    """Mean barriers of a population: as it is, annealed all together, and annealed and matched in pairs."""
    module, spec, data = task.module(), task.spec(), task.dataset.take(examples)
    members = task.population(range(networks))
    together = anneal(spec, module, members, data.train, steps=steps)
    neighbours = list(pairwise(range(networks)))
    found: dict[str, dict[tuple[int, int], fastmatch.Permutation]] = {name: {} for name in _METHODS}
    found["all together"] = {pair: together.between(*pair) for pair in combinations(range(networks), 2)}
    for i, j in neighbours:
        weights = fastmatch.match_weights(spec, members[i], members[j]).permutation
        found["pairs, weights"][i, j] = weights
        for name, start in (("pairs", None), ("pairs, from weights", weights)):
            match = match_annealing(spec, module, members[i], members[j], data.train, steps=steps, start=start)
            found[name][i, j] = match.permutation
    result = {}
    for name, permutations in found.items():
        pairs = neighbours if name.startswith("pairs") else list(combinations(range(networks), 2))
        lines = fastmatch.barriers(module, members, data, pairs=pairs, permutations=permutations, alphas=11)
        matrix = lines.matrix(split="train", quantity="error")
        result[name] = float(np.mean([matrix[pair] for pair in pairs]))
    return result


def compared(axis: str, found: dict[int, dict[str, float]]) -> str:
    """Shares of the barrier that are left, in words."""
    shares = {
        name: [figures[name] / figures["before"] if figures["before"] else 0.0 for figures in found.values()]
        for name in _METHODS[1:]
    }
    texts = [f"{name} {', '.join(f'{100 * share:.0f} %' for share in values)}" for name, values in shares.items()]
    return f"Left of the barrier at {axis} {', '.join(map(str, found))}: {'; '.join(texts)}."


def scaling(report: study.Report, tasks: dict[int, Task], examples: int, counts: Sequence[int], pairs: int) -> None:
    """Figure 14 and table 2: the barrier half-way, where the paper measures it, after more and more steps."""
    measured = {width: [scaled(task, examples, steps, pairs) for steps in counts] for width, task in tasks.items()}
    columns = ["width", "steps", "published barrier", "barrier, error", "barrier, loss", "seconds a pair"]
    published = dict(zip((10, 100, 1000, 10_000, 50_000), zip(*PUBLISHED.values(), strict=True), strict=True))
    rows = [
        [width, steps, published[steps][list(PUBLISHED).index(width)], *figures]
        for width, found in measured.items()
        for steps, figures in zip(counts, found, strict=True)
    ]
    report.table("Barrier half-way against steps (table 2)", columns, rows)
    panels = [
        plots.Panel(
            x=range(len(counts)),
            curves=curves,
            xlabel="steps",
            ylabel=label,
            ticks=[f"{steps:,}" for steps in counts],
        )
        for label, curves in (
            (
                "barrier of the training error",
                {f"width {w}": [row[0] for row in found] for w, found in measured.items()},
            ),
            ("published barrier", {f"width {width}": values for width, values in PUBLISHED.items()}),
        )
    ]
    plots.draw_curves(
        panels, report.picture("steps", "Barrier half-way against the number of steps, and as published.")
    )
    texts = [f"{found[0][0]:.3g} to {found[-1][0]:.3g} at width {width}" for width, found in measured.items()]
    report.say(
        f"From {counts[0]} to {counts[-1]:,} steps the barrier of the error falls from {'; '.join(texts)}. "
        "One pair in 50,000 steps took 10,000 seconds with a V100 in the paper."
    )


def scaled(task: Task, examples: int, steps: int, pairs: int) -> tuple[float, float, float]:
    """Mean barriers half-way, of error and loss, and seconds of the search."""
    module, spec, data = task.module(), task.spec(), task.dataset.take(examples)
    members = task.population(range(2 * pairs))
    found = []
    for number in range(pairs):
        a, b = members[2 * number : 2 * number + 2]
        match = match_annealing(spec, module, a, b, data.train, steps=steps, seed=number)
        line = fastmatch.evaluate(
            module, [a, match.permutation.apply(b)], np.array([[1, 0], [0.5, 0.5], [0, 1]]), data.train
        )
        heights = [values[1] - (values[0] + values[2]) / 2 for values in (line.error, line.loss)]
        found.append((*heights, match.seconds))
    error, loss, seconds = np.mean(found, axis=0).tolist()
    return error, loss, seconds


if __name__ == "__main__":
    study.run(main, file=__file__, doc=__doc__, small=SMALL, full=FULL)
