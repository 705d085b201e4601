"""What was measured, as a table and as a file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastmatch.files import write_text

Row = dict[str, Any]
_HIDDEN = ("note", "threads", "clock", "times", "speedup", "runs")


def write(path: Path, provenance: Row, rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(provenance | {"rows": [_with_medians(row) for row in rows]}, indent=1) + "\n")


def table(rows: Sequence[Row]) -> str:
    """Rows in aligned columns: their plain fields, median times in milliseconds, and speed-ups."""
    lines = [_flat(row) for row in rows]
    header = list(dict.fromkeys(name for line in lines for name in line))
    cells = [header, *([line.get(name, "") for name in header] for line in lines)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)


def _with_medians(row: Row) -> Row:
    if "times" not in row:
        return row
    medians = {
        name: {f"{clock}_median": statistics.median(seconds) for clock, seconds in timing.items()} | timing
        for name, timing in row["times"].items()
    }
    return row | {"times": medians}


def _flat(row: Row) -> dict[str, str]:
    line = {name: _text(value) for name, value in row.items() if name not in _HIDDEN}
    for name, timing in row.get("times", {}).items():
        line[f"{name} ms"] = f"{1e3 * statistics.median(timing[row['clock']]):.4g}"
    return line | {name: f"{value:.1f}x" for name, value in row.get("speedup", {}).items()}


def _text(value: object) -> str:
    if value is None:
        return "not reached"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
