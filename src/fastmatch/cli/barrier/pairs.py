"""A list of pairs, a barrier each."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import fastmatch
from fastmatch import files
from fastmatch.cli.barrier.line import evaluate_line
from fastmatch.cli.barrier.results import HEIGHTS, QUANTITIES, Key, PairResults
from fastmatch.cli.barrier.settings import Settings
from fastmatch.cli.barrier.sources import check_same, files_of, read_source
from fastmatch.cli.barrier.tables import csv_text, with_error
from fastmatch.cli.inputs import require_data
from fastmatch.cli.output import check_targets, console, progress, table
from fastmatch.devices import device_name
from fastmatch.errors import OptionError

_SPLITS = ("test", "train")


@dataclass(frozen=True)
class _Pair:
    """One line of the list: paths as written there, the files they mean, and their digests."""

    names: tuple[str, str]
    paths: tuple[Path, Path]
    key: Key


def measure_list(path: str, alphas: int, settings: Settings) -> None:
    """Evaluate the pairs of a list that the result file does not have yet; write and print all of them."""
    lines = _read_lines(path)
    inputs = {file: files_of(file) for _, paths in lines for file in paths}
    check_targets(*settings.targets, inputs=[path, *(file for group in inputs.values() for file in group)])
    digests = {file: files.sha256(file) for file in inputs}
    pairs = [_Pair(names, (a, b), Key(digests[a], digests[b])) for names, (a, b) in lines]
    results = PairResults(
        settings.json_path, _options(alphas, settings), device_name(settings.device), settings.precision
    )
    missing = list({pair.key: pair for pair in reversed(pairs) if pair.key not in results}.values())[::-1]
    known = sum(pair.key in results for pair in pairs)
    measure = _Measurement(alphas, settings)
    with progress("evaluating") as tick:
        for number, pair in enumerate(missing):
            results.add(pair.key, measure(pair, partial(_tick, tick, number, len(missing))))
    rows = [results[pair.key] for pair in pairs]
    if settings.csv_path:
        files.write_text(settings.csv_path, csv_text(_HEADER, _csv_rows(pairs, rows)))
    reused = f", {known} of them known before" if known else ""
    console.print(f"{path}: {len(pairs)} pairs{reused}, {alphas} alphas, on {device_name(settings.device)}")
    _report(pairs, rows)


def _tick(tick: Callable[[int, int], None], number: int, pairs: int, done: int, total: int) -> None:
    """Progress over all pairs, told that of one."""
    tick(number * total + done, pairs * total)


def _options(alphas: int, settings: Settings) -> dict[str, Any]:
    """What decides about the figures, besides the networks and the device."""
    archive = settings.data if settings.data and settings.data.endswith(".npz") else None
    return {
        "alphas": alphas,
        "bn": settings.bn,
        "model": settings.model,
        "data": settings.data,
        "data_sha256": files.sha256(archive) if archive and Path(archive).is_file() else None,
        "limit": settings.limit,
    }


def _read_lines(path: str) -> list[tuple[tuple[str, str], tuple[Path, Path]]]:
    """Names and files of every pair in a list.

    Raises
    ------
    OptionError
        The list is missing, empty, not text, has a line with other than two fields, or names a file that is not there.
    """
    if not Path(path).is_file():
        raise OptionError(f"no list of pairs at {path}; write one: two paths a line, a.pt,b.pt")
    pairs = []
    try:
        with open(path, newline="", encoding="utf-8-sig") as handle:
            reader = csv.reader(handle, strict=True)
            for fields in reader:
                if fields:
                    pairs.append(_line(fields, f"{path}, line {reader.line_num}", Path(path).parent))
    except (csv.Error, UnicodeDecodeError) as error:
        raise OptionError(f"{path} is not a list of pairs ({error}); write two paths a line, a.pt,b.pt") from error
    if not pairs:
        raise OptionError(f"{path} holds no pairs; write two paths a line, a.pt,b.pt")
    return pairs


def _line(fields: list[str], where: str, folder: Path) -> tuple[tuple[str, str], tuple[Path, Path]]:
    names = [field.strip() for field in fields]
    if len(names) != 2 or not all(names):
        raise OptionError(f"{where} has {len([name for name in names if name])} paths; write two, a.pt,b.pt")
    for name in names:
        if not (folder / name).is_file():
            raise OptionError(f"{where}: no checkpoint or alignment at {name}; paths are relative to the list's folder")
    first, second = names
    return (first, second), (folder / first, folder / second)


class _Measurement:
    """Measures one pair after another, and keeps what the next may need: the networks last read, and their data."""

    def __init__(self, alphas: int, settings: Settings) -> None:
        self._alphas, self._settings = alphas, settings
        self._read = lru_cache(maxsize=2)(read_source)
        self._load_data = lru_cache(maxsize=1)(fastmatch.load_data)

    def __call__(self, pair: _Pair, tick: Callable[[int, int], None]) -> dict[str, Any]:
        settings = self._settings
        first, second = (
            self._read(path, settings.model, name) for path, name in zip(pair.paths, pair.names, strict=True)
        )
        check_same([first, second])
        name = settings.data or first.data
        dataset = require_data(first.network, name, settings.data_dir, settings.limit, self._load_data)
        found = evaluate_line(first.network, second.network, dataset, self._alphas, settings, tick)
        result = found.to_json()
        curves, barriers = (result[name]["unaligned"] for name in ("curves", "barriers"))
        sides = {"a": first.to_json(), "b": second.to_json(), "data": dataset.name}
        how = {"precision": found.precision, "alphas": result["alphas"]}
        return {**sides, **how, "curves": curves, "barriers": barriers}


_HEADER = ["a", "b", "data", *(f"{s}_{q}_{height}" for s in _SPLITS for q in QUANTITIES for height in HEIGHTS)]


def _csv_rows(pairs: Sequence[_Pair], rows: Sequence[dict[str, Any]]) -> Iterator[list[Any]]:
    for pair, row in zip(pairs, rows, strict=True):
        figures = [row["barriers"][s][q][height] for s in _SPLITS for q in QUANTITIES for height in HEIGHTS]
        yield [*pair.names, row["data"], *figures]


def _report(pairs: Sequence[_Pair], rows: Sequence[dict[str, Any]]) -> None:
    """One row for each pair: its barriers under the definition ``linear``."""
    report = table("linear barrier", *(f"{s} {q}{' (%)' * (q == 'error')}" for s in _SPLITS for q in QUANTITIES))
    for pair, row in zip(pairs, rows, strict=True):
        heights = [(row["barriers"][s][q], 100.0 if q == "error" else 1.0) for s in _SPLITS for q in QUANTITIES]
        figures = [with_error(height["linear"], height["linear_se"], scale) for height, scale in heights]
        report.add_row(" - ".join(pair.names), *figures)
    console.print(report)
