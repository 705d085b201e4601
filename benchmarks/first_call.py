"""What the compiled solver costs at its first call: in a process with an empty cache, and in the next one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from benchmarks.report import Row

_CHILD = """
import json, time
import numpy
matrix = numpy.random.default_rng(0).random((512, 512), dtype=numpy.float32)
times = [time.perf_counter()]
from fastmatch.assignment import solve
times.append(time.perf_counter())
for _ in range(2):
    solve(matrix)
    times.append(time.perf_counter())
print(json.dumps(dict(zip(("import_s", "first_call_s", "second_call_s"), numpy.diff(times)))))
"""


def measure() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        for case in ("empty cache", "second process"):
            command = [sys.executable, "-c", _CHILD]
            environment = os.environ | {"NUMBA_CACHE_DIR": folder}
            yield {"case": case, **json.loads(subprocess.check_output(command, env=environment, text=True))}
