"""Check every GPU kernel against float64 and time it beside torch: ``python benchmarks/gpu.py --only "gram*"``.

Exit status: 0 where all answers are right, 1 where one is wrong, 2 where the kernels cannot run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    sys.path[:0] = [str(FOLDER.parent), str(FOLDER.parent / "src")]
    import torch

    from benchmarks.on_gpu.suite import obstacle, run

    if reason := obstacle():
        print(f"benchmarks/gpu.py needs an NVIDIA GPU: {reason}", file=sys.stderr)
        return 2
    return int(not run(options.only, options.output, torch.device("cuda")))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="*", metavar="PATTERN", help="cases by name, as in 'gram*VGG*'")
    parser.add_argument("--output", type=Path, default=FOLDER / "results", metavar="FOLDER", help="of gpu.json")
    return parser


if __name__ == "__main__":
    sys.exit(main())
