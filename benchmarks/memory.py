"""Peak memory of weight matching, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarks.pairs import PAIRS
from benchmarks.provenance import ROOT
from benchmarks.report import Row
from fastmatch import PermutationSpec, checkpoints, match_weights
from fastmatch.assignment import solve

MB = 1e6


def measure(names: Iterable[str]) -> Iterator[Row]:
    for name in names:
        spec, a, b = PAIRS[name].make()
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "spec.json").write_text(json.dumps(spec.to_json()))
            checkpoints.write(Path(folder) / "a.safetensors", a)
            checkpoints.write(Path(folder) / "b.safetensors", b)
            command = [sys.executable, "-m", "benchmarks.memory", folder]
            row = json.loads(subprocess.check_output(command, cwd=ROOT, text=True))
        size = sum(tensor.nbytes for state in (a, b) for tensor in state.values()) / MB
        yield {"case": name, "note": PAIRS[name].note, "checkpoints_mb": size, **row}


def _match(folder: Path) -> Row:
    spec = PermutationSpec.from_json(json.loads((folder / "spec.json").read_text()))
    a, b = (checkpoints.read(folder / f"{name}.safetensors").state_dict for name in "ab")
    solve(np.eye(8, dtype=np.float32))  # numba and the compiled solver are in memory before
    torch.randn(512, 512) @ torch.randn(512, 512)  # and the buffers of matrix products
    forget_peak()
    before = status("VmRSS")
    match_weights(spec, a, b, seed=0)
    return {"resident_before_mb": before, "peak_mb": status("VmHWM"), "added_mb": status("VmHWM") - before}


def forget_peak() -> None:
    """Let VmHWM begin anew."""
    Path("/proc/self/clear_refs").write_text("5")


def status(field: str) -> float:
    """Figure of this process in MB; getrusage would count what the parent process once held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / MB for line in lines if line.startswith(field))


if __name__ == "__main__":
    print(json.dumps(_match(Path(sys.argv[1]))))
