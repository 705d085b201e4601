"""The suites: what each measures, with what it begins, and where it is written."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from typing import NamedTuple

from benchmarks import assignment, batch, cases, evaluator, first_call, memory, pairs, peak, report, search, weights
from benchmarks.provenance import provenance
from benchmarks.report import Row


class Suite(NamedTuple):
    """Cases by name, and what yields rows for those chosen."""

    names: tuple[str, ...]
    measure: Callable[[list[str], argparse.Namespace], Iterator[Row]]


SUITES = {
    "assignment": Suite(
        tuple(cases.KINDS),
        lambda names, options: assignment.measure(names, options.sizes or cases.SIZES, options.threads),
    ),
    "weights": Suite(tuple(pairs.PAIRS), lambda names, options: weights.measure(names, options.threads)),
    "search": Suite(tuple(search.CASES), lambda names, options: search.measure(names, options.threads)),
    "evaluator": Suite(tuple(evaluator.CASES), lambda names, options: evaluator.measure(names, options.threads)),
    "batch": Suite(("batch",), lambda names, options: batch.measure(options.sizes or [512])),
    "first_call": Suite(("first_call",), lambda names, options: first_call.measure()),
    "peak": Suite(tuple(peak.CASES), lambda names, options: peak.measure(names)),
    "memory": Suite(("ResNet-20 x8",), lambda names, options: memory.measure(names)),
}


def run(options: argparse.Namespace) -> bool:
    """Run the suites that were asked for; False where answers disagree."""
    if unknown := [name for name in options.suites if name not in SUITES]:
        raise SystemExit(f"unknown suite {unknown[0]!r}; choose of {', '.join(SUITES)}")
    agree = [_run(name, options) for name in options.suites or SUITES]
    return all(agree)


def _run(name: str, options: argparse.Namespace) -> bool:
    """Measure one suite, print its table and write its file, which grows row by row."""
    suite = SUITES[name]
    head = {"suite": name, **provenance()}
    rows: list[Row] = []
    for row in suite.measure([case for case in suite.names if fnmatch(case, options.only)], options):
        rows.append(row)
        report.write(options.output / f"{name}.json", head, rows)
        print(f"{name}: {row['case']} {row.get('n', '')}", file=sys.stderr)
    print(report.table(rows))
    return all(row.get("agrees", True) for row in rows)
