"""Alignment through a third network, against width: how far connectivity modulo permutation is transitive.

Sharma et al. 2024, section 5.3 and appendices C and G: figure 3 and figure 14. Two networks are each aligned with a
reference, and the barrier is measured between the two. The paper (VGG-16 and ResNet-20 on CIFAR-10) finds that this
indirect barrier falls with width but stays well above the direct one, and that direct and indirect permutations share
few fixed points at any width. Beyond the paper: routes through two networks, and round trips, which would compose to
the identity if alignment were transitive.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

import fastmatch
from fastmatch import analysis
from fastmatch.plots import Panel, draw_curves
from studies import study
from studies.population import State, Task
from studies.sharma_trajectory import METHODS, mlp_task

WIDTHS = (16, 32, 64, 128, 256, 512)
SMALL = {"model": "mlp(784, W, W, W, 10)", "widths": WIDTHS, "limit": 5000, "epochs": 6, "examples": 1000, "alphas": 7}
FULL = {**SMALL, "widths": (*WIDTHS, 1024, 2048), "limit": None, "epochs": 30, "examples": 10_000, "alphas": 25}

# Ends, and the networks between them; four networks give three references and two intermediates.
THROUGH_ONE = [(0, 2, 1), (0, 3, 1), (0, 1, 2), (0, 3, 2), (1, 0, 2), (1, 3, 2)]
THROUGH_TWO = [(0, 2, 3, 1), (0, 3, 2, 1), (0, 1, 3, 2)]
ROUND = [(0, 1, 2, 0), (0, 1, 3, 0), (0, 2, 3, 0), (1, 2, 3, 1)]
KINDS = ("unaligned", "direct", "through one", "through two")


def main(
    report: study.Report, model: str, widths: Sequence[int], limit: int | None, epochs: int, examples: int, alphas: int
) -> None:
    """Four networks of every width, matched in pairs; barriers and fixed points of all routes."""
    found: dict[str, list[dict[str, float]]] = {method: [] for method in METHODS}
    for width in widths:
        task = mlp_task(limit, epochs, model.replace("W", str(width)), save_steps=())
        states = task.population(range(4))
        for method in METHODS:
            found[method].append(_figures(task, states, method, examples, alphas))
    for method, figures in found.items():
        rows = [[width, *row.values()] for width, row in zip(widths, figures, strict=True)]
        title = f"{method} matching, {model} by width W: test barriers (figures 3 and 14)"
        report.table(title, ["W", *figures[0]], rows)
    _draw(report, widths, found)
    for method, figures in found.items():
        _say(report, method, widths, figures)


def _figures(task: Task, states: Sequence[State], method: str, examples: int, alphas: int) -> dict[str, float]:
    spec, module, data = task.spec(), task.module(), task.dataset.take(examples)
    permutations = {}
    for i, j in combinations(range(4), 2):
        if method == "weight":
            match = fastmatch.match_weights(spec, states[i], states[j])
        else:
            match = fastmatch.match_activations(spec, module, states[i], states[j], data.train, similarity="linear")
        permutations[i, j] = match.permutation
    measured = {
        name: analysis.routes(module, states, permutations, data, chosen, alphas=alphas)
        for name, chosen in (("through one", THROUGH_ONE), ("through two", THROUGH_TWO), ("round", ROUND))
    }
    figures = {}
    for quantity in ("error", "loss"):
        for kind in ("unaligned", "direct"):
            figures[f"{quantity}, {kind}"] = _mean(measured["through one"], kind, quantity)
        for kind in ("through one", "through two"):
            figures[f"{quantity}, {kind}"] = _mean(measured[kind], "indirect", quantity)
    for name, results in measured.items():
        figures[f"fixed, {name}"] = float(np.mean([result.fixed_fraction for result in results]))
    figures["loss, round trip"] = _mean(measured["round"], "indirect", "loss")
    return figures


def _mean(results: Sequence[analysis.RouteResult], kind: str, quantity: str) -> float:
    return float(np.mean([result.heights[kind]["test"][quantity].linear for result in results]))


def _draw(report: study.Report, widths: Sequence[int], found: dict[str, list[dict[str, float]]]) -> None:
    panels = []
    for method, figures in found.items():
        curves: dict[str, Any] = {kind: [row[f"error, {kind}"] for row in figures] for kind in KINDS}
        style: dict[str, Any] = {"xlabel": "width", "title": f"{method} matching", "log": "x"}
        panels.append(Panel(x=widths, curves=curves, ylabel="test error barrier", **style))
    curves = {
        f"fixed points, {method}": [row["fixed, through one"] for row in figures] for method, figures in found.items()
    }
    panels.append(
        Panel(
            x=widths, curves=curves, xlabel="width", ylabel="share of units", title="indirect and direct agree", log="x"
        )
    )
    draw_curves(
        panels, report.picture("width", "Barriers (figure 3, figure 14 top) and fixed points (bottom) by width.")
    )


def _say(report: study.Report, method: str, widths: Sequence[int], figures: list[dict[str, float]]) -> None:
    first, last = figures[0], figures[-1]
    fell = (
        last["error, through one"] < first["error, through one"]
        and last["loss, through one"] < first["loss, through one"]
    )
    gap = last["loss, through one"] > last["loss, direct"]
    report.say(
        f"{method} matching, width {widths[0]} to {widths[-1]}: the indirect test error barrier goes from "
        f"{first['error, through one']:.3f} to {last['error, through one']:.3f}, the loss barrier from "
        f"{first['loss, through one']:.3f} to {last['loss, through one']:.3f}. That indirect barriers fall with width "
        f"{'came out' if fell else 'did NOT come out'}; at the largest width the loss barrier is "
        f"{last['loss, direct']:.3f} directly: that indirect alignment stays worse "
        f"{'came out' if gap else 'did NOT come out'}. Indirect and direct permutations share "
        f"{100 * first['fixed, through one']:.1f} % of their points at the smallest width and "
        f"{100 * last['fixed, through one']:.1f} % at the largest; round trips bring "
        f"{100 * first['fixed, round']:.1f} % and {100 * last['fixed, round']:.1f} % of the units home."
    )


if __name__ == "__main__":
    study.run(main, file=__file__, doc=__doc__, small=SMALL, full=FULL)
