"""Answers checked against float64, and what measured times amount to."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.on_gpu.case import Case, Target
from benchmarks.on_gpu.clock import Ceilings, Times
from benchmarks.report import Row
from fastmatch.kernels import Precision

COMPILED = " compiled"
TOO_LONG = "compiling took too long"
# Seconds in which torch may compile the alternatives of all cases of a family; the rest is compared with eager torch.
COMPILING = {
    "gram": 90.0,
    "gram_update": 25.0,
    "moments": 75.0,
    "combine": 30.0,
    "scores": 15.0,
    "feature_products": 10.0,
}
Call = Callable[[Any], Any]


@dataclass
class Checked:
    """Calls that ran, the error of each, why others did not run, and how long compiling took."""

    calls: dict[str, Call] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    compiling: float = 0.0


def check(
    case: Case,
    device: torch.device,
    failures: tuple[type[Exception], ...] = (),
    backend: str | None = None,
    seconds: float = math.inf,
) -> Checked:
    """Run every form of the kernel and every alternative once.

    Alternatives are compiled too, as long as ``seconds`` last, if there is a ``backend`` of ``torch.compile``.
    """
    inputs = case.make(device, 0)
    exact = case.exact(inputs)
    checked = Checked()
    for name, call in _calls(case, backend):
        if name.endswith(COMPILED) and checked.compiling >= seconds:
            checked.left_out[name] = TOO_LONG
            continue
        began = time.perf_counter()
        try:
            checked.errors[name] = case.error(call, inputs, exact)
            checked.calls[name] = call
        except failures as reason:
            checked.left_out[name] = f"{type(reason).__name__}: {reason}"[:500]
        if name.endswith(COMPILED):
            checked.compiling += time.perf_counter() - began
    return checked


def _calls(case: Case, backend: str | None) -> Iterator[tuple[str, Call]]:
    for name, kernel in case.kernels.items():
        yield name, _with_tf32(kernel.run, False)
    for name, alternative in case.alternatives.items():
        yield name, _with_tf32(alternative.run, alternative.tf32)
    if backend is not None:
        for name, alternative in case.alternatives.items():
            if not alternative.worth_compiling:
                continue
            compiled = torch.compile(alternative.run, dynamic=False, backend=backend)
            yield name + COMPILED, _with_tf32(compiled, alternative.tf32)


def _with_tf32(call: Call, allowed: bool) -> Call:
    def run(inputs: Any) -> Any:
        torch.backends.cuda.matmul.allow_tf32 = allowed
        return call(inputs)

    return run


def row(case: Case, checked: Checked, times: Mapping[str, Times], ceilings: Ceilings) -> Row:
    """All that was measured of a case, with one verdict for each form of the kernel."""
    verdicts = [_verdict(case, name, checked, times, ceilings) for name in case.kernels]
    rounded = {
        name: {clock: [float(f"{seconds:.4g}") for seconds in rounds] for clock, rounds in clocks.items()}
        for name, clocks in times.items()
    }
    return {
        "case": case.title,
        **case.fields,
        "bytes": case.moved,
        "operations": case.operations,
        "agrees": all(verdict["agrees"] for verdict in verdicts),
        "errors": checked.errors,
        "left_out": checked.left_out,
        "verdicts": verdicts,
        "times": rounded,
    }


def _verdict(case: Case, name: str, checked: Checked, times: Mapping[str, Times], ceilings: Ceilings) -> dict[str, Any]:
    kernel = case.kernels[name]
    error = checked.errors.get(name, float("inf"))
    agrees = error <= kernel.tolerance
    verdict: dict[str, Any] = {"form": name, "error": error, "agrees": agrees}
    if name in times:
        verdict |= _figures(case, name, checked.errors, times, ceilings)
    return verdict | _judged(kernel.targets, verdict)


def _figures(
    case: Case, name: str, errors: Mapping[str, float], times: Mapping[str, Times], ceilings: Ceilings
) -> dict[str, Any]:
    """Speed-ups as called, and fractions of what the device does at best while it works."""
    kernel = case.kernels[name]
    counting = [other for other in times if other not in case.kernels and errors[other] <= kernel.counts]
    eager = [other for other in counting if not other.endswith(COMPILED)]
    seconds = statistics.median(times[name]["queued"])
    copying, multiplying = case.moved / ceilings.copy, case.operations / _rate(ceilings, kernel.precision)
    return {
        "x best": _speedup(times, name, counting),
        "x eager": _speedup(times, name, eager),
        "of copy": copying / seconds,
        "of product": multiplying / seconds,
        "bound": "copy" if copying >= multiplying else "product",
        "best": min(counting, key=lambda other: _called(times, other), default=None),
    }


def _rate(ceilings: Ceilings, precision: Precision) -> float:
    """Operations in a second of the products that a precision is made of."""
    return {"highest": ceilings.fp32, "high": ceilings.tf32 / 3, "fast": ceilings.tf32}[precision]


def _called(times: Mapping[str, Times], name: str) -> float:
    return statistics.median(times[name]["called"])


def _speedup(times: Mapping[str, Times], name: str, others: list[str]) -> float | None:
    """Median over the rounds of how many times faster a call is than the fastest of others."""
    if not others:
        return None
    best = min(others, key=lambda other: _called(times, other))
    return statistics.median(
        slow / fast for fast, slow in zip(times[name]["called"], times[best]["called"], strict=True)
    )


def _judged(targets: tuple[Target, ...], verdict: Mapping[str, Any]) -> dict[str, Any]:
    """Targets in words, and whether all are met; None where something was not measured."""
    texts, met = [], []
    for figure, least, least_of_products in targets:
        if figure == "bound" and "bound" in verdict:
            figure = f"of {verdict['bound']}"
            least = least if verdict["bound"] == "copy" else least_of_products
        texts.append(f"{figure} >= {least:g}")
        reached = verdict.get(figure)
        met.append(None if reached is None else reached >= least)
    if not targets:
        return {"target": "", "met": ""}
    return {"target": ", ".join(texts), "met": None if None in met else all(met)}


def lines(rows: list[Row]) -> list[Row]:
    """One line of the table for each form of a kernel."""
    found = []
    for measured in rows:
        forms = {verdict["form"] for verdict in measured["verdicts"]}
        others = {name: times for name, times in measured["times"].items() if name not in forms}
        found += [_line(measured, verdict, others) for verdict in measured["verdicts"]]
    return found


def _line(measured: Row, verdict: Mapping[str, Any], others: dict[str, Times]) -> Row:
    name = verdict["form"]
    own = {"kernel": measured["times"][name]} if name in measured["times"] else {}
    queued = {"GPU ms": 1e3 * statistics.median(own["kernel"]["queued"])} if own else {}
    fractions = {figure: f"{verdict[figure]:.0%}" for figure in ("of copy", "of product") if figure in verdict}
    return {
        "case": measured["case"],
        "form": name,
        "error": verdict["error"] if verdict["agrees"] else f"{verdict['error']:.2g} WRONG",
        "MB": measured["bytes"] / 1e6,
        "GFLOP": measured["operations"] / 1e9,
        **fractions,
        "target": verdict["target"],
        "met": {True: "yes", False: "NO", None: "?"}.get(verdict["met"], ""),
        **queued,
        "clock": "called",
        "times": own | others,
        "speedup": {figure: verdict[figure] for figure in ("x best", "x eager") if verdict.get(figure) is not None},
    }
