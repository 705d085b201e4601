"""Matrices with more rows than columns, or fewer: padded by zeros to a square, where leftovers meet the padding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastmatch.assignment.solution import Assignment, Solved, Start


def pad(matrix: np.ndarray) -> np.ndarray:
    """Square matrix of the longer side."""
    size = max(matrix.shape)
    square = np.zeros((size, size), dtype=matrix.dtype)
    square[: matrix.shape[0], : matrix.shape[1]] = matrix
    return square


def pad_start(warm: Start, size: int) -> Solved:
    """The warm start of the square: leftovers are paired with the padding."""
    columns = np.full(size, -1, dtype=np.int64)
    columns[: len(warm.columns)] = warm.columns
    left = np.setdiff1d(np.arange(size), columns)
    places = np.flatnonzero(columns < 0)[: len(left)]
    columns[places] = left[: len(places)]
    duals = np.zeros(size)
    duals[: len(warm.column_duals)] = warm.column_duals
    return Solved(columns, duals, duals)


def cut(square: Assignment, shape: tuple[int, int], sign: float) -> Assignment:
    """The part without the padding, with the duals shifted so that the padding has none."""
    rows, columns = shape
    prices = square.column_duals if rows < columns else square.column_duals[columns:]
    level = sign * float((sign * prices).max())
    chosen = square.columns[:rows]
    return replace(
        square,
        columns=np.where(chosen < columns, chosen, -1),
        row_duals=square.row_duals[:rows] + level,
        column_duals=square.column_duals[:columns] - level,
    )
