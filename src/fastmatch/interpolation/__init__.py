"""Interpolation: networks between networks, evaluated."""

from fastmatch.interpolation.barrier import Barrier, BarrierHeight, Curve, barrier, barrier_height
from fastmatch.interpolation.evaluate import evaluate
from fastmatch.interpolation.evaluation import Evaluation
from fastmatch.interpolation.triangle import Surface, Triangle, TriangleHeight, triangle, triangle_height

__all__ = [
    "Barrier",
    "BarrierHeight",
    "Curve",
    "Evaluation",
    "Surface",
    "Triangle",
    "TriangleHeight",
    "barrier",
    "barrier_height",
    "evaluate",
    "triangle",
    "triangle_height",
]
