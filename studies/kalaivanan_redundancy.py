"""Units that compute the same feature: Kalaivanan 2023, figures 5.1 to 5.3 and table 5.1.

Published: wide networks on moons repeat their features (figures 5.1, 5.2); merging units whose cosine similarity
exceeds 0.99 leaves 271.9 of 512 (table 5.1); without the repetition, networks between two others as they are lose what
they had (figure 5.3). The column "author's rule" takes the steps of the author's code (github.com/Adhithyan8/LMC, named
in section 3.1): it merges the most similar units first, stops once it has dealt with as many as are left, and
multiplies the outgoing weights of a unit that goes by the norm of the one that stays over its own, where exactly
proportional units need the inverse, as the text has it; "text's factor" is the same with that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fastmatch import PermutationSpec, evaluate, plots
from fastmatch.analysis import boundaries, merge_units, narrow, pad, population, single_linkage, unit_similarity
from fastmatch.networks import build
from studies import study
from studies.kalaivanan import WIDTHS, moons
from studies.population import State, Task

SMALL = {"networks": 8, "widths": WIDTHS}
FULL = {"networks": 50, "widths": WIDTHS}
THRESHOLD = 0.99
MOST = 0.7  # Of the widths: where epsilon rises at more, it counts as rising.
# Units left, test loss before and after (table 5.1).
PUBLISHED = {
    2: (2, 0.285, 0.285),
    4: (3.720, 0.206, 0.220),
    8: (7.180, 0.124, 0.148),
    16: (13.040, 0.028, 0.057),
    32: (23.280, 0.012, 0.045),
    64: (39.260, 0.009, 0.050),
    128: (73.620, 0.006, 0.047),
    256: (141.020, 0.005, 0.048),
    512: (271.940, 0.004, 0.027),
}


def by_authors_rule(task: Task, state: State, power: int) -> tuple[State, int]:
    """The network after the author's steps, units that went being 0, and how many are left.

    ``power`` is that of the ratio of norms, stayer over leaver: 1 in the code, -1 in the text.
    """
    similarity = unit_similarity(task.spec(), state, "linear1").fill_diagonal_(-2).numpy()
    result = {name: tensor.clone() for name, tensor in state.items()}
    norms = torch.cat([state["linear1.weight"], state["linear1.bias"][:, None]], 1).norm(dim=1)
    left, done = np.arange(len(similarity)), 0
    while done < len(left):
        here = similarity[np.ix_(left, left)]
        unit = left[np.triu(here, 1).argmax() // len(left)] if len(left) > 1 else left[0]
        gone = left[similarity[unit, left] > THRESHOLD]
        result["linear2.weight"][:, unit] += result["linear2.weight"][:, gone] @ (norms[unit] / norms[gone]) ** power
        result["linear2.weight"][:, gone], result["linear1.weight"][gone], result["linear1.bias"][gone] = 0, 0, 0
        left, done = np.setdiff1d(left, gone), done + len(gone) + 1
    return result, len(left)


def reduce(task: Task, states: list[State]) -> dict[str, tuple[list[State], list[int]]]:
    """Networks and numbers of units: as trained, merged, and merged by the author's rule with either factor."""
    inputs, spec = (task.dataset.train.inputs[:64],), task.spec()
    merged = [merge_units(spec, task.module(), state, inputs, threshold=THRESHOLD) for state in states]
    ruled = {"author's rule": 1, "text's factor": -1}
    return {
        "trained": (states, [len(state["linear1.bias"]) for state in states]),
        "merged": (
            [padded(task, spec, found.narrow) for found in merged],
            [len(found.kept["linear1"]) for found in merged],
        ),
        **{name: by_rule(task, spec, states, power) for name, power in ruled.items()},
    }


def by_rule(task: Task, spec: PermutationSpec, states: list[State], power: int) -> tuple[list[State], list[int]]:
    """Networks after the author's steps, padded, and their numbers of units."""
    found = [by_authors_rule(task, state, power) for state in states]
    left = [state["linear1.weight"].any(1).nonzero()[:, 0].numpy() for state, _ in found]
    small = [narrow(spec, state, {"linear1": units}) for (state, _), units in zip(found, left, strict=True)]
    return [padded(task, spec, state) for state in small], [count for _, count in found]


