"""Weight matching: fastmatch beside the plain algorithm, setup included, tracing not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from benchmarks.pairs import PAIRS
from benchmarks.report import Row
from benchmarks.timing import compare, cores
from benchmarks.trained import State
from fastmatch import PermutationSpec, match_weights
from fastmatch.matching.reference import match_weights_plainly


def measure(names: Iterable[str], threads: int) -> Iterator[Row]:
    """One row for each pair of networks: whether the permutations agree, then times."""
    for name in names:
        spec, a, b = PAIRS[name].make()
        with cores(threads):
            checks = _check(spec, a, b)
            calls = {
                "plain": lambda: match_weights_plainly(spec, a, b, seed=0),  # noqa: B023
                "fastmatch": lambda: match_weights(spec, a, b, seed=0),  # noqa: B023
            }
            yield {
                "case": name,
                "note": PAIRS[name].note,
                **checks,
                **compare(calls, [("fastmatch", "plain")], threads),
            }


def _check(spec: PermutationSpec, a: State, b: State) -> Row:
    match = match_weights(spec, a, b, seed=0)
    indices, sweeps = match_weights_plainly(spec, a, b, seed=0)
    differ = [name for name, index in indices.items() if not np.array_equal(index, match.permutation.indices[name])]
    return {
        "agrees": not differ,
        "groups_that_differ": len(differ),
        "sweeps": match.sweeps,
        "plain_sweeps": sweeps,
        "objective": match.objective_after,
        "plain_objective": _objective(spec, a, spec.permute(b, indices)),
    }


def _objective(spec: PermutationSpec, a: State, b: State) -> float:
    names = [name for name, layout in spec.tensors.items() if not layout.buffer]
    return sum(float((a[name].double() * b[name].double()).sum()) for name in names)
