"""Run every study at its small size, as many side by side as there are cores; one line for each."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def names() -> list[str]:
    """All studies: scripts that can be run."""
    scripts = (path for path in FOLDER.glob("*.py") if re.search(r"^    study\.run\(", path.read_text(), re.MULTILINE))
    return sorted(path.stem for path in scripts)


def run(name: str) -> bool:
    """Run one study on one core; say how long it took, and show what it said where it failed."""
    start = time.perf_counter()
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    command = [sys.executable, "-m", f"studies.{name}"]
    done = subprocess.run(command, cwd=FOLDER.parent, env=alone, capture_output=True, text=True)
    print(f"{name}: {'done' if done.returncode == 0 else 'FAILED'} in {time.perf_counter() - start:.0f} s", flush=True)
    if done.returncode:
        print(done.stdout + done.stderr, flush=True)
    return done.returncode == 0


def main() -> None:
    """Run all; exit with 1 where one failed."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        results = list(pool.map(run, sys.argv[1:] or names()))
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
