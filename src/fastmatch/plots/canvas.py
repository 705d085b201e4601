"""Where pictures go: the formats, and a file written whole or not at all."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

from fastmatch.errors import OptionError, OutputError
from fastmatch.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".pdf", ".svg")


def check_target(path: str | os.PathLike[str]) -> None:
    """Raise before any work is done where a picture could not be drawn to ``path``.

    Raises
    ------
    OptionError
        The suffix is none of .png, .pdf, .svg.
    OutputError
        matplotlib is not installed.
    """
    if os.path.splitext(path)[1].lower() not in SUFFIXES:
        raise OptionError(f"cannot draw to {os.fspath(path)}; name a file that ends in {', '.join(SUFFIXES)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise OutputError("drawing needs matplotlib; install it with: pip install 'fastmatch[plots]'") from error


def new_figure(path: str | os.PathLike[str], size: tuple[float, float], title: str = "") -> Figure:
    """Return an empty figure of ``size`` inches that can be saved to ``path``; raises as :func:`check_target`."""
    check_target(path)
    from matplotlib.figure import Figure

    options: dict[str, Any] = {"figsize": size, "layout": "constrained"}
    figure = Figure(**options)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def tiles(panels: int, most: int) -> tuple[int, int]:
    """Rows and columns, at most ``most``, that panels fill as evenly as they can."""
    rows = math.ceil(panels / most)
    return rows, math.ceil(panels / rows)


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure to ``path`` in the format of its suffix."""
    write_atomic(path, lambda temporary: figure.savefig(temporary, dpi=150))
