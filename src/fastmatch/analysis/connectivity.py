"""Features of networks compared layer by layer, one batch of examples in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastmatch.analysis.layers import Layer, Layered
from fastmatch.analysis.spectra import activation_spectrum, weight_spectrum
from fastmatch.data import Split
from fastmatch.devices import full_float32
from fastmatch.errors import ModelError
from fastmatch.kernels import Moments
from fastmatch.symmetry import GraphRunner, float_type

State = Mapping[str, Tensor]
Values = Mapping[str, Tensor]


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """Cosine of the angle between the rows of two matrices [examples, entries], float64; NaN where one is zero."""
    return (first * second).sum(1) / (first.norm(dim=1) * second.norm(dim=1))


def distance(first: Tensor, second: Tensor) -> Tensor:
    """``||x - y||^2 / (||x|| ||y||)`` for the rows of two matrices; NaN where one is zero.

    The normalised distance of Zhou et al. 2023, section 5.1, as their published code computes it.
    """
    result = (first - second).square().sum(1) / (first.norm(dim=1) * second.norm(dim=1))
    return torch.where(result.isfinite(), result, torch.nan)


def measure_point(
    layered: Layered, ends: tuple[State, State], state: State, alpha: float, data: Split, batch_size: int
) -> dict[str, Any]:
    """Features of an interpolated network against interpolated features: cosine and scale of every layer.

    The scale is the multiple of the interpolated features that is closest to the features of the interpolated network.
    """
    runner = layered.runner([layer.feature for layer in layered.layers])
    found: dict[str, list[list[Tensor]]] = {name: [[] for _ in layered.layers] for name in ("cosine", "scale")}
    for a, b, between in _batches(runner, (*ends, state), data, batch_size):
        for number, layer in enumerate(layered.layers):
            first, second, third = (_rows(values[layer.feature]) for values in (a, b, between))
            mixed = first.mul_(1 - alpha).add_(second, alpha=alpha)
            found["cosine"][number].append(cosine(third, mixed))
            found["scale"][number].append((third * mixed).sum(1) / mixed.square().sum(1))
    return {name: [_spread(parts) for parts in lists] for name, lists in found.items()}


def measure_ends(
    layered: Layered, ends: tuple[State, State], alphas: Sequence[float], data: Split, batch_size: int
) -> list[dict[str, Any]]:
    """What two networks alone say of every layer: baseline, additivity, commutativity and singular values."""
    measures = [_LayerMeasure(layer, ends, alphas) for layer in layered.layers]
    runner = layered.runner([node for measure in measures for node in measure.nodes])
    for values in _batches(runner, ends, data, batch_size):
        for measure in measures:
            measure.update(*values)
    return [measure.result() for measure in measures]


class _LayerMeasure:
    """Figures of one layer of two networks, batch by batch."""

    def __init__(self, layer: Layer, ends: tuple[State, State], alphas: Sequence[float]) -> None:
        self._layer, self._alphas = layer, alphas
        self._weights = None if layer.weight is None else tuple(state[layer.weight] for state in ends)
        self._baseline: list[Tensor] = []
        self._additivity: list[Tensor] = []
        self._silent = 0
        self._sums: dict[str, Tensor | float] = {}
        self._moments = Moments([(0, 0)]), Moments([(0, 0)])

    @property
    def nodes(self) -> list[str | None]:
        """Nodes whose values are needed."""
        layer = self._layer
        return [layer.feature, layer.relu, None if layer.node is None else layer.reads]

    def update(self, a: Values, b: Values) -> None:
        """Add a batch."""
        layer = self._layer
        for moments, values in zip(self._moments, (a, b), strict=True):
            feature = values[layer.feature]
            moments.update(feature.movedim(layer.unit_axis, 0))
        first, second = _rows(a[layer.feature]), _rows(b[layer.feature])
        self._baseline.append(cosine(first, second))
        self._silent += int((~(first.any(1) & second.any(1))).sum())
        if layer.relu is not None:
            self._additivity.append(_additivity(_rows(a[layer.relu]), _rows(b[layer.relu]), self._alphas))
        if self._weights is not None:
            self._commute(a[layer.reads], b[layer.reads], *self._weights)

    def _commute(self, a: Tensor, b: Tensor, weight_a: Tensor, weight_b: Tensor) -> None:
        """Both sides of the commutativity, which differ by (W_a - W_b)(H_a - H_b): no digits are lost."""
        with full_float32():
            left = self._layer.apply(a, weight_a) + self._layer.apply(b, weight_b)
            change = self._layer.apply(a - b, weight_a - weight_b)
        self._add("commutativity", change, left, left - change)
        self._add("input_distance", a - b, a, b)

    def _add(self, name: str, *parts: Tensor) -> None:
        for number, part in enumerate(parts):
            key = f"{name} {number}"
            self._sums[key] = self._sums.get(key, 0.0) + part.double().square().sum()

    def result(self) -> dict[str, Any]:
        """Plain data; distances are None where they do not exist."""
        result: dict[str, Any] = {
            "baseline": _spread(self._baseline),
            "silent": self._silent,
            "activations": [self._activation_spectrum(moments) for moments in self._moments],
        }
        if self._additivity:
            per_alpha = torch.cat(self._additivity).cpu().numpy()
            result["additivity"] = [_mean(column) for column in per_alpha.T]
            result["largest_additivity"] = _mean(per_alpha.max(1))
        if self._weights is not None:
            first, second = self._weights
            self._add("weight_distance", first - second, first, second)
            for name in ("commutativity", "weight_distance", "input_distance"):
                change, left, right = (float(self._sums[f"{name} {number}"]) for number in range(3))
                result[name] = change / (left * right) ** 0.5 if left and right else None
            units_first = self._layer.units_first
            result["weights"] = [weight_spectrum(units_first(weight)).values.tolist() for weight in self._weights]
        return result

    def _activation_spectrum(self, moments: Moments) -> Any:
        try:
            return activation_spectrum(moments).values.tolist()
        except ModelError as error:
            raise ModelError(f"layer {self._layer.name!r}: {error}") from error


def _additivity(first: Tensor, second: Tensor, alphas: Sequence[float]) -> Tensor:
    """Distance of ReLU of a mean and mean of ReLUs for every example and alpha, shape [examples, alphas]."""
    columns = []
    for alpha in alphas:
        mean_of = (1 - alpha) * first.relu() + alpha * second.relu()
        columns.append(distance(((1 - alpha) * first + alpha * second).relu(), mean_of))
    return torch.stack(columns, 1)


def _batches(
    runner: GraphRunner, states: Sequence[State], data: Split, batch_size: int
) -> Iterator[tuple[Values, ...]]:
    """Values of the tapped nodes of all networks, batch by batch."""
    dtype = float_type(states[0])
    for inputs, _ in data.batches(batch_size):
        yield tuple(runner.activations(state, (inputs.to(dtype),)) for state in states)


def _rows(values: Tensor) -> Tensor:
    """Features as a matrix [examples, entries], a copy in float64."""
    return values.to(torch.float64, copy=True).flatten(1)


def _spread(parts: Sequence[Tensor]) -> tuple[float | None, float | None]:
    """Mean and standard deviation over the examples; those without a value are left out."""
    values = torch.cat(list(parts)).cpu().numpy()
    values = values[np.isfinite(values)]
    return _mean(values), float(values.std(ddof=1)) if len(values) > 1 else None


def _mean(values: np.ndarray) -> float | None:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else None
