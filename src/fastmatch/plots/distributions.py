"""Distributions of many values: box plots and histograms, and bundles of curves with their quartiles."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from fastmatch.plots.canvas import new_figure, save, tiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = ("#8c8c8c", "#0072b2", "#d55e00", "#009e73")
_COLUMNS = 5
Values = Mapping[str, Mapping[object, ArrayLike]]


def draw_boxes(
    panels: Mapping[str, Values], path: str | os.PathLike[str], *, xlabel: str, ylabel: str, title: str = ""
) -> None:
    """Draw box plots side by side: boxes from quartile to quartile, whiskers to 1.5 times that beyond, no outliers.

    Parameters
    ----------
    panels
        ``panels[title][series][place]`` are the values of one box; the series stand beside each other in every place.
    """
    figure = new_figure(path, (0.5 + 4.4 * len(panels), 3.6), title)
    for number, (axes, (name, series)) in enumerate(
        zip(np.atleast_1d(figure.subplots(1, len(panels))), panels.items(), strict=True)
    ):
        places = list(dict.fromkeys(place for values in series.values() for place in values))
        for which, (label, values) in enumerate(series.items()):
            offset = (which - (len(series) - 1) / 2) * 0.8 / len(series)
            boxes = axes.boxplot(
                [np.asarray(found, dtype=float) for found in values.values()],
                positions=[places.index(place) + offset for place in values],
                widths=0.7 / len(series),
                showfliers=False,
                patch_artist=True,
                medianprops={"color": "black"},
            )
            for box in boxes["boxes"]:
                box.set(facecolor=_COLOURS[which % len(_COLOURS)], alpha=0.8)
            boxes["boxes"][0].set_label(label)
        axes.set_xticks(range(len(places)), [str(place) for place in places])
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel if number == 0 else "")
        axes.set_title(name, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        known = axes.get_legend_handles_labels()
    if len(known[1]) > 1:
        figure.legend(*known, loc="outside right center", frameon=False, fontsize=8)
    save(figure, path)


def draw_histograms(
    series: Values, path: str | os.PathLike[str], *, xlabel: str, title: str = "", bins: int = 20
) -> None:
    """Draw one panel for each place, with the histograms of all series over common bins; axes are scaled one by one.

    Parameters
    ----------
    series
        ``series[name][place]`` are values.
    """
    places = list(dict.fromkeys(place for values in series.values() for place in values))
    figure = new_figure(path, _size(len(places)), title)
    for axes, place in zip(_grid(figure, len(places)), places, strict=True):
        found = {name: np.asarray(values[place], dtype=float) for name, values in series.items() if place in values}
        edges = np.histogram_bin_edges(np.concatenate(list(found.values())), bins)
        for which, (name, values) in enumerate(found.items()):
            axes.hist(values, edges.tolist(), color=_COLOURS[which % len(_COLOURS)], alpha=0.6, label=name)
        axes.set_title(str(place), fontsize=9)
        axes.set_xlabel(xlabel)
        axes.set_ylabel("pairs")
        axes.spines[["top", "right"]].set_visible(False)
        if place == places[0] and len(series) > 1:
            axes.legend(frameon=False, fontsize=8)
    save(figure, path)


def draw_bundles(
    bundles: Mapping[str, ArrayLike],
    path: str | os.PathLike[str],
    *,
    x: ArrayLike,
    xlabel: str,
    ylabel: str,
    title: str = "",
) -> None:
    """Draw many curves in grey with their pointwise median and, dashed, quartiles; a panel each, scaled one by one.

    Parameters
    ----------
    bundles
        Values by title, shape [curves, points].
    """
    figure = new_figure(path, _size(len(bundles)), title)
    for axes, (name, given) in zip(_grid(figure, len(bundles)), bundles.items(), strict=True):
        curves = np.asarray(given, dtype=float)
        axes.plot(np.asarray(x), curves.T, color="#8c8c8c", lw=0.5, alpha=0.4)
        low, median, high = np.quantile(curves, [0.25, 0.5, 0.75], axis=0)
        axes.plot(np.asarray(x), median, color="#d55e00", lw=1.6)
        for quartile in (low, high):
            axes.plot(np.asarray(x), quartile, color="#d55e00", lw=1, ls="--")
        axes.set_title(name, fontsize=9)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def _size(panels: int) -> tuple[float, float]:
    rows, columns = tiles(panels, _COLUMNS)
    return 0.3 + 2.7 * columns, 0.3 + 2.5 * rows


def _grid(figure: Figure, panels: int) -> list[Axes]:
    """Axes in rows; those beyond the last panel stay away."""
    axes = list(np.atleast_1d(figure.subplots(*tiles(panels, _COLUMNS))).ravel())
    for unused in axes[panels:]:
        unused.set_axis_off()
    return axes[:panels]
