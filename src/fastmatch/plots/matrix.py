"""Matrices as heat maps."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastmatch.plots.canvas import new_figure, save

_MOST_LABELS = 32


def draw_matrices(
    matrices: Mapping[str, ArrayLike],
    path: str | os.PathLike[str],
    *,
    rows: Sequence[object],
    columns: Sequence[object] | None = None,
    unit: str = "",
    axes_labels: tuple[str, str] = ("", ""),
    largest: float | None = None,
    title: str = "",
) -> None:
    """Draw matrices of one shape side by side, by title, under one colour scale; NaN stays white.

    Parameters
    ----------
    rows, columns
        Labels of the rows and columns; the columns take those of the rows where none are given. Many are thinned out.
    unit
        What the colours say.
    axes_labels
        Of the vertical and of the horizontal axis.
    largest
        Value of the last colour; the largest of all entries where none is given.
    """
    values = {name: np.asarray(matrix, dtype=float) for name, matrix in matrices.items()}
    shape = next(iter(values.values())).shape
    width = 1.0 + (3.4 if shape[1] >= shape[0] else 2.6) * len(values)
    figure = new_figure(path, (width, 3.8), title)
    entries = np.concatenate([matrix.ravel() for matrix in values.values()])
    entries = entries[np.isfinite(entries)]
    low, high = (entries.min(), entries.max()) if len(entries) else (0.0, 1.0)
    image: Any = None
    panels = np.atleast_1d(figure.subplots(1, len(values)))
    for place, (axes, (name, matrix)) in enumerate(zip(panels, values.items(), strict=True)):
        image = axes.imshow(matrix, vmin=low, vmax=high if largest is None else largest, cmap="viridis", aspect="auto")
        axes.set_title(name, fontsize=9)
        axes.set_xlabel(axes_labels[1])
        axes.set_ylabel(axes_labels[0] if place == 0 else "")
        axes.set_yticks(*thin_ticks(rows))
        axes.set_xticks(*thin_ticks(rows if columns is None else columns), rotation=90)
        axes.tick_params(labelsize=7)
    figure.colorbar(image, ax=list(panels), label=unit, shrink=0.9)
    save(figure, path)


def thin_ticks(labels: Sequence[object]) -> tuple[list[int], list[str]]:
    """Places and texts of as many labels as can be read."""
    places = list(range(0, len(labels), 1 + len(labels) // _MOST_LABELS))
    return places, [str(labels[place]) for place in places]
