"""Losses and accuracies of the networks by width: Kalaivanan 2023, tables 3.1 (moons) and 3.2 (MNIST).

Mean and standard deviation over networks that differ in their seeds alone, beside the published figures over 50 where
the data are those of the thesis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fastmatch import evaluate, plots
from studies import study
from studies.kalaivanan import WIDTHS, images, moons
from studies.population import Task

SMALL = {"networks": 8, "widths": (4, 8, 16, 32, 64, 128), "epochs": 8, "limit": 10_000}
FULL = {"networks": 50, "widths": WIDTHS, "epochs": 60, "limit": None}
# Train loss, test loss, train accuracy, test accuracy.
MOONS = {
    2: (0.264, 0.284, 0.879, 0.859),
    4: (0.186, 0.206, 0.920, 0.903),
    8: (0.105, 0.124, 0.957, 0.941),
    16: (0.019, 0.028, 0.996, 0.991),
    32: (0.005, 0.012, 1.0, 0.996),
    64: (0.003, 0.009, 1.0, 0.997),
    128: (0.002, 0.006, 1.0, 0.998),
    256: (0.002, 0.005, 1.0, 0.999),
    512: (0.001, 0.004, 1.0, 0.998),
}
MNIST = {
    2: (2.301, 2.301, 0.112, 0.113),
    4: (0.660, 0.690, 0.803, 0.798),
    8: (0.172, 0.225, 0.950, 0.938),
    16: (0.040, 0.134, 0.989, 0.966),
    32: (0.003, 0.120, 0.999, 0.978),
    64: (0.001, 0.108, 1.0, 0.983),
    128: (0.0, 0.102, 1.0, 0.985),
    256: (0.0, 0.102, 1.0, 0.985),
    512: (0.0, 0.111, 1.0, 0.985),
}

Figures = Mapping[int, np.ndarray]  # by width: of each network, those four
Published = Mapping[int, tuple[float, ...]]


def measure(task: Task, count: int) -> np.ndarray:
    """Train loss, test loss, train accuracy, test accuracy of each network, shape [networks, 4]."""
    networks = task.population(range(count))
    splits = (task.dataset.train, task.dataset.test)
    found = [evaluate(task.module(), networks, np.eye(count), split) for split in splits]
    return np.stack([*(f.loss for f in found), *(1 - f.error for f in found)], 1)


def test_losses(found: Figures) -> np.ndarray:
    """Mean test loss of each width."""
    return np.array([figures[:, 1].mean() for figures in found.values()])


def tabulate(report: study.Report, title: str, found: Figures, published: Published | None) -> None:
    """Losses and accuracies by width, beside the published ones."""
    names = ["train loss", "test loss", "train accuracy", "test accuracy"]
    rows = [
        [width, *(study.mean_std(column, 3) for column in figures.T), *(published[width] if published else ())]
        for width, figures in found.items()
    ]
    beside = [f"published {name}" for name in names] if published else []
    count = len(next(iter(found.values())))
    report.table(f"{title}: {count} networks each", ["width", *names, *beside], rows)


def conclude(report: study.Report, title: str, found: Figures, published: Published | None) -> None:
    """Say whether the test loss falls with the width, and how it goes with the published one."""
    loss, beside, agreement = test_losses(found), "", ""
    if published:
        other = np.array([published[width][1] for width in found])
        agree = np.corrcoef(np.log(loss), np.log(other))[0, 1]
        beside = f" (published: {other[0]:.3f} to {other[-1]:.4f})"
        agreement = f"; correlation of the logarithms with the published ones over widths {agree:.2f}"
    report.say(
        f"{title}: the mean test loss goes from {loss[0]:.3f} at width {min(found)} to {loss[-1]:.4f} at width "
        f"{max(found)}{beside}{agreement}. That it falls with the width (is lower at the largest than at the "
        f"smallest) came out: {'yes' if loss[-1] < loss[0] else 'no'}."
    )


def main(report: study.Report, networks: int, widths: Sequence[int], epochs: int, limit: int | None) -> None:
    """Both tables, and the loss over the width."""
    data = study.data_name()
    zoos = {
        "moons": {width: moons(width) for width in WIDTHS},
        data: {width: images(data, width, epochs, limit) for width in widths},
    }
    panels = []
    for title, zoo in zoos.items():
        found = {width: measure(task, networks) for width, task in zoo.items()}
        published = {"moons": MOONS, "mnist": MNIST}.get(title)  # the thesis has nothing on the digits
        tabulate(report, title, found, published)
        conclude(report, title, found, published)
        curves = {"measured": test_losses(found)}
        if published:
            curves["published"] = np.array([published[width][1] for width in found])
        panels.append(
            plots.Panel(x=list(found), curves=curves, xlabel="width", ylabel="test loss", title=title, log="xy")
        )
    plots.draw_curves(panels, report.picture("losses", "Mean test loss over the width."), "Networks of the thesis")


if __name__ == "__main__":
    study.run(main, file=__file__, doc=__doc__, small=SMALL, full=FULL)
