"""One permutation for whole training runs: found at one step, measured at every other.

Sharma et al. 2024, "Simultaneous linear connectivity of neural networks modulo permutation", section 5.1, appendices E
and H.1: figures 1 (left), 4 and 15, and with other networks and data 7 to 10. The paper trains VGG-16 with layer
normalisation on CIFAR-10 and draws its results without tables. It finds that a permutation from the end of training
keeps the error barrier low at every earlier step, that weight matching early in training does not (its barrier first
rises, then falls), and that activation matching finds such a permutation earlier.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastmatch import analysis, training
from fastmatch.data import batch_count
from fastmatch.plots import Panel, draw_curves, draw_matrices
from studies import study
from studies.population import Task, load_data

SMALL = {"tasks": "mlp", "limit": 10_000, "epochs": 10, "replicates": 2, "examples": 1000, "alphas": 11}
FULL = {"tasks": "paper", "limit": None, "epochs": 160, "replicates": 5, "examples": 10_000, "alphas": 25}

METHODS = ("weight", "activation")
SAVED = (0, 5, 10, 20, 40, 80, 160, 400)


def mlp_task(limit: int | None, epochs: int, model: str = "mlp(784, 256, 256, 256, 10)", **recipe: Any) -> Task:
    """The network on which the sequences are studied at small size; steps to save are those before the last."""
    data = study.data_name()
    chosen = {"optimizer": "adam", "lr": 1e-3, "epochs": epochs, "save_steps": SAVED} | recipe
    steps = epochs * batch_count(len(load_data(data, limit).train), chosen.get("batch_size", 128))
    chosen["save_steps"] = tuple(step for step in chosen["save_steps"] if step < steps)
    return Task(model if data == "mnist" else model.replace("784", "64"), data, training.Recipe(**chosen), limit)


def large_tasks(**recipe: Any) -> list[Task]:
    """The networks of the paper (appendix D), as far as it gives their settings."""
    chosen = {"optimizer": "sgd", "lr": 0.1, "weight_decay": 1e-4, "warmup": 5, "epochs": 160} | recipe
    how = training.Recipe(save_epochs=(0, 1, 2, 5, 10, 20, 40, 80, 120), **chosen)
    return [Task(name, "cifar10", how) for name in ("vgg16(width=64, norm=layer)", "resnet20(width=4, norm=layer)")]


def main(
    report: study.Report, tasks: str, limit: int | None, epochs: int, replicates: int, examples: int, alphas: int
) -> None:
    """Train, match at every step, measure at every step, and say what came out."""
    for task in large_tasks() if tasks == "paper" else [mlp_task(limit, epochs)]:
        grids = {
            method: [_grid(task, method, pair, examples, alphas) for pair in range(replicates)] for method in METHODS
        }
        _report(report, task, grids)


def _grid(task: Task, method: Any, pair: int, examples: int, alphas: int) -> analysis.Trajectory:
    a, b = task.run(2 * pair), task.run(2 * pair + 1)
    data = task.dataset.take(examples)
    return analysis.trajectory(task.module(), task.spec(), a, b, data, method=method, joint=True, alphas=alphas)


def _report(report: study.Report, task: Task, grids: dict[str, list[analysis.Trajectory]]) -> None:
    first = grids["weight"][0]
    error = {method: _mean([grid.matrix(quantity="error") for grid in found]) for method, found in grids.items()}
    loss = {method: _mean([grid.matrix() for grid in found]) for method, found in grids.items()}
    fixed = {m: _mean([[g.fixed_fraction()[row] for row in g.rows[1:]] for g in found]) for m, found in grids.items()}
    rows = []
    for method in METHODS:
        for place, row in enumerate(first.rows[0 if method == "weight" else 1 :], start=method != "weight"):
            figures = [error[method][place].max(), error[method][place, -1], loss[method][place].max()]
            name = row if place == 0 else f"{method}, {'all steps' if row == 'joint' else f'step {row}'}"
            rows.append([name, *figures, loss[method][place, -1], fixed[method][place - 1] if place else ""])
    columns = ["permutation", "largest error", "error at the end", "largest loss", "loss at the end", "fixed points"]
    report.table(f"{task.model}, {task.data}: test barriers over all steps", columns, rows)
    _draw(report, task, first, error, loss)
    _say(report, first, error, loss)


def _mean(values: Sequence[Any]) -> np.ndarray:
    return np.mean(np.array(values, dtype=float), axis=0)


def _draw(report: study.Report, task: Task, first: analysis.Trajectory, error: Any, loss: Any) -> None:
    name = study.slug(task.model.partition("(")[0])
    path = report.picture(
        f"{name}-grid", "Test-loss barriers: the permutation of each step at each step (figures 4, 15)."
    )
    titles = {f"{method} matching": matrix for method, matrix in loss.items()}
    labels = ("permutation of step", "measured at step")
    draw_matrices(titles, path, rows=first.rows, columns=first.steps, unit="nats", axes_labels=labels)
    path = report.picture(f"{name}-curves", "Left: figure 1 left. Middle: figure 15 middle. Right: figure 15 right.")
    early, last = first.rows.index(str(first.steps[3])), len(first.steps)
    places = np.array(first.steps)
    along = {"unaligned": error["weight"][0], **{f"{m}, last step": error[m][last] for m in METHODS}}
    from_early = {"unaligned": loss["weight"][0], **{f"{m}, step {first.steps[3]}": loss[m][early] for m in METHODS}}
    ends = {"unaligned": np.full(last, loss["weight"][0, -1]), **{m: loss[m][1 : last + 1, -1] for m in METHODS}}
    panels = [
        Panel(x=1 + places, curves=along, xlabel="1 + step", ylabel="test error barrier", log="x"),
        Panel(x=1 + places, curves=from_early, xlabel="1 + step", ylabel="test loss barrier (nats)", log="x"),
        Panel(x=1 + places, curves=ends, xlabel="1 + step of permutation", ylabel="loss barrier at the end", log="x"),
    ]
    draw_curves(panels, path)


def _say(report: study.Report, first: analysis.Trajectory, error: Any, loss: Any) -> None:
    last = len(first.steps)
    for method in METHODS:
        before, after = error["weight"][0].max(), error[method][last].max()
        report.say(
            f"Permutation of the last step, {method} matching: the largest test error barrier of all steps falls from "
            f"{before:.3f} to {after:.3f}. That one permutation holds for the whole run "
            f"{'came out' if after < before / 3 else 'did NOT come out'} (barrier cut to a third at every step)."
        )
    ends = {method: loss[method][1 : last + 1, -1] for method in METHODS}
    tenth = loss["weight"][0, -1] / 10
    when = {m: next((s for s, v in zip(first.steps, ends[m], strict=True) if v < tenth), None) for m in METHODS}
    report.say(
        f"Loss barrier at the end under weight matching at step {first.steps[0]}: {ends['weight'][0]:.3f}, at the last "
        f"step: {ends['weight'][-1]:.3f} (unaligned {loss['weight'][0, -1]:.3f}). That weight matching fails early "
        f"{'came out' if ends['weight'][0] > 2 * ends['weight'][-1] else 'did NOT come out'}. A tenth of the "
        f"unaligned barrier is first undercut by weight matching at step {when['weight']}, by activation matching at "
        f"step {when['activation']}."
    )
    bump = [row for row in range(1, last) if loss["weight"][row].max() > 1.5 * max(loss["weight"][row, -1], 0.01)]
    report.say(
        f"Under permutations of {len(bump)} of the {last - 1} steps before the last, the barrier of weight matching "
        f"rises above 1.5 times its value at the end and then falls: the bump of figure 15 "
        f"{'came out' if bump else 'did NOT come out'}."
    )


if __name__ == "__main__":
    study.run(main, file=__file__, doc=__doc__, small=SMALL, full=FULL)
