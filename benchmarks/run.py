"""Run suites of benchmarks: ``python benchmarks/run.py weights --only "ResNet*"``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 1 where fastmatch and an alternative disagree."""
    options = _parser().parse_args(arguments)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(options.threads)  # read when numpy and torch are imported
    sys.path.insert(0, str(FOLDER.parent))
    from benchmarks.suites import run

    return int(not run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "suites",
        nargs="*",
        metavar="suite",
        help="assignment, weights, search, evaluator, batch, first_call, peak, memory; all by default",
    )
    parser.add_argument("--sizes", type=_sizes, help="of assignment problems, as in 256,512")
    parser.add_argument("--threads", type=int, default=1, help="cores to keep to; 1 by default")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="cases by name, as in 'weights*'")
    parser.add_argument("--output", type=Path, default=FOLDER / "results", help="folder of the JSON files")
    return parser


def _sizes(text: str) -> list[int]:
    return [int(size) for size in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
