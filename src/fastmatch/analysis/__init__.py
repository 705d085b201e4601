"""What alignments and barriers tell about networks: sequences, features, populations."""

from fastmatch.analysis.children import Children, children
from fastmatch.analysis.plane import Plane, Projection, plane
from fastmatch.analysis.rewind import layers, rewind, rewound_layers
from fastmatch.analysis.routes import RouteResult, compose_route, routes
from fastmatch.analysis.trajectory import Trajectory, fixed_fraction, simultaneous_barriers, trajectory

__all__ = [
    "Children",
    "Plane",
    "Projection",
    "RouteResult",
    "Trajectory",
    "children",
    "compose_route",
    "fixed_fraction",
    "layers",
    "plane",
    "rewind",
    "rewound_layers",
    "routes",
    "simultaneous_barriers",
    "trajectory",
]
