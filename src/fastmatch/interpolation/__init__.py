"""Interpolation: networks between networks, evaluated."""

from fastmatch.interpolation.barrier import Barrier, BarrierHeight, Curve, alpha_grid, barrier, barrier_height
from fastmatch.interpolation.evaluate import evaluate
from fastmatch.interpolation.evaluation import Evaluation
from fastmatch.interpolation.evaluator import BatchNormMode, Evaluator
from fastmatch.interpolation.maximum import BarrierMaxima, barrier_maxima
from fastmatch.interpolation.pairs import Barriers, barriers
from fastmatch.interpolation.race import Maximum
from fastmatch.interpolation.triangle import Surface, Triangle, TriangleHeight, triangle, triangle_height

__all__ = [
    "Barrier",
    "BarrierHeight",
    "BarrierMaxima",
    "Barriers",
    "BatchNormMode",
    "Curve",
    "Evaluation",
    "Evaluator",
    "Maximum",
    "Surface",
    "Triangle",
    "TriangleHeight",
    "alpha_grid",
    "barrier",
    "barrier_height",
    "barrier_maxima",
    "barriers",
    "evaluate",
    "triangle",
    "triangle_height",
]
