"""Decisions of networks in the plane, and the lines on which their units switch."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from fastmatch.plots.canvas import new_figure, save


def draw_boundaries(
    x: ArrayLike,
    y: ArrayLike,
    probabilities: ArrayLike,
    lines: ArrayLike,
    path: str | os.PathLike[str],
    *,
    names: Sequence[str],
    examples: tuple[ArrayLike, ArrayLike] | None = None,
    title: str = "",
) -> None:
    """Draw a panel for each network: the probability of the last class, where it is a half, lines and examples.

    Parameters
    ----------
    x, y, probabilities, lines
        As :class:`fastmatch.analysis.Boundaries` has them.
    names
        Titles of the panels.
    examples
        Points, shape [examples, 2], and their labels.
    """
    figure = new_figure(path, (0.4 + 3.3 * len(names), 3.0), title)
    horizontal, vertical = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    for number, (axes, name) in enumerate(zip(np.atleast_1d(figure.subplots(1, len(names))), names, strict=True)):
        shown = np.asarray(probabilities)[number, :, :, -1]
        axes.contourf(horizontal, vertical, shown, levels=np.linspace(0, 1, 11), cmap="RdBu_r", alpha=0.6)
        if shown.min() < 0.5 < shown.max():
            axes.contour(horizontal, vertical, shown, levels=[0.5], colors="black", linewidths=1.5)
        faint = min(1.0, 12 / len(np.asarray(lines)[number]))
        for w1, w2, b in np.asarray(lines)[number]:
            steep = abs(w1) > abs(w2)  # written as a function of the other coordinate, so that no slope is infinite
            if w1 or w2:
                ends = (-(b + w2 * vertical) / w1, vertical) if steep else (horizontal, -(b + w1 * horizontal) / w2)
                axes.plot(*ends, color="#404040", lw=0.7, alpha=max(faint, 0.08))
        if examples is not None:
            points, labels = map(np.asarray, examples)
            axes.scatter(*points.T, c=labels, cmap="RdBu_r", s=3, linewidths=0)
        axes.set_xlim(horizontal[0], horizontal[-1])
        axes.set_ylim(vertical[0], vertical[-1])
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(name, fontsize=9)
    save(figure, path)
