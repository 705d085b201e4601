"""Matrices of barriers between networks: heat maps, reordered by clusters, under their dendrograms."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fastmatch.plots.canvas import new_figure, save, tiles
from fastmatch.plots.matrix import thin_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 4


@dataclass(frozen=True, kw_only=True)
class ClusterPanel:
    """One matrix.

    Attributes
    ----------
    matrix
        Shape [networks, networks].
    order
        Numbers of the networks from left to right; as they come if None.
    merges
        What the dendrogram shows, as :class:`fastmatch.analysis.Clusters` has them; needs their order. None for none.
    labels
        Names of the networks; their numbers if None.
    largest
        Value of the last colour; the largest entry if None.
    marked
        Number of a network whose name is drawn bold and red, such as a reference.
    """

    matrix: ArrayLike
    order: ArrayLike | None = None
    merges: ArrayLike | None = None
    labels: Sequence[object] | None = None
    largest: float | None = None
    marked: int | None = None
    title: str = ""


def draw_clusters(
    panels: Sequence[ClusterPanel], path: str | os.PathLike[str], *, unit: str = "", title: str = ""
) -> None:
    """Draw matrices with a colour scale each, in rows; dendrograms stand above them."""
    rows, columns = tiles(len(panels), _COLUMNS)
    figure = new_figure(path, (0.4 + 3.7 * columns, 0.3 + 3.9 * rows), title)
    outer = figure.add_gridspec(rows, columns)
    for number, panel in enumerate(panels):
        place = outer[number // columns, number % columns]
        if panel.merges is None:
            axes = figure.add_subplot(place)
            axes.set_title(panel.title, fontsize=9)
        else:
            inner = place.subgridspec(2, 1, height_ratios=(1, 4), hspace=0.02)
            tree, axes = figure.add_subplot(inner[0]), figure.add_subplot(inner[1])
            tree.set_title(panel.title, fontsize=9)
            _dendrogram(tree, np.asarray(panel.merges, dtype=float), np.asarray(panel.order))
        image = _heat_map(axes, panel)
        figure.colorbar(image, ax=axes, label=unit if number % columns == columns - 1 else "", shrink=0.8)
    save(figure, path)


def _heat_map(axes: Axes, panel: ClusterPanel) -> Any:
    matrix = np.asarray(panel.matrix, dtype=float)
    order = np.arange(len(matrix)) if panel.order is None else np.asarray(panel.order)
    names = [str(number if panel.labels is None else panel.labels[number]) for number in order.tolist()]
    largest = np.nanmax(matrix) if panel.largest is None else panel.largest
    image = axes.imshow(
        matrix[np.ix_(order, order)], vmin=0, vmax=max(float(largest), 1e-12), cmap="viridis", aspect="auto"
    )
    places, shown = thin_ticks(names)
    if panel.marked is not None and (at := order.tolist().index(panel.marked)) not in places:
        places, shown = [*places, at], [*shown, names[at]]
    axes.set_xticks(places, shown, rotation=90)
    axes.set_yticks(places, shown)
    axes.tick_params(labelsize=6)
    for axis in (axes.xaxis, axes.yaxis):
        for label, place in zip(axis.get_ticklabels(), places, strict=True):
            if panel.marked is not None and order[place] == panel.marked:
                label.set(color="#d55e00", fontweight="bold")
    return image


def _dendrogram(axes: Axes, merges: np.ndarray, order: np.ndarray) -> None:
    """A bracket for each merge, at its height, over the middles of the two clusters."""
    count = len(order)
    middle, height = np.empty(2 * count - 1), np.zeros(2 * count - 1)
    middle[order] = np.arange(count)
    for row, (first, second, distance, _) in enumerate(merges):
        left, right, joined = int(first), int(second), count + row
        x = [middle[left], middle[left], middle[right], middle[right]]
        axes.plot(x, [height[left], distance, distance, height[right]], color="black", lw=0.8)
        middle[joined], height[joined] = (middle[left] + middle[right]) / 2, distance
    axes.set_xlim(-0.5, count - 0.5)
    axes.set_ylim(bottom=0)
    axes.set_xticks([])
    axes.tick_params(labelsize=6)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
