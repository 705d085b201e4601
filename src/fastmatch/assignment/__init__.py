"""Exact linear assignment: which unit of b goes to which place, so that the summed similarity is largest."""

from fastmatch.assignment.batch import available_cores, solve_batch
from fastmatch.assignment.solution import Assignment
from fastmatch.assignment.solve import solve

__all__ = ["Assignment", "available_cores", "solve", "solve_batch"]
