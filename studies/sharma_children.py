"""The permutation of two parents aligns their children: instability to SGD noise against the step of spawning.

Sharma et al. 2024, section 5.1, figure 1 (right) and figure 8 (children). Children start from one network at some step
of its training and go on with data in orders of their own; the barrier between two of them is the instability of their
parent (Frankle et al. 2020). The paper (VGG-16 on CIFAR-10) finds no instability from about epoch 5 on, and that from
there on the permutation of the parents, found without a look at the children, aligns the children too.

The learning rate is constant, so that children differ from their parent in the order of the data alone; they train for
as many epochs as it had left, and the moments of the optimiser start anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil

import fastmatch
from fastmatch import analysis
from fastmatch.data import batch_count
from fastmatch.plots import Panel, draw_curves
from studies import study
from studies.population import State, Task
from studies.sharma_trajectory import METHODS, mlp_task

STABLE = 0.02  # Nats: instability below which children count as connected.
SPAWNS = (0, 10, 40, 160, 320)
SMALL = {"limit": 5000, "epochs": 5, "batch": 64, "spawns": SPAWNS, "examples": 1000, "alphas": 7}
FULL = {**SMALL, "limit": None, "epochs": 30, "spawns": (*SPAWNS, 1000, 4000), "examples": 10_000, "alphas": 25}

KINDS = ("instability", "unaligned", *(f"aligned, {method}" for method in METHODS))


def main(
    report: study.Report, limit: int | None, epochs: int, batch: int, spawns: Sequence[int], examples: int, alphas: int
) -> None:
    """Two parents, two children of each at every step, and the permutations of the parents at their end."""
    how = {"schedule": "constant", "lr": 3e-3, "batch_size": batch, "save_steps": tuple(spawns)}
    task = mlp_task(limit, epochs, **how)
    parents = [task.run(seed) for seed in (0, 1)]
    data, module = task.dataset.take(examples), task.module()
    ends = [parent[max(parent)] for parent in parents]
    permutations = {
        "weight": fastmatch.match_weights(task.spec(), *ends).permutation,
        "activation": fastmatch.match_activations(
            task.spec(), module, *ends, data.train, similarity="linear"
        ).permutation,
    }
    rows = []
    for step in task.recipe.save_steps:
        families = [
            [_child(task, parent, seed, order, step) for order in (0, 1)] for seed, parent in enumerate(parents)
        ]
        found = {
            method: analysis.children(module, *families, data, one, alphas=alphas)
            for method, one in permutations.items()
        }
        figures = [
            [found["weight"].mean(kind, quantity=quantity) for kind in ("instability", "unaligned")]
            + [found[method].mean("aligned", quantity=quantity) for method in METHODS]
            for quantity in ("error", "loss")
        ]
        rows.append([step, *figures[0], *figures[1]])
    _report(report, task, max(parents[0]), rows)


def _child(task: Task, parent: dict[int, State], seed: int, order: int, step: int) -> State:
    """One child of a parent: orders of the data are numbered so that no two networks share one."""
    each = batch_count(len(task.dataset.train), task.recipe.batch_size)
    epochs = max(1, ceil(task.recipe.epochs - step / each))
    rest = replace(task, recipe=replace(task.recipe, epochs=epochs, save_steps=()))
    return rest.train(seed, 100 + 10 * seed + order, parent=parent[step])


def _report(report: study.Report, task: Task, last: int, rows: list[list[float]]) -> None:
    columns = [f"{quantity}, {kind}" for quantity in ("error", "loss") for kind in KINDS]
    title = f"{task.model}, {task.data}: test barriers among children, by step of spawning (of {last})"
    report.table(title, ["step", *columns], rows)
    x = [1 + row[0] for row in rows]
    panels = []
    for offset, (quantity, unit) in enumerate((("error", "fraction"), ("loss", "nats"))):
        curves = {kind: [row[1 + 4 * offset + place] for row in rows] for place, kind in enumerate(KINDS)}
        style = {"xlabel": "1 + step of spawning", "ylabel": f"test {quantity} barrier ({unit})", "log": "x"}
        panels.append(Panel(x=x, curves=curves, **style))
    draw_curves(panels, report.picture("spawn", "Barriers among children at the end of training (figure 1 right)."))
    _say(report, rows)


def _say(report: study.Report, rows: list[list[float]]) -> None:
    first, last = rows[0], rows[-1]
    stable = [row for row in rows if row[5] < STABLE]
    vanishes = "came out" if last in stable else "did NOT come out"
    since = f"first at step {stable[0][0]}" if stable else "at no step"
    report.say(
        f"Instability (test loss) goes from {first[5]:.3f} for children of step {first[0]} to {last[5]:.3f} for those "
        f"of step {last[0]}: that it vanishes in training {vanishes}; it is below {STABLE} nats {since}."
    )
    for method, place in (("weight", 7), ("activation", 8)):
        held = bool(stable) and all(row[place] < row[6] / 3 for row in rows if row[0] >= stable[0][0])
        report.say(
            f"The parents' permutation by {method} matching lowers the loss barrier of children from {last[6]:.3f} "
            f"to {last[place]:.3f} at the last step of spawning, and from {first[6]:.3f} to {first[place]:.3f} at the "
            f"first. That it aligns other networks of both basins "
            f"{'came out' if held else 'did NOT come out'} "
            "(barrier cut to a third for all children from the onset of stability on)."
        )


if __name__ == "__main__":
    study.run(main, file=__file__, doc=__doc__, small=SMALL, full=FULL)
