"""Peak memory of evaluations, each in a process of its own."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator

import numpy as np
import torch

from benchmarks.memory import MB, forget_peak, status
from benchmarks.provenance import ROOT
from benchmarks.report import Row
from fastmatch import evaluate, networks
from fastmatch.data import Split

CASES = {"ResNet-20 x1": "resnet20(width=1)", "ResNet-20 x4": "resnet20(width=4)"}
_EXAMPLES, _RUNS = 500, 5


def measure(names: Iterable[str]) -> Iterator[Row]:
    """Growth of the peak from one combination to 25, which should stay below one copy of the weights and a batch."""
    for name in names:
        for bn in ("keep", "reset"):
            runs = {rows: [_in_process(name, bn, rows) for _ in range(_RUNS)] for rows in (1, 25)}
            one, many = (statistics.median(run["added_mb"] for run in found) for found in runs.values())
            (weights, batch), *_ = [(run["weights_mb"], run["batch_mb"]) for run in runs[1]]
            sizes = {"one_mb": one, "25_mb": many, "weights_mb": weights, "batch_mb": batch}
            yield {"case": name, "bn": bn, **sizes, "agrees": many - one <= weights + batch, "runs": runs}


def _in_process(name: str, bn: str, rows: int) -> Row:
    command = [sys.executable, "-m", "benchmarks.peak", name, bn, str(rows)]
    found: Row = json.loads(subprocess.check_output(command, cwd=ROOT, text=True))
    return found


def _evaluate(name: str, bn: str, count: int) -> Row:
    model = CASES[name]
    module, states = networks.build(model).eval(), [networks.build(model).state_dict() for _ in range(2)]
    data = Split(torch.randn(_EXAMPLES, *networks.input_shape(model)), torch.randint(0, 10, (_EXAMPLES,)))
    grid = np.linspace(0, 1, 25)[:count]
    evaluate(
        module, states, np.array([[0.5, 0.5]]), data.take(20), strategy="lowered"
    )  # libraries are in memory before
    forget_peak()
    before = status("VmRSS")
    evaluate(module, states, np.stack([1 - grid, grid], 1), data, bn=bn, strategy="lowered")
    weights = sum(tensor.nbytes for tensor in states[0].values())
    largest = 64 * networks.input_shape(model)[1] * networks.input_shape(model)[2]  # floats in 16 channels of one image
    batch = 83 * largest * int(model.split("=")[1].rstrip(")"))
    return {"added_mb": status("VmHWM") - before, "weights_mb": weights / MB, "batch_mb": batch / MB}


if __name__ == "__main__":
    print(json.dumps(_evaluate(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
