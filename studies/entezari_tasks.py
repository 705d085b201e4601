"""Architecture and difficulty of the task: test error against barrier.

Entezari et al. 2022, figure 4: easier tasks and simpler architectures have lower barriers, and depth lifts them
whatever the error. CIFAR-10 and MNIST where FASTMATCH_DATA has them, digits as the easiest; no SVHN, CIFAR-100 or
ImageNet, which have no built-in loader (an .npz of them can be named instead).
"""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np

from fastmatch import plots
from fastmatch.training import Recipe
from studies import study
from studies.population import Task
from studies.worlds import world_figures

SMALL = {
    "networks": 2,
    "limit": 4000,
    "architectures": {
        "MLP": ("mlp({pixels}, 256, 10)", 10),
        "Shallow CNN": ("shallow_cnn(width=16, in_channels={channels}, size={size})", 6),
        "VGG-11": ("vgg11(width=8, norm=layer, in_channels={channels}, size={size})", 6),
    },
}
FULL = {
    "networks": 10,
    "limit": None,
    "architectures": {
        "MLP": ("mlp({pixels}, 1024, 10)", 100),
        "Shallow CNN": ("shallow_cnn(width=1024, in_channels={channels}, size={size})", 100),
        "VGG-16": ("vgg16(width=64, norm=batch, in_channels={channels}, size={size})", 100),
        "ResNet-18": ("resnet18(width=64, norm=batch, in_channels={channels}, size={size})", 100),
        "ResNet-50": ("resnet50(width=64, norm=batch, in_channels={channels}, size={size})", 100),
    },
}
SHAPES = {"digits": (1, 8), "mnist": (1, 28), "cifar10": (3, 32)}


def main(report: study.Report, networks: int, limit: int | None, architectures: dict[str, tuple[str, int]]) -> None:
    folder = Path(os.environ.get("FASTMATCH_DATA", ""))
    tasks = [name for name in SHAPES if name == "digits" or (folder / f"{name}.npz").is_file()]
    rows = []
    for data in tasks:
        channels, size = SHAPES[data]
        for name, (model, epochs) in architectures.items():
            if name.startswith(("VGG", "ResNet")) and size < 16:
                continue  # too small to be halved five times
            string = model.format(pixels=channels * size**2, channels=channels, size=size)
            recipe = Recipe(epochs=epochs * (4 if data == "digits" else 1))  # it has a quarter of the examples
            found = world_figures(Task(string, data, recipe, limit), networks, 11, 2000, "activation")
            barriers = [np.mean(found["barriers"]["real world"][stage]["train"]) for stage in ("before", "after")]
            rows.append([data, name, found["train error"], found["test error"], *map(float, barriers)])
    columns = ["task", "architecture", "train error", "test error", "barrier (nats)", "matched (nats)"]
    report.table("Test error and mean barrier of the training loss", columns, rows)
    path = report.picture("scatter", "Barrier of the training loss against the test error; hollow after matching.")
    figure = plots.new_figure(path, (5, 4))
    axes = figure.subplots()
    names = list(architectures)
    for data, name, _, error, before, after in rows:
        style = {"color": f"C{names.index(name)}", "marker": "os^"[tasks.index(data)], "ls": ""}
        axes.plot(100 * error, before, label=f"{name}, {data}", **style)
        axes.plot(100 * error, after, mfc="none", **style)
    axes.set_xlabel("test error (%)")
    axes.set_ylabel("barrier (nats)")
    axes.legend(frameon=False, fontsize=7)
    plots.save(figure, path)
    for name in names:
        own = sorted((error, before) for _, kind, _, error, before, _ in rows if kind == name)
        word = "rises" if all(low[1] <= high[1] for low, high in pairwise(own)) else "does not rise"
        points = ", ".join(f"{100 * error:.1f} % {barrier:.2f}" for error, barrier in own)
        report.say(f"{name}: with the test error the barrier {word} throughout ({points}).")


if __name__ == "__main__":
    study.run(main, file=__file__, doc=__doc__, small=SMALL, full=FULL)
