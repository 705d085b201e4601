"""All cases: checked, timed, written as they come, and printed at the end."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

import torch

from benchmarks import report
from benchmarks.on_gpu import clock, end_to_end, gram, judge, moments, streams
from benchmarks.on_gpu.case import FULL, Case, Sizes
from benchmarks.on_gpu.clock import Ceilings
from benchmarks.provenance import provenance
from benchmarks.report import Row
from fastmatch.errors import OptionError
from fastmatch.kernels import Implementation, choose

FAMILIES = (gram.cases, moments.cases, streams.combinations, streams.all_scores, streams.products)
BACKEND = "inductor"  # Of torch.compile.


def obstacle() -> str | None:
    """Why the kernels cannot run here."""
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} finds none"
    try:
        choose([torch.empty(0, device="cuda")], "gpu")
    except OptionError as reason:
        return str(reason)
    return None


def all_cases(sizes: Sizes, forced: Implementation = "auto") -> Iterator[Case]:
    return itertools.chain.from_iterable(family(sizes, forced) for family in FAMILIES)


@torch.no_grad()
def run(only: str, output: Path, device: torch.device, sizes: Sizes = FULL, forced: Implementation = "auto") -> bool:
    """Measure the cases that a pattern chooses; False where an answer is wrong."""
    ceilings = clock.ceilings(device)
    head = {"suite": "gpu", **provenance(), "data": None, "ceilings": ceilings._asdict()}
    rows: list[Row] = []
    for row in _measure(only, device, sizes, forced, ceilings):
        rows.append(row)
        report.write(output / "gpu.json", head, rows)
    print(text(ceilings, rows))
    return all(row["agrees"] for row in rows)


def _measure(
    only: str, device: torch.device, sizes: Sizes, forced: Implementation, ceilings: Ceilings
) -> Iterator[Row]:
    compiling = dict(judge.COMPILING)
    for case in all_cases(sizes, forced):
        if fnmatch(case.title, only):
            began = time.perf_counter()
            yield _row(case, device, ceilings, compiling)
            print(f"{case.title}: {time.perf_counter() - began:.1f} s", file=sys.stderr)
    if fnmatch(end_to_end.title(*sizes.matched), only):
        yield end_to_end.measure(device, *sizes.matched, forced)


def _row(case: Case, device: torch.device, ceilings: Ceilings, compiling: dict[str, float]) -> Row:
    torch.compiler.reset()
    torch.cuda.empty_cache()
    checked = judge.check(case, device, _failures(), BACKEND, compiling[case.family])
    compiling[case.family] -= checked.compiling
    sets = [case.make(device, seed) for seed in range(clock.count_sets(case.moved, device))]
    return judge.row(case, checked, clock.paired(checked.calls, sets), ceilings)


def _failures() -> tuple[type[Exception], ...]:
    """What a kernel or a compiler may fail with: the other cases are measured nevertheless."""
    from triton.errors import TritonError

    return (RuntimeError, TritonError)


def text(ceilings: Ceilings, rows: Sequence[Row]) -> str:
    """A table for each family, then what is wrong, missed or left out."""
    timed = [row for row in rows if "verdicts" in row]
    parts = [_ceilings(ceilings)]
    for _, family in itertools.groupby(timed, key=lambda row: row["case"].split()[0]):
        parts.append(report.table(judge.lines(list(family))))
    for row in rows:
        if "seconds" in row:
            parts.append(report.table(end_to_end.lines(row)))
    parts.append(_summary(rows))
    return "\n\n".join(parts)


def _ceilings(ceilings: Ceilings) -> str:
    rates = ", ".join(f"{name} {rate / 1e12:.4g}" for name, rate in ceilings._asdict().items() if name != "copy")
    return f"copy {ceilings.copy / 1e12:.3g} TB/s (read and written); products in TFLOP/s: {rates}"


def _summary(rows: Sequence[Row]) -> str:
    verdicts = [(row["case"], verdict) for row in rows for verdict in row.get("verdicts", ())]
    judged = [(case, verdict) for case, verdict in verdicts if verdict["target"]]
    failed = [(row["case"], name, why) for row in rows for name, why in row.get("left_out", {}).items()]
    wrong = [f"wrong: {case} {verdict['form']}" for case, verdict in verdicts if not verdict["agrees"]]
    wrong += [f"wrong: {row['case']}" for row in rows if "seconds" in row and not row["agrees"]]
    return "\n".join(
        [
            *_thresholds(rows),
            *(f"failed: {case} {name}: {why}" for case, name, why in failed if why != judge.TOO_LONG),
            f"not compiled, since {judge.TOO_LONG}: {sum(why == judge.TOO_LONG for *_, why in failed)} alternatives",
            *(f"not judged: {case} {v['form']}: {v['target']}" for case, v in judged if v["met"] is None),
            *(f"missed: {case} {v['form']}: {v['target']} ({_reached(v)})" for case, v in judged if v["met"] is False),
            *wrong,
            f"targets met: {sum(v['met'] is True for _, v in judged)} of {len(judged)}; wrong answers: {len(wrong)}",
        ]
    )


def _reached(verdict: Row) -> str:
    figures = ("x best", "x eager", "of copy", "of product")
    return ", ".join(f"{figure} {verdict[figure]:.2f}" for figure in figures if verdict.get(figure) is not None)


def _thresholds(rows: Sequence[Row]) -> Iterator[str]:
    """How the kernels in float32 compare with the best of torch as units grow: what ``auto`` should go by."""
    found: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        for verdict in row.get("verdicts", ()):
            if verdict["form"] == "gpu highest" and verdict.get("x best") is not None:
                speeds = found.setdefault(row["case"].split()[0], {})
                speeds.setdefault(row["units"], []).append(verdict["x best"])
    for family, units in found.items():
        ranges = (f"{count}: {min(speed):.2f}-{max(speed):.2f}x" for count, speed in sorted(units.items()))
        yield f"{family}, gpu highest over the best of torch, by units: {', '.join(ranges)}"
