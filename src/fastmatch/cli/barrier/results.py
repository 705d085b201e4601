"""The result file of a list of pairs, which a later run extends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from fastmatch.cli.barrier.sources import has_form
from fastmatch.cli.output import finite, write_json
from fastmatch.cli.resume import require_same
from fastmatch.errors import OutputError

QUANTITIES, DEFINITIONS = ("loss", "error"), ("linear", "mean", "max")
HEIGHTS = tuple(f"{definition}{suffix}" for definition in DEFINITIONS for suffix in ("", "_se"))
_SIDE = {"path": str, "sha256": str}
_SPLIT = {quantity: dict.fromkeys(HEIGHTS, int | float | None) for quantity in QUANTITIES}
_ROW = {"a": _SIDE, "b": _SIDE, "data": str, "precision": str, "barriers": {"train": _SPLIT, "test": _SPLIT}}


class Key(NamedTuple):
    """Digests of the two files that a pair names."""

    a: str
    b: str


class PairResults:
    """Rows of pairs, written whole after every one that is added; in memory alone where ``path`` is None.

    There is nothing in the file that tells when, or in how many runs, it was written.

    Parameters
    ----------
    path
        File to extend, or to write where there is none.
    options
        Plain data that the figures depend on.
    device, precision
        Where, and in which precision, figures are asked for.

    Raises
    ------
    OutputError
        There is a file that is no such result, or one of other options.
    """

    def __init__(self, path: str | None, options: dict[str, Any], device: str, precision: str) -> None:
        self._path, self._options, self._device, self._precision = path, options, device, precision
        found = [] if path is None or not Path(path).exists() else self._read(path)
        self._rows = {Key(row["a"]["sha256"], row["b"]["sha256"]): row for row in found}

    def __contains__(self, key: Key) -> bool:
        return key in self._rows

    def __getitem__(self, key: Key) -> dict[str, Any]:
        return self._rows[key]

    def add(self, key: Key, row: dict[str, Any]) -> None:
        """Keep a row, and write the file anew."""
        self._rows[key] = finite(row)  # as it will be read back
        document = {"options": self._options, "pairs": list(self._rows.values())}
        write_json(self._path, document, device=self._device, precision=self._precision)

    def _read(self, path: str) -> list[dict[str, Any]]:
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise _foreign(path) from error
        if not has_form(document, {"options": dict, "pairs": list, "provenance": dict}):
            raise _foreign(path)
        if not all(has_form(row, _ROW) for row in document["pairs"]):
            raise _foreign(path)
        require_same(path, document, self._options, self._device, self._precision)
        rows: list[dict[str, Any]] = document["pairs"]
        return rows


def _foreign(path: str) -> OutputError:
    return OutputError(f"{path} is not a result of `fastmatch barrier --pairs`; it stays as it is: name a new file")
