"""Interpolation: networks between networks, evaluated."""

from fastmatch.interpolation.barrier import Barrier, BarrierHeight, Curve, barrier, barrier_height
from fastmatch.interpolation.evaluate import Evaluation, evaluate

__all__ = ["Barrier", "BarrierHeight", "Curve", "Evaluation", "barrier", "barrier_height", "evaluate"]
