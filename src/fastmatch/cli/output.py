"""What the commands share: tables, progress bars, and result files."""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fastmatch import files
from fastmatch.errors import OutputError

# In a pipe nothing is folded: rows stay whole for grep and awk.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)


@contextmanager
def progresses() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a callback (what runs, done, total) that moves a bar on a terminal and does nothing in a pipe."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    screen = Console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bars:
        task = bars.add_task("", total=None)
        yield lambda name, done, total: bars.update(task, description=name, completed=done, total=total)


@contextmanager
def progress(description: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a callback (done, total) that moves a bar on a terminal and does nothing in a pipe."""
    with progresses() as tick:
        tick(description, 0, 1)
        yield lambda done, total: tick(description, done, total)


def table(*columns: str, title: str | None = None) -> Table:
    """Return an empty table: the first column is text, the others are numbers."""
    result = Table(
        title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    for place, name in enumerate(columns):
        result.add_column(name, justify="left" if place == 0 else "right", no_wrap=place > 0)
    return result


def write_json(
    path: str | None,
    result: dict[str, Any],
    *,
    seed: int | None = None,
    device: str = "cpu",
    precision: str = "highest",
) -> None:
    """Write ``result`` with versions, device, precision, seed and the command; nothing where no path was given."""
    if path is None:
        return
    document = {**result, "provenance": provenance(seed, device, precision)}
    files.write_text(path, json.dumps(finite(document), indent=1) + "\n")


def provenance(seed: int | None, device: str, precision: str) -> dict[str, Any]:
    """Versions, device, precision, seed and the command: what every result says of itself."""
    return {
        "fastmatch": version("fastmatch"),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "device": device,
        "precision": precision,
        "seed": seed,
        "command": shlex.join(["fastmatch", *sys.argv[1:]]),
    }


def finite(value: Any) -> Any:
    """Plain data as JSON has them: NaN and infinities become None, tuples lists."""
    if isinstance(value, dict):
        return {name: finite(child) for name, child in value.items()}
    if isinstance(value, list | tuple):
        return [finite(child) for child in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_targets(*paths: str | None, inputs: Iterable[str | os.PathLike[str]]) -> None:
    """Raise before any work where a result could not be written, or would replace an input or another result."""
    taken = {Path(path).resolve() for path in inputs}
    for path in paths:
        if path is None:
            continue
        files.check_target(path)
        place = Path(path).resolve()
        if place in taken:
            raise OutputError(f"cannot write {path}: it is an input or another result of this command; name a new file")
        taken.add(place)
