"""Many networks: what each way of lining them up gives for all pairs, and for their average.

    python -m benchmarks.merging                     # trains networks of two widths
    python -m benchmarks.merging a.pt b.pt c.pt      # networks that `fastmatch train` wrote

Networks from different seeds are lined up by every method and reference. The table has the mean barrier of the test
loss over all pairs, the share of units that do not come back around three networks, and the test error of the average
of all networks beside the mean of theirs and their ensemble. Kept in results/merging.json.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

import fastmatch
from benchmarks import trained
from benchmarks.provenance import provenance
from fastmatch import files, networks
from fastmatch.analysis import ensemble

HIDDEN = ((512, 512, 512), (64, 64, 64))
NETWORKS, EXAMPLES, ALPHAS = 3, 5000, 5
METHODS = ("weight", "activation")
REFERENCES = ("first", "pairwise", "mean", "universe")
RESULTS = Path(__file__).resolve().parent / "results" / "merging.json"
State = trained.State
Row = dict[str, Any]


def measure(model: str, states: list[State]) -> list[Row]:
    """Rows of networks of one architecture: as trained, then every method and reference."""
    data = trained.data().take(EXAMPLES)
    module = networks.build(model).eval()
    spec = fastmatch.trace(module, (data.train.inputs[:2],))
    alone = fastmatch.evaluate(module, states, np.eye(len(states)), data.test)
    together = ensemble(module, states, data.test, [1 / len(states)] * len(states))
    ends = {"parts error": float(alone.error.mean()), "ensemble error": together.error}
    rows = [{"model": model, "method": "none", **_barriers(module, states, data, {}), **_average(module, states, data)}]
    for method in METHODS:
        for reference in REFERENCES:
            found = _match(spec, module, states, data, method, reference)
            rows.append({"model": model, "method": method, "reference": reference, **found})
    return [{**row, **ends} for row in rows]


def _match(
    spec: fastmatch.PermutationSpec,
    module: nn.Module,
    states: list[State],
    data: fastmatch.DataSet,
    method: Any,
    reference: Any,
) -> Row:
    given: dict[str, Any] = {"module": module, "data": data.train, "method": method}
    began = time.perf_counter()
    match: fastmatch.JointMatch | fastmatch.PairwiseMatch
    if reference == "pairwise":
        match = fastmatch.match_pairs(spec, states, **given)
    else:
        match = fastmatch.match_many(spec, states, reference=reference, **given)
    row: Row = {"seconds": time.perf_counter() - began, "inconsistency": match.inconsistency}
    pairs = {(i, j): match.between(i, j) for i, j in combinations(range(len(states)), 2)}
    row |= _barriers(module, states, data, pairs)
    if isinstance(match, fastmatch.JointMatch):
        placed = [one.apply(state) for one, state in zip(match.permutations, states, strict=True)]
        row |= {"objective": match.objective_after, **_average(module, placed, data)}
    else:
        row["objective"] = sum(found.objective_after for found in match.matches.values())
    return row


def _barriers(module: nn.Module, states: list[State], data: fastmatch.DataSet, pairs: Any) -> Row:
    """Mean over all pairs of the linear barrier of the test loss, and of the loss half-way over that of the ends."""
    found = fastmatch.barriers(module, states, data, permutations=pairs, alphas=ALPHAS)
    heights = found.matrix()[np.triu_indices(len(states), 1)]
    curves = [means["test"]["loss"] for means in found.means.values()]
    half = [float(curve[ALPHAS // 2] - (curve[0] + curve[-1]) / 2) for curve in curves]
    return {"barrier": float(heights.mean()), "half-way": float(np.mean(half))}


def _average(module: nn.Module, states: list[State], data: fastmatch.DataSet) -> Row:
    """Test error and loss of the average."""
    found = fastmatch.evaluate(
        module, states, np.full((1, len(states)), 1 / len(states)), data.test, statistics=data.train
    )
    return {"merged error": float(found.error[0]), "merged loss": float(found.loss[0])}


def main() -> None:
    """Measure, print the table and keep it."""
    given = [fastmatch.load(path) for path in sys.argv[1:]]
    if given:
        rows = measure(given[0].model, [network.state_dict for network in given])
    else:
        seeds = range(NETWORKS)
        models = [trained.mlp(*hidden) for hidden in HIDDEN]
        rows = [row for model in models for row in measure(model, [trained.network(model, seed) for seed in seeds])]
    columns = ("barrier", "half-way", "inconsistency", "parts error", "ensemble error", "merged error", "seconds")
    print(f"{'':58}" + "".join(f"{name:>16}" for name in columns))
    for row in rows:
        name = f"{row['model']}, {row['method']} {row.get('reference', '')}"
        print(f"{name:58}" + "".join(f"{row[name]:16.4f}" if name in row else f"{'-':>16}" for name in columns))
    cards = [network.card.to_json() for network in given if network.card]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(
        RESULTS, json.dumps({"rows": rows, "networks": cards, "provenance": provenance()}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
