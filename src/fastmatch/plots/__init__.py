"""Pictures: curves, triangles, matrices. The only room that needs matplotlib."""

from fastmatch.plots.canvas import SUFFIXES, check_target, new_figure, save
from fastmatch.plots.curves import Panel, draw_curves
from fastmatch.plots.lines import draw_barrier
from fastmatch.plots.matrix import draw_matrices
from fastmatch.plots.plane import Landscape, draw_planes
from fastmatch.plots.triangle import draw_triangle

__all__ = [
    "SUFFIXES",
    "Landscape",
    "Panel",
    "check_target",
    "draw_barrier",
    "draw_curves",
    "draw_matrices",
    "draw_planes",
    "draw_triangle",
    "new_figure",
    "save",
]
