"""Samples of stochastic weight averaging and their running average: Kalaivanan 2023, figures 4.7 and 4.8.

A trained network is trained on with a constant learning rate; the network after each epoch is a sample. Published: the
average has a lower test loss than every sample, and, but for narrow networks, than the network that training went on
from; epsilon between samples is close to zero without any alignment, so that they share a basin. The thesis gives the
learning rate, 0.05, but not the optimiser: here SGD with momentum 0.9, as where the method was introduced.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastmatch import evaluate, plots, training
from fastmatch.analysis import population
from studies import study
from studies.kalaivanan import images

SMALL = {"widths": (8, 16, 64, 128), "epochs": 8, "samples": 10, "lr": 0.05, "limit": 10_000}
FULL = {"widths": (8, 16, 64, 512), "epochs": 60, "samples": 10, "lr": 0.05, "limit": None}
CONSTANT = {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.0, "schedule": "constant"}
FLAT = 0.05  # Of the mean test loss of the samples: below this median epsilon they count as sharing a basin.


def main(report: study.Report, widths: Sequence[int], epochs: int, samples: int, lr: float, limit: int | None) -> None:
    """A table by width, the losses over the epochs, and the curves between samples."""
    data, rows, panels, bundles = study.data_name(), [], [], {}
    for width in widths:
        task = images(data, width, epochs, limit)
        start = task.train(0)
        saved = tuple(range(1, samples + 1))
        further = images(data, width, samples, limit, save_epochs=saved, **CONSTANT | {"lr": lr})
        states = further.trajectory(0, parent=start)[:samples]
        averages = list(training.running_averages(states))
        rowed = evaluate(task.module(), [start, *states, *averages], np.eye(2 * samples + 1), task.dataset.test)
        first, single, running = rowed.loss[0], rowed.loss[1 : samples + 1], rowed.loss[samples + 1 :]
        found = population(task.module(), states, task.dataset, align="none")
        epsilon = found.values()
        rows.append(
            [
                width,
                first,
                float(single.mean()),
                float(single.min()),
                running[-1],
                float(np.median(epsilon)),
                epsilon.max(),
            ]
        )
        curves = {"sample": single, "running average": running, "before": np.full(samples, first)}
        panels.append(plots.Panel(x=saved, curves=curves, xlabel="epoch", ylabel="test loss", title=f"width {width}"))
        bundles[f"width {width}"] = found.curves()
        grid = found.barriers.alphas
    columns = ["width", "before", "samples, mean", "samples, best", "average", "median epsilon", "largest epsilon"]
    report.table(f"Test loss on {data}: {samples} samples, learning rate {lr}", columns, rows)
    plots.draw_curves(panels, report.picture("losses", "Test loss of the samples and of their running average."))
    path = report.picture("curves", "Test loss between samples; median and quartiles over pairs in red.")
    plots.draw_bundles(bundles, path, x=grid, xlabel="alpha", ylabel="test loss")
    conclude(report, rows)


def conclude(report: study.Report, rows: Sequence[Sequence[float]]) -> None:
    """Say at which widths each published finding holds, and the weaker one that the average beats the mean sample."""
    best, mean, improved, flat = ([row[0] for row in rows if holds(row)] for holds in (_best, _mean, _improved, _flat))
    figures = "; ".join(f"width {row[0]}: {row[4]:.4f} and {row[3]:.4f}, mean {row[2]:.4f}" for row in rows)
    report.say(
        f"Test loss of the average, of the best sample and the mean of the samples: {figures}. The average is better "
        f"than every sample at {_list(best)} (published: at all). That every sample is worse than the average "
        f"came out: {_verdict(best, rows)}. The weaker statement, that the average is better than the samples are on "
        f"average, holds at {_list(mean)}: {_verdict(mean, rows)}."
    )
    report.say(
        f"The average is better than the network that training went on from at {_list(improved)} (published: at all "
        f"but narrow ones). That it is better at the widest came out: {'yes' if rows[-1][0] in improved else 'no'}."
    )
    report.say(
        f"Median epsilon between samples is below {FLAT:.0%} of their mean loss at {_list(flat)}. That samples share "
        f"a basin (are below that) came out: {_verdict(flat, rows)}."
    )


def _best(row: Sequence[float]) -> bool:
    return row[4] < row[3]


def _mean(row: Sequence[float]) -> bool:
    return row[4] < row[2]


def _improved(row: Sequence[float]) -> bool:
    return row[4] < row[1]


def _flat(row: Sequence[float]) -> bool:
    return row[5] < FLAT * row[2]


def _list(widths: Sequence[float]) -> str:
    return f"width{'s' * (len(widths) > 1)} {', '.join(map(str, widths))}" if widths else "no width"


def _verdict(holding: Sequence[float], rows: Sequence[object]) -> str:
    return "yes" if len(holding) == len(rows) else "in part" if holding else "no"


if __name__ == "__main__":
    study.run(main, file=__file__, doc=__doc__, small=SMALL, full=FULL)
