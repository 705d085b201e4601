"""Straight-through descent: barriers beside those of activation matching, and time beside a plain loop.

``python -m benchmarks.descent`` (barriers) and ``python -m benchmarks.descent times``: pairs of narrow networks that no
choice in fastmatch was made with; methods see training examples, barriers are of 1000 test images at 25 alphas,
statistics of BatchNorm reset.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
from torch import nn

import fastmatch
from benchmarks import narrow, plain_descent, report
from benchmarks.provenance import ROOT, provenance
from benchmarks.report import Row
from benchmarks.timing import cores, paired
from benchmarks.trained import State
from fastmatch.interpolation import Evaluator, alpha_grid, barrier_height
from fastmatch.matching import match_straight_through, match_straight_through_original
from fastmatch.matching.learning import BATCH_SIZE, JUDGED_EVERY, STEPS, Run
from fastmatch.matching.midpoint import HELD, hold_back
from fastmatch.matching.mixture import Mixture
from fastmatch.matching.straight_through import Beginning, descend, in_given_order, similarities
from fastmatch.networks import build

Arrays = dict[str, np.ndarray]
RESULTS = ROOT / "benchmarks" / "results"
PAIRS = ((10, 11), (12, 13), (14, 15))
SEEDS = (0, 1, 2)
EXAMPLES = 2000  # For activation matching, as many as the descent starts from.
PLAIN = {"steps": 151, "batch": 100, "every": 10, "held": 1000}  # As first published; a quarter of the examples and
OWN = {"steps": STEPS, "batch": BATCH_SIZE, "every": JUDGED_EVERY, "held": HELD}  # fewer looks do about as well.


def jobs() -> Iterator[tuple[str, tuple[int, int]]]:
    """Kinds and seeds of the pairs: the first pair of every kind, then the others; CIFAR-10 last."""
    small = [kind for kind in narrow.KINDS if "CIFAR" not in kind]
    yield from ((kind, pair) for pair in PAIRS for kind in small)
    yield from ((kind, PAIRS[0]) for kind in narrow.KINDS if kind not in small)


def measure(kind: str, seeds: tuple[int, int]) -> Row:
    """Barriers of one pair after every method, and the CPU seconds of each with all that it prepares."""
    a, b = (narrow.network(kind, seed) for seed in seeds)
    model, name = narrow.KINDS[kind]
    data, module = narrow.data(name), build(model).eval()
    spec = fastmatch.trace(module, (data.train.inputs[:4],))
    barrier = _barriers(module, a, data)
    given = (spec, module, a, b, data.train)
    fit = hold_back(data.train).fit.take(EXAMPLES)
    found: dict[str, Callable[[], fastmatch.Match]] = {
        f"activation ({of})": lambda of=of: fastmatch.match_activations(*given[:-1], fit, similarity=of)
        for of in ("pearson", "summed")
    }
    found |= {f"straight_through {seed}": lambda seed=seed: match_straight_through(*given, seed=seed) for seed in SEEDS}
    found["straight_through_original"] = lambda: match_straight_through_original(*given)
    row: Row = {"kind": kind, "pair": list(seeds), "unaligned": barrier(b)}
    for method, match in found.items():
        began = time.process_time()
        permutation = match().permutation
        row[method] = {"seconds": time.process_time() - began, **barrier(permutation.apply(b))}
    return row


def _barriers(module: nn.Module, a: State, data: fastmatch.DataSet) -> Callable[[State], Row]:
    test, alphas = data.test.take(1000), alpha_grid(25)
    evaluator = Evaluator(module, {"test": test}, data.train.take(1000), rows=25 * 7)

    def barrier(b: State) -> Row:
        curve = evaluator.evaluate([a, b], np.stack([1 - alphas, alphas], 1))["test"]
        values = {"loss": curve.losses, "error": curve.errors.astype(np.float64)}
        return {name: barrier_height(alphas, figures).linear for name, figures in values.items()}

    return barrier


def times(kind: str, seeds: tuple[int, int]) -> Row:
    """CPU seconds of one descent from given similarities, of the plain loop at either schedule, and whether both agree:
    medians of at least three, taken in turns.

    They agree if the gradients of one batch do, to float32 rounding. Activation matching, which exports the network, is
    in none of the figures.
    """
    a, b = (narrow.network(kind, seed) for seed in seeds)
    model, name = narrow.KINDS[kind]
    data, module = narrow.data(name), build(model).eval()
    run = Run(fastmatch.trace(module, (data.train.inputs[:4],)), module, a, b, data.train, 0, None, STEPS)
    begin = similarities(run)
    start, matrices = begin.indices, dict(begin.matrices)
    found: dict[str, Callable[[], object]] = {
        "plain": lambda: plain_descent.descend(run, start, matrices, **PLAIN),
        "plain, schedule of fastmatch": lambda: plain_descent.descend(run, start, matrices, **OWN),
        "fastmatch": lambda: run.best("straight_through", descend(run, begin), None),
    }
    seconds = {label: statistics.median(timing.cpu) for label, timing in paired(found).items()}
    ratios = {f"of {label}": seconds["fastmatch"] / seconds[label] for label in found if label != "fastmatch"}
    line = {"kind": kind, "pair": list(seeds), "gradients_differ": _difference(run, begin)}
    return line | {f"{label}, s": value for label, value in seconds.items()} | ratios


def _difference(run: Run, begin: Beginning) -> float:
    """Largest difference of the gradients of one batch, relative to the largest entry of the group's."""
    alpha, inputs, labels = next(run.batches())
    mixture = Mixture(run.spec, begin.graph, run.a, [run.spec.group(name) for name in begin.matrices])
    own = mixture.gradients(run.spec.permute(run.b, begin.indices), alpha, inputs, labels)
    run.module.train()
    batch = fastmatch.Split(inputs, labels)
    plain = plain_descent.gradients(run.spec, run.module, run.a, run.b, begin.indices, alpha, batch)
    run.module.eval()
    pairs = ((in_given_order(own[name], begin.indices[name]), matrix) for name, matrix in plain.items())
    return max(float(np.abs(first - second).max() / np.abs(second).max()) for first, second in pairs)


def summary(row: Row) -> Row:
    """One line of the table: loss barriers, and error barriers after a slash."""
    runs = [row[f"straight_through {seed}"] for seed in SEEDS]
    losses, errors = ([run[name] for run in runs] for name in ("loss", "error"))
    line = {"kind": row["kind"], "pair": "-".join(map(str, row["pair"]))}
    for name in ("unaligned", "activation (pearson)", "activation (summed)"):
        line[name] = _figures(row[name]["loss"], row[name]["error"])
    line["descent"] = _figures(statistics.median(losses), statistics.median(errors))
    line["of losses"] = f"{min(losses):.3f} to {max(losses):.3f}"
    line["original"] = _figures(row["straight_through_original"]["loss"], row["straight_through_original"]["error"])
    line["of activation"] = f"{statistics.median(losses) / row['activation (summed)']['loss']:.2f}"
    return line


def _figures(loss: float, error: float) -> str:
    return f"{loss:.3f} / {error:.3f}"


def main(what: str) -> None:
    """Measure, write after every pair, and print the table."""
    rows: list[Row] = []
    where = provenance()
    with cores(1):
        for kind, pair in jobs():
            if what == "times" and pair != PAIRS[0]:
                continue
            rows.append(times(kind, pair) if what == "times" else measure(kind, pair))
            report.write(RESULTS / ("descent_times.json" if what == "times" else "descent.json"), where, rows)
            print(report.table(rows if what == "times" else [summary(row) for row in rows]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:2] or ["barriers"])
