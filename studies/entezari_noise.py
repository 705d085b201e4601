"""Effect of label noise on barriers: losses, errors and barriers against the share of random labels.

Entezari et al. 2022, appendix E.1, figure 16: the barrier keeps its size, and grows a little with much noise. Barriers
of the error on training examples, in percent, as there; after weight matching beside it.
"""

from __future__ import annotations

import numpy as np

from fastmatch import plots
from fastmatch.training import Recipe
from studies import study
from studies.population import Task
from studies.worlds import world_figures

SMALL = {"width": 512, "noises": (0.0, 0.2, 0.4, 0.8), "networks": 3, "limit": 4000, "epochs": 20}
FULL = {"width": 1024, "noises": (0.0, 0.2, 0.4, 0.6, 0.8), "networks": 10, "limit": None, "epochs": 1000}


def main(
    report: study.Report, width: int, noises: tuple[float, ...], networks: int, limit: int | None, epochs: int
) -> None:
    data = study.data_name()
    model = f"mlp({784 if data == 'mnist' else 64}, {width}, 10)"
    rows = []
    for noise in noises:
        task = Task(model, data, Recipe(epochs=epochs, batch_size=64), limit, noise)
        found = world_figures(task, networks, 11, 2000, "weight", quantity="error")
        ends = [found[f"{split} {quantity}"] for split in ("train", "test") for quantity in ("loss", "error")]
        before, after = (
            100 * float(np.mean(found["barriers"]["real world"][stage]["train"])) for stage in ("before", "after")
        )
        rows.append([noise, *ends, before, after])
    columns = ["noise", "train loss", "train error", "test loss", "test error", "barrier (%)", "matched (%)"]
    report.table(f"{model} on {data}: mean over {networks} networks and their pairs", columns, rows)
    table = np.array(rows).T
    titles = ("loss (nats)", "error", "barrier of the training error (%)")
    curves = ({"train": table[1], "test": table[3]}, {"train": table[2], "test": table[4]})
    panels = [
        plots.Panel(x=table[0], curves=found, xlabel="label noise", ylabel=title)
        for found, title in zip((*curves, {"as trained": table[5], "matched": table[6]}), titles, strict=True)
    ]
    plots.draw_curves(panels, report.picture("curves", "Losses, errors and barriers against label noise."))
    report.say(
        f"From no noise to {noises[-1]:.0%}, the barrier of the error goes from {table[5, 0]:.1f} % to "
        f"{table[5, -1]:.1f} %, after matching from {table[6, 0]:.1f} % to {table[6, -1]:.1f} %."
    )


if __name__ == "__main__":
    study.run(main, file=__file__, doc=__doc__, small=SMALL, full=FULL)
