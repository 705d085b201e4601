"""The effect of theorem 3.1: at random initialisation, one hidden layer, a permutation makes the function between two
networks the combination of their functions as the width grows.

Entezari et al. 2022, section 3.3 and appendix D: inputs on the sphere of radius sqrt(d), all weights uniform as in the
theorem, no biases. The theorem bounds the deviation by h ** (-1 / (2 d + 4)) up to logarithms; a bound has no
constant to compare with, so the slopes over h are compared.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import fastmatch
from fastmatch import plots
from fastmatch.analysis import output_deviation
from studies import study

SMALL = {"widths": (16, 64, 256, 1024, 4096), "dimensions": (1, 2, 8), "draws": 3, "inputs": 200}
FULL = {"widths": tuple(2**k for k in range(4, 15)), "dimensions": (1, 2, 4, 8, 16, 64), "draws": 20, "inputs": 1000}


def main(report: study.Report, widths: tuple[int, ...], dimensions: tuple[int, ...], draws: int, inputs: int) -> None:
    rows, slopes, panels = [], [], []
    for dimension in dimensions:
        found = np.array([np.mean([deviations(h, dimension, s, inputs) for s in range(draws)], 0) for h in widths])
        rows += [(dimension, h, *pair) for h, pair in zip(widths, found.tolist(), strict=True)]
        before, after = (np.polyfit(np.log(widths), np.log(column), 1)[0] for column in found.T)
        slopes.append((dimension, float(before), float(after), -1 / (2 * dimension + 4)))
        curves = dict(zip(("as drawn", "permuted"), found.T, strict=True))
        titles = {"xlabel": "width h", "ylabel": "deviation of the output", "title": f"{dimension} input dimensions"}
        panels.append(plots.Panel(x=widths, curves=curves, log="xy", **titles))
    report.table("Mean deviation in the middle", ["d", "h", "as drawn", "permuted"], rows)
    report.table("Slope of its logarithm over log h", ["d", "as drawn", "permuted", "bound of the theorem"], slopes)
    plots.draw_curves(panels, report.picture("deviation", "Deviation in the middle against width."))
    steeper = [d for d, _, after, bound in slopes if after <= bound]
    report.say(
        f"Permuted, the deviation falls at least as fast as the bound in {len(steeper)} of {len(slopes)} dimensions; "
        f"as drawn its slopes are {', '.join(f'{before:.2f}' for _, before, _, _ in slopes)}."
    )


def deviations(width: int, dimension: int, seed: int, inputs: int) -> tuple[float, float]:
    """Mean deviation in the middle of two random networks, before and after matching their weights."""
    generator = torch.Generator().manual_seed(seed)
    module = nn.Sequential(nn.Linear(dimension, width, bias=False), nn.ReLU(), nn.Linear(width, 1, bias=False)).double()
    a, b = (draw(module, generator) for _ in range(2))
    points = torch.randn(inputs, dimension, generator=generator, dtype=torch.float64)
    points *= dimension**0.5 / points.norm(dim=1, keepdim=True)
    match = fastmatch.match_weights(fastmatch.trace(module, (points[:2],)), a, b)
    before, after = (
        output_deviation(module, a, network, points, alphas=3).mean[1] for network in (b, match.permutation.apply(b))
    )
    return float(before), float(after)


def draw(module: nn.Module, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Weights uniform between plus and minus one over the root of a layer's inputs."""
    return {
        name: (2 * torch.rand(weight.shape, generator=generator, dtype=weight.dtype) - 1) / weight.shape[1] ** 0.5
        for name, weight in module.state_dict().items()
    }


if __name__ == "__main__":
    study.run(main, file=__file__, doc=__doc__, small=SMALL, full=FULL)
