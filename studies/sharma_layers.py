"""Which layers weight matching aligns first: permutations from partly rewound networks, and fixed points by layer.

Sharma et al. 2024, section 6, appendices H.3 and H.4: figures 5 (right), 17, 18 and 21. Some layers of two trained
networks are taken back to an earlier step, the mixtures are matched by weights, and the permutation is measured
on the trained networks. The paper (VGG-16 on CIFAR-10) finds that barriers lie between those of the last and of the
early permutation, that they grow with the number of input layers taken back, that input layers matter more than output
layers, and that early permutations share more points with the last one in lower layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

import fastmatch
from fastmatch import analysis
from fastmatch.analysis.rewind import Kind
from fastmatch.plots import Panel, draw_curves, draw_matrices
from studies import study
from studies.population import State, Task
from studies.sharma_trajectory import mlp_task

_RUNS = {"model": "mlp(784, 256, 256, 256, 256, 256, 10)", "times": (10, 20, 40, 80, 160)}
SMALL = {**_RUNS, "limit": 5000, "epochs": 10, "replicates": 2, "examples": 1000, "alphas": 7}
FULL = {**_RUNS, "limit": None, "epochs": 60, "replicates": 5, "examples": 10_000, "alphas": 25}

KINDS: tuple[Kind, ...] = get_args(Kind)
_SLACK = 0.02
MEANING = {
    "bottom-up": "layers 1 to l rewound",
    "top-down": "layers l and later rewound",
    "put-in": "layer l alone rewound",
    "leave-out": "all but layer l rewound",
}


def main(
    report: study.Report,
    model: str,
    limit: int | None,
    epochs: int,
    times: Sequence[int],
    replicates: int,
    examples: int,
    alphas: int,
) -> None:
    """Match mixtures of early and late layers, and measure their permutations at the end of training."""
    how = {"optimizer": "sgd", "lr": 0.1, "warmup": 1, "weight_decay": 1e-4}
    task = mlp_task(limit, epochs, model, **how, save_steps=(0, 5, *times))
    times = task.recipe.save_steps[2:]
    heights, fixed = [], []
    for pair in range(replicates):
        a, b = task.run(2 * pair), task.run(2 * pair + 1)
        heights.append([_barriers(task, a, b, time, examples, alphas) for time in times])
        fixed.append(_fixed_points(task, a, b))
    mean = np.mean(heights, axis=0)  # [times, 2 + kinds x layers]
    count = (mean.shape[1] - 2) // len(KINDS)
    partial = mean[:, 2:].reshape(len(times), len(KINDS), count)
    rows = [[kind, layer + 1, *partial[:, place, layer]] for place, kind in enumerate(KINDS) for layer in range(count)]
    rows += [["all rewound", "", *mean[:, 0]], ["none rewound", "", *mean[:, 1]]]
    columns = ["rewound", "l", *(f"to step {time}" for time in times)]
    report.table(f"{task.model}, {task.data}: test loss barrier at the end under each permutation", columns, rows)
    path = report.picture("rewound", "Test loss barrier at the end of training (figures 5 right, 17 and 18).")
    matrices = {MEANING[kind]: partial[:, place].T for place, kind in enumerate(KINDS)}
    axes = ("layer l", "rewound to step")
    draw_matrices(matrices, path, rows=range(1, count + 1), columns=times, unit="nats", axes_labels=axes)
    _report_fixed(report, task, list(a), np.mean(fixed, axis=0))
    _say(report, mean, partial)


def _barriers(
    task: Task, a: dict[int, State], b: dict[int, State], time: int, examples: int, alphas: int
) -> list[float]:
    """Loss barriers of the ends: everything rewound, nothing rewound, then by kind and layer."""
    data, spec = task.dataset.take(examples), task.spec()
    parts, end = analysis.layers(task.module(), (data.train.inputs[:4],)), max(a)
    count = len(parts)
    chosen: list[list[int]] = [list(range(count)), []]
    for kind in KINDS:
        # Bottom-up counts the layers rewound: 1 to all of them.
        chosen += [analysis.rewound_layers(count, layer + (kind == "bottom-up"), kind) for layer in range(count)]
    networks = [a[end]]
    for layers in chosen:
        mixed = (analysis.rewind(run[end], run[time], parts, layers) for run in (a, b))
        networks.append(fastmatch.match_weights(spec, *mixed).permutation.apply(b[end]))
    pairs = [(0, number) for number in range(1, len(networks))]
    found = fastmatch.barriers(task.module(), networks, data, pairs=pairs, alphas=alphas)
    return [found.heights[pair]["test"]["loss"].linear for pair in pairs]


def _fixed_points(task: Task, a: dict[int, State], b: dict[int, State]) -> list[list[float]]:
    """Share of fixed points with the last permutation, by step and group, groups in the order of the layers."""
    spec = task.spec()
    found = [fastmatch.match_weights(spec, a[step], b[step]).permutation for step in a]
    sizes = {group.name: group.size for group in spec.groups}
    return [[count / sizes[name] for name, count in one.fixed_points(found[-1]).items()] for one in found]


def _report_fixed(report: study.Report, task: Task, steps: list[int], fixed: np.ndarray) -> None:
    names = [group.name for group in task.spec().groups]
    rows: list[list[Any]] = [[step, *shares, shares.mean()] for step, shares in zip(steps, fixed, strict=True)]
    report.table("Fixed points shared with the last permutation (figure 21)", ["step", *names, "all"], rows)
    curves = {name: fixed[:, place] for place, name in enumerate(names)}
    x = 1 + np.array(steps)
    panel = Panel(x=x, curves=curves, xlabel="1 + step of permutation", ylabel="fixed points (share)", log="x")
    draw_curves([panel], report.picture("fixed", "Fixed points shared with the last permutation by layer (figure 21)."))
    early = fixed[:-1].mean(0)
    ahead = "in part: the first layer is ahead" if early.argmax() == 0 else "did NOT come out"
    held = "came out" if (np.diff(early) <= 0).all() else ahead
    report.say(
        "Mean share of points fixed before the last step, layer by layer: "
        f"{', '.join(f'{share:.3f}' for share in early)}. That lower layers approach their final permutation sooner, "
        f"each before the next, {held}."
    )


def _say(report: study.Report, mean: np.ndarray, partial: np.ndarray) -> None:
    ends = np.sort(mean[:, :2], axis=1)[:, :, None, None]
    between = ((partial >= ends[:, 0] - _SLACK) & (partial <= ends[:, 1] + _SLACK)).mean()
    report.say(
        f"Of {partial.size} barriers under partly rewound permutations {100 * between:.0f} % lie, to {_SLACK} nats, "
        "between those of the last and of the early permutation: that they are bounded by these "
        f"{'came out' if between > 0.9 else 'did NOT come out'} (nine in ten)."
    )
    up, down = partial[:, 0].mean(0), partial[:, 1].mean(0)
    half = len(up) // 2
    report.say(
        f"Bottom-up, mean over the steps: {up[0]:.3f} nats with one layer rewound, {up[-1]:.3f} with all; that they "
        f"grow with the number of input layers {'came out' if up[-1] > up[0] else 'did NOT come out'}. The first "
        f"{half} layers rewound: {up[half - 1]:.3f}; the others: {down[half]:.3f}; that input layers matter more "
        f"{'came out' if up[half - 1] > down[half] else 'did NOT come out'}."
    )


if __name__ == "__main__":
    study.run(main, file=__file__, doc=__doc__, small=SMALL, full=FULL)
