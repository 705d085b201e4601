"""Pictures: curves, triangles, matrices. The only room that needs matplotlib."""

from fastmatch.plots.boundary import draw_boundaries
from fastmatch.plots.canvas import SUFFIXES, check_target, new_figure, save
from fastmatch.plots.clusters import ClusterPanel, draw_clusters
from fastmatch.plots.curves import Panel, draw_curves
from fastmatch.plots.distributions import draw_boxes, draw_bundles, draw_histograms
from fastmatch.plots.lines import draw_barrier
from fastmatch.plots.matrix import draw_matrices
from fastmatch.plots.methods import draw_methods
from fastmatch.plots.plane import Landscape, draw_planes
from fastmatch.plots.triangle import draw_triangle

__all__ = [
    "SUFFIXES",
    "ClusterPanel",
    "Landscape",
    "Panel",
    "check_target",
    "draw_barrier",
    "draw_boundaries",
    "draw_boxes",
    "draw_bundles",
    "draw_clusters",
    "draw_curves",
    "draw_histograms",
    "draw_matrices",
    "draw_methods",
    "draw_planes",
    "draw_triangle",
    "new_figure",
    "save",
]
