"""What the forms of ``fastmatch barrier`` print and write alike."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

from fastmatch import Evaluation
from fastmatch.cli.barrier.settings import Settings
from fastmatch.devices import device_name

QUANTITIES = (("loss", "nats", 1.0), ("error", "%", 100.0))
FIGURES = ("loss", "loss_se", "error", "error_se")


def with_error(height: float | None, error: float | None, scale: float) -> str:
    """A figure with its standard error; None, as in result files, is a figure that does not exist."""
    figure, spread = (scale * (math.nan if value is None else value) for value in (height, error))
    return f"{figure:.4f} ± {spread:.4f}"


def corner_lines(evaluations: dict[str, Evaluation], rows: dict[str, int], word: str) -> Iterable[str]:
    """A line for each split with loss and error of the networks themselves, found in the rows given."""
    for split, evaluation in evaluations.items():
        loss, error = evaluation.loss, 100 * evaluation.error
        networks = (f"{name} loss {loss[at]:.4f}, error {error[at]:.2f} %" for name, at in rows.items())
        yield f"{split:5} {word}: " + "; ".join(networks)


def example_counts(evaluations: dict[str, Evaluation]) -> str:
    """How many examples of each split were evaluated."""
    return " and ".join(f"{evaluation.examples} {split} examples" for split, evaluation in evaluations.items())


def how(evaluations: dict[str, Evaluation], settings: Settings) -> str:
    """Where figures were computed, in which precision, and why not in the one that was asked for."""
    evaluation = next(iter(evaluations.values()))
    place = f"on {device_name(settings.device)}, precision {evaluation.precision}"
    if evaluation.precision == settings.precision:
        return place
    return f"{place} ({evaluation.strategy.reason})"


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows as comma-separated text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
