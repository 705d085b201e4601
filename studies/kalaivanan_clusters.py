"""Clusters of aligned networks: Kalaivanan 2023, figure 4.6.

Barriers of all pairs after alignment with the first network, reordered by single-linkage clusters; colours end at the
mean test loss. Published: narrow networks on moons form clear clusters, narrow ones on MNIST do not; wide networks are
all connected; at some widths on MNIST the networks connect to the reference but not to each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastmatch import plots
from fastmatch.analysis import Population, population
from studies import study
from studies.kalaivanan import images, moons

SMALL = {"networks": 12, "narrow": (4, 16, 64, 512), "wide": (4, 16, 64, 128), "epochs": 8, "limit": 10_000}
FULL = {"networks": 50, "narrow": (4, 16, 64, 512), "wide": (4, 16, 64, 512), "epochs": 60, "limit": None}
SHARE = 0.1  # Of the mean test loss: up to this epsilon, a pair counts as connected.


def figures(found: Population) -> list[object]:
    """Clusters at a share of the mean test loss, the threshold that joins all, and the reference beside the others."""
    loss, epsilon = found.ends().mean(), found.epsilon()
    labels = found.clusters.labels(SHARE * loss)
    others = epsilon[1:, 1:][np.triu_indices(len(epsilon) - 1, 1)]
    sizes = ", ".join(map(str, sorted(np.bincount(labels), reverse=True)))
    return [
        loss,
        len(np.unique(labels)),
        sizes,
        found.clusters.connecting,
        np.median(epsilon[0, 1:]),
        np.median(others),
    ]


def main(
    report: study.Report, networks: int, narrow: Sequence[int], wide: Sequence[int], epochs: int, limit: int | None
) -> None:
    """A table of both problems, and the matrices."""
    data, panels, rows = study.data_name(), [], []
    tasks = [("moons", width, moons(width)) for width in narrow]
    tasks += [(data, width, images(data, width, epochs, limit)) for width in wide]
    for title, width, task in tasks:
        found = population(task.module(), task.population(range(networks)), task.dataset)
        rows.append([title, width, *figures(found)])
        panels.append(
            plots.ClusterPanel(
                matrix=found.epsilon(),
                order=found.clusters.order,
                merges=found.clusters.merges,
                largest=float(found.ends().mean()),
                marked=found.reference,
                title=f"{title}, width {width}",
            )
        )
    columns = ["data", "width", "mean test loss", f"clusters at {SHARE:.0%} of it", "their sizes"]
    columns += ["all connected from", "median epsilon with the reference", "median epsilon of the others"]
    report.table(f"{networks} networks each, aligned with the first", columns, rows)
    path = report.picture("matrices", "Epsilon of all pairs under their dendrograms; the reference is marked.")
    plots.draw_clusters(panels, path, unit="epsilon")
    by_name = {name: [row for row in rows if row[0] == name] for name in ("moons", data)}
    for name, found_rows in by_name.items():
        first, last = found_rows[0], found_rows[-1]
        nearer = [row[1] for row in found_rows if row[6] < row[7]]
        report.say(
            f"{name}: {first[3]} clusters of {first[4]} networks at width {first[1]}, {last[3]} of {last[4]} at width "
            f"{last[1]}; all are connected from epsilon {first[5]:.3f} and {last[5]:.4f} on. They are nearer to the "
            f"reference than to each other at widths {', '.join(map(str, nearer)) or 'none'}. "
            f"Fewer clusters in wide networks came out: {'yes' if last[3] < first[3] else 'no'}."
        )


if __name__ == "__main__":
    study.run(main, file=__file__, doc=__doc__, small=SMALL, full=FULL)
