"""What the studies share: sizes, reports, and where they stand."""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.provenance import provenance
from fastmatch import files

RESULTS = Path(__file__).resolve().parent / "results"


class Report:
    """Tables, pictures and findings of one study, written as markdown with the figures beside it as JSON.

    ``folder / name-<part>.png`` is where the picture of a part belongs.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self._parts: list[str] = []
        self._data: dict[str, Any] = {}

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Add a table; floats are shown with four digits, and kept whole in the JSON file."""
        lines = [_line(columns), _line(["---"] * len(columns)), *(_line(map(_text, row)) for row in rows)]
        self._parts.append(f"**{title}**\n\n" + "\n".join(lines))
        self._data[title] = [dict(zip(columns, row, strict=True)) for row in rows]
        print(f"{title}\n" + "\n".join(lines) + "\n", flush=True)

    def picture(self, part: str, caption: str) -> Path:
        """Path to draw a picture to; it is shown where the report stands now."""
        file = f"{self.name}-{part}.png"
        self._parts.append(f"![{caption}]({file})\n\n{caption}")
        return self.folder / file

    def say(self, text: str) -> None:
        """Add a finding, in words."""
        self._parts.append(text)
        print(text + "\n", flush=True)

    def keep(self, name: str, value: Any) -> None:
        """Put figures that no table shows into the JSON file."""
        self._data[name] = value

    def write(self, doc: str, size: str, options: Mapping[str, Any], seconds: float) -> None:
        """Write both files."""
        origin = provenance() | {"size": size, "options": dict(options), "seconds": round(seconds, 1)}
        shown = ", ".join(f"{name} {_text(value)}" for name, value in options.items())
        state = " with changes" if origin["dirty"] else ""
        foot = f"Size {size} ({shown}); commit {origin['commit']}{state}, {origin['cores']} cores, {seconds:.0f} s."
        files.write_text(
            self.folder / f"{self.name}.md", "\n\n".join([f"# {self.name}", doc.strip(), *self._parts, foot]) + "\n"
        )
        document = {"figures": _plain(self._data), "provenance": _plain(origin)}
        files.write_text(self.folder / f"{self.name}.json", json.dumps(document, indent=1) + "\n")


def run(main: Callable[..., None], *, file: str, doc: str, small: Mapping[str, Any], full: Mapping[str, Any]) -> None:
    """Command line of a study: ``main(report, **sizes)`` at its small or its full size."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=["small", "full"], default="small")
    parser.add_argument("--results", type=Path, help="folder for report and pictures")
    chosen = parser.parse_args()
    sizes = {"small": small, "full": full}[chosen.size]
    folder = chosen.results or (RESULTS if chosen.size == "small" else RESULTS / "full")
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    report = Report(Path(file).stem, folder)
    start = time.perf_counter()
    main(report, **sizes)
    report.write(doc, chosen.size, sizes, time.perf_counter() - start)


def data_name() -> str:
    """Return ``mnist`` where its file is at hand, else the digits that come with scikit-learn."""
    return "mnist" if (Path(os.environ.get("FASTMATCH_DATA", "")) / "mnist.npz").is_file() else "digits"


def mean_std(values: Sequence[float], digits: int = 4) -> str:
    """``mean +- standard deviation`` over networks, as the tables print it."""
    array = np.asarray(values, dtype=float)
    return f"{array.mean():.{digits}f} ± {array.std(ddof=1 if len(array) > 1 else 0):.{digits}f}"


def slug(text: str) -> str:
    """Text as a part of a file name."""
    return re.sub(r"\W+", "-", text).strip("-")


def _line(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple | Mapping):
        return ", ".join(map(_text, value))
    return str(value)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(name): _plain(child) for name, child in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(child) for child in value]
    if isinstance(value, np.ndarray | torch.Tensor | np.generic):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not np.isfinite(value) else value
