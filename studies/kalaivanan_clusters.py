"""Clusters of aligned networks: Kalaivanan 2023, figure 4.6.

Barriers of all pairs after alignment with the first network, reordered by single-linkage clusters; colours end at the
mean test loss. Published: narrow networks on moons form clear clusters, narrow ones on MNIST do not; wide networks are
nearly all connected; at some widths on MNIST the networks connect to the reference but not to each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastmatch import plots
from fastmatch.analysis import Population, population
from studies import study
from studies.kalaivanan import images, moons

SMALL = {"networks": 12, "narrow": (4, 16, 64, 512), "wide": (4, 16, 64, 128), "epochs": 8, "limit": 10_000}
FULL = {"networks": 50, "narrow": (4, 16, 64, 512), "wide": (4, 16, 64, 512), "epochs": 60, "limit": None}
SHARE = 0.1  # Of the mean test loss: up to this epsilon, a pair counts as connected.
NEARLY = 0.9  # Of the networks: with as many in one cluster, nearly all are connected.
LOSS, SIZES, JOINED = "mean test loss", "their sizes", "all connected from"
REFERENCE, OTHERS = "median epsilon with the reference", "median epsilon of the others"


def figures(found: Population) -> list[object]:
    """Clusters at a share of the mean test loss, the threshold that joins all, and the reference beside the others."""
    loss, epsilon = found.ends().mean(), found.epsilon()
    labels = found.clusters.labels(SHARE * loss)
    others = epsilon[1:, 1:][np.triu_indices(len(epsilon) - 1, 1)]
    sizes = sorted(np.bincount(labels).tolist(), reverse=True)
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
    columns = ["data", "width", LOSS, f"clusters at {SHARE:.0%} of it", SIZES, JOINED, REFERENCE, OTHERS]
    report.table(f"{networks} networks each, aligned with the first", columns, rows)
    path = report.picture("matrices", "Epsilon of all pairs under their dendrograms; the reference is marked.")
    plots.draw_clusters(panels, path, unit="epsilon")
    named = [dict(zip(columns, row, strict=True)) for row in rows]
    for name in ("moons", data):
        conclude(report, name, networks, {row["width"]: row for row in named if row["data"] == name})


def conclude(report: study.Report, name: str, networks: int, rows: Mapping[int, Mapping[str, Any]]) -> None:
    """Say of one problem, by width, whether narrow networks form clusters, wide ones one, and which is nearest."""
    sizes = {width: row[SIZES] for width, row in rows.items()}
    narrow, wide = min(rows), max(rows)
    grouped = sum(size > 1 for size in sizes[narrow])
    clear = name == "moons"  # published of narrow networks on moons, of those on images the opposite
    report.say(
        f"{name}: at width {narrow}, {grouped} clusters of more than one network, the largest of {sizes[narrow][0]} of "
        f"{networks} networks. That narrow networks form {'clear clusters (two or more such)' if clear else 'none'} "
        f"came out: {_yes(grouped > 1 if clear else not grouped)}."
    )
    report.say(
        f"{name}: at width {wide} the largest cluster has {sizes[wide][0]} of {networks} networks. That nearly all "
        f"wide networks are connected (at least {NEARLY:.0%} in one cluster) came out: "
        f"{_yes(sizes[wide][0] >= NEARLY * networks)}. All are connected from epsilon {rows[narrow][JOINED]:.3f} on at "
        f"width {narrow}, from {rows[wide][JOINED]:.4f} on at width {wide}."
    )
    nearer = [width for width, row in rows.items() if row[REFERENCE] < row[OTHERS]]
    apart = [width for width, row in rows.items() if row[REFERENCE] <= SHARE * row[LOSS] < row[OTHERS]]
    report.say(
        f"{name}: in the median, networks are connected (epsilon at most {SHARE:.0%} of the mean test loss) to the "
        f"reference but not to each other at {_list(apart)}, and only nearer to it than to each other at "
        f"{_list([width for width in nearer if width not in apart])}."
        + ("" if clear else f" That the first occurs came out: {_yes(bool(apart))}.")
    )


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def _list(widths: Sequence[int]) -> str:
    return f"width{'s' * (len(widths) > 1)} {', '.join(map(str, widths))}" if widths else "no width"


if __name__ == "__main__":
    study.run(main, file=__file__, doc=__doc__, small=SMALL, full=FULL)
