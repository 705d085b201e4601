"""Exact linear assignment: which unit of b goes to which place, so that the summed similarity is largest."""

from fastmatch.assignment.solve import Assignment, solve

__all__ = ["Assignment", "solve"]