def padded(task: Task, spec: PermutationSpec, state: State) -> State:
    """A narrow network with units that are 0 behind its own, where the thesis puts them."""
    small = build(f"mlp(2, {len(state['linear1.bias'])}, 2)")
    return pad(spec, task.module(), small, state, (task.dataset.train.inputs[:64],))


def draw(report: study.Report, widths: Sequence[int]) -> None:
    """Figures 5.1 and 5.2."""
    for width in (4, max(widths)):
        task = moons(width)
        states, split = task.population(range(2)), task.dataset.train
        found = boundaries(task.module(), states, [[1, 0], [0, 1], [0.5, 0.5]], split.inputs)
        path = report.picture(
            f"boundaries-{width}", f"Two networks of width {width}, their average, and lines of units."
        )
        names, examples = ("network a", "network b", "average"), (split.inputs, split.labels)
        plots.draw_boundaries(found.x, found.y, found.probabilities, found.lines, path, names=names, examples=examples)
    similarity = unit_similarity(task.spec(), states[0], "linear1").numpy()
    order = single_linkage(1 - (similarity + similarity.T) / 2).order
    path = report.picture("similarity", f"Cosine similarity of the {width} units of one network, by clusters.")
    plots.draw_matrices({f"width {width}": similarity[np.ix_(order, order)]}, path, rows=order, unit="cosine")


def main(report: study.Report, networks: int, widths: Sequence[int]) -> None:
    """Table 5.1, and epsilon between networks as they are, before and after merging."""
    rows, epsilon = [], {}
    for width in widths:
        task = moons(width)
        found = reduce(task, task.population(range(networks)))
        row = [width]
        for name, (states, counts) in found.items():
            loss = evaluate(task.module(), states, np.eye(networks), task.dataset.test).loss
            row += [] if name == "trained" else [study.mean_std(counts, 1)]
            row += [study.mean_std(loss)]
            bare = population(task.module(), states, task.dataset, align="none")
            epsilon.setdefault(name, {})[width] = bare.values()
        rows.append([*row, *PUBLISHED[width]])
    ways = ("merged", "author's rule", "text's factor")
    merging = [f"{name} {figure}" for name in ways for figure in ("units", "test loss")]
    columns = ["width", "test loss", *merging, "published units", "published loss", "published loss after"]
    report.table(f"Table 5.1, {networks} networks on moons, threshold {THRESHOLD}", columns, rows)
    medians = {name: [float(np.median(values)) for values in found.values()] for name, found in epsilon.items()}
    shown = [[width, *(values[at] for values in medians.values())] for at, width in enumerate(widths)]
    report.table("Median epsilon between networks as they are (figure 5.3)", ["width", *medians], shown)
    plots.draw_boxes(
        {"moons": epsilon},
        report.picture("boxes", "Epsilon before and after merging."),
        xlabel="width",
        ylabel="epsilon",
    )
    draw(report, widths)
    last, published = rows[-1], PUBLISHED[widths[-1]]
    report.say(
        f"Of {widths[-1]} units {last[2]} are left after merging, with test loss {last[3]} where it was {last[1]}. The "
        f"author's rule leaves {last[4]} (published {published[0]:.1f}) with {last[5]} (published {published[2]}), and "
        f"{last[7]} with the factor of the text."
    )
    ratios = [after / before for before, after in zip(medians["trained"], medians["merged"], strict=True)]
    above = sum(ratio > 1 for ratio in ratios)
    report.say(
        f"Median epsilon at width {widths[-1]}: {medians['trained'][-1]:.3f} before, {medians['merged'][-1]:.3f} after "
        f"merging; it rises at {above} of {len(widths)} widths. That naive averages lose more once redundancy is gone "
        f"(at more than {MOST:.0%} of the widths) came out: {'yes' if above > MOST * len(widths) else 'no'}."
    )


if __name__ == "__main__":
    study.run(main, file=__file__, doc=__doc__, small=SMALL, full=FULL)
