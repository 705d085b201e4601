"""Effect of width and of depth on barriers, in the real world and in the model, before and after matching.

Entezari et al. 2022, figures 2, 3 (barriers on training examples), 5, 13, 17 (real world against model), 7, 11, 22
(after a permutation; weight matching here, where the paper anneals), 8, 9 (losses and errors), 19 to 21 (test), and the
aggregate of figures 1 and 10.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastmatch import plots
from fastmatch.training import Recipe
from studies import study
from studies.population import Task
from studies.worlds import STAGES, WORLDS, world_figures

SMALL = {
    "limit": 4000,
    "networks": 3,
    "families": {
        "MLP, one layer": ("width", "mlp({inputs}, {x}, 10)", (4, 16, 64, 256, 1024), Recipe(epochs=12)),
        "MLP, width 256": ("depth", "mlp({inputs}, {layers}, 10)", (1, 2, 4, 6), Recipe(epochs=12)),
        "Shallow CNN": ("width", "shallow_cnn(width={x}, {image})", (4, 16, 64), Recipe(epochs=6)),
        "Shallow CNN, width 16": ("depth", "shallow_cnn(width=16, depth={x}, {image})", (2, 3, 4), Recipe(epochs=6)),
        "VGG-11": ("width", "vgg11(width={x}, norm=layer, {image})", (2, 4, 8), Recipe(epochs=6)),
    },
}
_MLP = Recipe(optimizer="sgd", lr=0.01, schedule="constant", batch_size=64, epochs=3000)
_CNN = Recipe(optimizer="sgd", lr=0.02, schedule="cosine", batch_size=256, epochs=1000)
FULL = {
    "limit": None,
    "networks": 10,
    "families": {
        "MLP, one layer": ("width", "mlp({inputs}, {x}, 10)", tuple(2**k for k in range(2, 16)), _MLP),
        "MLP, width 1024": ("depth", "mlp({inputs}, {layers}, 10)", (1, 2, 4, 8), _MLP),
        "Shallow CNN": ("width", "shallow_cnn(width={x}, {image})", tuple(2**k for k in range(2, 13)), _CNN),
        "Shallow CNN, width 1024": ("depth", "shallow_cnn(width=1024, depth={x}, {image})", (2, 3, 4, 6, 8), _CNN),
        "VGG-16": ("width", "vgg16(width={x}, norm=batch, {image})", (4, 8, 16, 32, 64, 128), _CNN),
        "VGG": ("depth", "vgg{x}(width=64, norm=batch, {image})", (11, 13, 16, 19), _CNN),
        "ResNet-18": ("width", "resnet18(width={x}, norm=batch, {image})", (4, 8, 16, 32, 64, 128), _CNN),
        "ResNet": ("depth", "resnet{x}(width=64, norm=batch, {image})", (18, 34, 50), _CNN),
    },
}
_MODELS = {"mnist": ("784", "in_channels=1, size=28"), "digits": ("64", "in_channels=1, size=8")}


def main(report: study.Report, limit: int | None, networks: int, families: dict[str, Any]) -> None:
    data = study.data_name()
    found = {
        (family, x): world_figures(task, networks, 11, 2000, "weight")
        for family, (_, model, sizes, recipe) in families.items()
        for x, task in tasks(data, model, sizes, recipe, limit, family)
    }
    for family, (axis, _, sizes, _) in families.items():
        rows = [row(x, found[family, x]) for x in sizes if (family, x) in found]
        columns = [axis, "train loss", "train error", "test loss", "test error"]
        report.table(f"{family}, {data}: mean barrier of the loss", [*columns, *SERIES], rows)
        draw(report, family, axis, rows)
        report.say(f"{family}: " + "; ".join(course(axis, rows, f"real world {stage}") for stage in STAGES) + ".")
    aggregate(report, found)


SERIES = [f"{world} {stage}, {split}" for split in ("train", "test") for world in WORLDS for stage in STAGES]


def tasks(data: str, model: str, sizes: tuple[int, ...], recipe: Recipe, limit: int | None, family: str) -> Any:
    """A task for each size of a family."""
    inputs, image = _MODELS[data]
    width = family.rpartition(" ")[2]
    for x in sizes:
        layers = ", ".join([width] * x) if "{layers}" in model else ""
        yield x, Task(model.format(x=x, inputs=inputs, image=image, layers=layers), data, recipe, limit)


def row(x: int, found: dict[str, Any]) -> list[float]:
    """Figures of one size: losses and errors, then barriers in the order of SERIES."""
    ends = [found[f"{split} {quantity}"] for split in ("train", "test") for quantity in ("loss", "error")]
    series = [
        float(np.mean(found["barriers"][world][stage][split]))
        for split in ("train", "test")
        for world in WORLDS
        for stage in STAGES
    ]
    return [x, *ends, *series]


def course(axis: str, rows: list[list[float]], series: str) -> str:
    """Where the training barrier starts, peaks and ends over the sizes."""
    values = {row[0]: row[5 + SERIES.index(f"{series}, train")] for row in rows}
    first, peak, last = next(iter(values)), max(values, key=values.__getitem__), list(values)[-1]
    points = ", ".join(f"{values[x]:.3g} at {axis} {x}" for x in dict.fromkeys((first, peak, last)))
    return f"{series}, training barrier {points}" + (" (the largest)" if peak == last else "")


def draw(report: study.Report, family: str, axis: str, rows: list[list[float]]) -> None:
    """Barriers against the size, on training and on test examples."""
    table = np.array(rows).T
    panels = [
        plots.Panel(
            x=table[0],
            curves={f"{w} {s}": table[5 + SERIES.index(f"{w} {s}, {split}")] for w in WORLDS for s in STAGES},
            xlabel=axis,
            ylabel=f"barrier of the {split} loss (nats)",
            log="x" if axis == "width" else "",
        )
        for split in ("train", "test")
    ]
    plots.draw_curves(panels, report.picture(study.slug(family), f"{family}: mean barrier over pairs."), family)


def aggregate(report: study.Report, found: dict[Any, dict[str, Any]]) -> None:
    """Mean barriers of the model against those of the real world, a point for each setting (figures 1 and 10)."""
    means = {
        stage: np.array([[np.mean(f["barriers"][world][stage]["train"]) for world in WORLDS] for f in found.values()])
        for stage in STAGES
    }
    path = report.picture("worlds", "Real world against model: mean training barrier of each setting.")
    figure = plots.new_figure(path, (4.2, 4))
    axes = figure.subplots()
    for stage, points in means.items():
        axes.plot(*points.T, "o", label=stage, ms=4)
    top = max(points.max() for points in means.values())
    axes.plot([0, top], [0, top], color="#8c8c8c", lw=1)
    axes.set_xlabel("real world: barrier (nats)")
    axes.set_ylabel("model: barrier (nats)")
    axes.legend(frameon=False)
    plots.save(figure, path)
    correlation = np.corrcoef(means["before"].T)[0, 1]
    ratios = means["before"][:, 1] / means["before"][:, 0]
    report.say(
        f"Before matching, model over real world is {np.median(ratios):.2f} in the median of {len(ratios)} settings "
        f"(from {ratios.min():.2f} to {ratios.max():.2f}), correlation {correlation:.2f}. After it, the model has "
        f"barriers of at most {means['after'][:, 1].max():.2g} (its permutations are found), the real world of "
        f"{np.median(means['after'][:, 0]):.2g} in the median and at most {means['after'][:, 0].max():.2g}."
    )


if __name__ == "__main__":
    study.run(main, file=__file__, doc=__doc__, small=SMALL, full=FULL)
