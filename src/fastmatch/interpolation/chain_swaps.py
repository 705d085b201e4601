"""Swaps of units in chains of linear layers, evaluated from what they change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastmatch.data import Split
from fastmatch.interpolation.chain import Chain
from fastmatch.interpolation.chain_means import Means, Quantity
from fastmatch.interpolation.swapped import Swapped
from fastmatch.symmetry import Indices, PermutationSpec, wide

State = Mapping[str, Tensor]
_REFRESH = 256  # Accepted candidates after which everything is computed anew: rounding does not add up.
_MOST = 64
# Bytes of one value of all candidates together: what stays in a cache, or fills a GPU.
_TOGETHER = {"cpu": 4 << 20, "cuda": 256 << 20}


@dataclass
class _Layer:
    """A linear layer: weights of every network in its present order, and combinations of them at every point.

    ``weights`` [networks, units, inputs], ``biases`` [networks, units]; ``weight`` [points, units, inputs], ``bias``
    [points, units]; ``before`` and ``after`` the activation: [points, units, examples].
    """

    weights: Tensor
    biases: Tensor
    weight: Tensor = field(init=False)
    bias: Tensor = field(init=False)
    before: Tensor = field(init=False)
    after: Tensor = field(init=False)


class _Values(NamedTuple):
    """A layer under K candidates: some units (``units`` [K, 2 E]) or, where that is None, all."""

    units: Tensor | None
    before: Tensor
    after: Tensor
    weight: Tensor | None
    bias: Tensor | None


class _Run(NamedTuple):
    """What a batch of candidates gave: by layer, from number ``first`` on, and for every point."""

    numbers: np.ndarray
    first: int
    layers: list[_Values]


class ChainSwaps:
    """Losses or errors of ``sum_m rows[r, m] * P_m networks[m]`` when units are swapped, layer by layer.

    Outputs of the first layer are linear in the weights: they are those of the networks, kept once, added in another
    order. A swap changes some units of a layer (two of each network), and by them the next layer through as many
    columns of its weights; what follows is computed in full.

    A candidate has one value whichever others are evaluated beside it.

    Parameters
    ----------
    rows
        Coefficients, shape [points, networks].
    quantity
        ``"loss"``: mean cross-entropy in nats; ``"error"``: fraction of examples.
    """

    def __init__(
        self,
        spec: PermutationSpec,
        chain: Chain,
        networks: Sequence[State],
        rows: np.ndarray,
        data: Split,
        quantity: Quantity,
    ) -> None:
        self._chain = chain
        self._names = [group.name for group in spec.groups]
        self._groups = [layer.group for layer in chain.layers[:-1]]
        weights = [torch.stack([wide(network[layer.weight]) for network in networks]) for layer in chain.layers]
        biases = [
            torch.zeros_like(weight[..., 0])
            if layer.bias is None
            else torch.stack([wide(network[layer.bias]) for network in networks])
            for layer, weight in zip(chain.layers, weights, strict=True)
        ]
        order = data.labels.argsort(stable=True)
        labels = data.labels[order]
        inputs = data.inputs[order].reshape(len(data), -1).to(weights[0].dtype)
        # Units first and examples last: rows of units are added, and examples are what a row has most of.
        self._first = torch.matmul(weights[0], inputs.T) + biases[0][..., None]
        weights[0] = weights[0][..., :0]  # not needed any more
        self._original = list(zip(weights, biases, strict=True))
        self._rows = torch.as_tensor(rows, dtype=inputs.dtype, device=inputs.device)
        self._means = Means(labels, weights[-1].shape[1], inputs.dtype, quantity)
        points, widest = len(rows), max(weight.shape[1] for weight in weights[1:])
        one = points * widest * len(data) * weights[0].element_size()
        self.most = max(1, min(_MOST, _TOGETHER[inputs.device.type] // one))
        self._orders: list[Tensor] = []
        self._accepted = 0
        self._present: np.ndarray = np.empty(0)
        self._values: np.ndarray = np.empty(0)
        self._swaps = np.empty(0, np.int64)
        self._runs: list[_Run] = []
        self._layers: list[_Layer] = []

    @staticmethod
    def size(chain: Chain, networks: Sequence[State], points: int, examples: int) -> int:
        """Bytes that are kept."""
        units = [len(networks[0][layer.weight]) for layer in chain.layers]
        entries = (units[0] * len(networks) + 2 * sum(units) * points) * examples
        return entries * wide(networks[0][chain.layers[0].weight]).element_size()

    @torch.no_grad()
    def start(self, indices: Sequence[Indices]) -> np.ndarray:
        """Take a permutation for every network; returns the means of the quantity, float64, shape [points]."""
        device = self._rows.device
        self._orders = [
            torch.stack([_order(network, group, weights.shape[1]) for network in indices]).to(device)
            for group, (weights, _) in zip([*self._groups, None], self._original, strict=True)
        ]
        return self._refresh()

    def _refresh(self) -> np.ndarray:
        """Everything from the orders."""
        self._layers, inputs = [], None
        for number, (weights, biases) in enumerate(self._original):
            rows = self._orders[number]
            weights = weights.gather(1, rows[..., None].expand(weights.shape))
            if number:
                weights = weights.gather(2, self._orders[number - 1][:, None].expand(weights.shape))
            layer = _Layer(weights, biases.gather(1, rows))
            layer.weight = torch.einsum("rm,mij->rij", self._rows, layer.weights)
            layer.bias = self._rows @ layer.biases
            if inputs is None:
                first = self._first.gather(1, rows[..., None].expand(self._first.shape))
                layer.before = torch.einsum("rm,mdn->rdn", self._rows, first)
            else:
                layer.before = torch.baddbmm(layer.bias[..., None], layer.weight, inputs)
            layer.after = inputs = self._activate(number, layer.before)
            self._layers.append(layer)
        self._accepted = 0
        self._present = self._means(self._layers[-1].before)
        return self._present

    @torch.no_grad()
    def values(self, swaps: np.ndarray) -> np.ndarray:
        """Means under candidates, float64, shape [K, points].

        Parameters
        ----------
        swaps
            For every candidate, network and group: two places whose units are swapped, int64, shape
            [K, networks, groups, 2]. The same place twice moves nothing.
        """
        swaps = self._swaps = self._by_layer(swaps)
        self._runs = []
        counts = (swaps[..., 0] != swaps[..., 1]).sum(1)  # [K, layers]
        kinds, members = np.unique(counts, axis=0, return_inverse=True)
        result = np.empty((len(swaps), len(self._rows)))
        for kind, count in enumerate(kinds):
            numbers = np.flatnonzero(members.ravel() == kind)  # operations of one shape for all of them
            first = int((count > 0).argmax()) if count.any() else len(self._layers)
            layers = self._run(swaps[numbers], first)
            self._runs.append(_Run(numbers, first, layers))
            result[numbers] = self._means(layers[-1].before) if layers else self._present
        self._values = result
        return result

    def _by_layer(self, swaps: np.ndarray) -> np.ndarray:
        """Swaps of hidden layers in order; those without a group stay."""
        layers = np.zeros((*swaps.shape[:2], len(self._groups), 2), dtype=np.int64)
        for number, name in enumerate(self._groups):
            if name is not None:
                layers[:, :, number] = swaps[:, :, self._names.index(name)]
        return layers

    def _run(self, swaps: np.ndarray, first: int) -> list[_Values]:
        """All layers from the first that changes."""
        found: list[_Values] = []
        touched: Swapped | None = None
        for number in range(first, len(self._layers)):
            before, touched = touched, self._swapped(swaps, number)
            found.append(self._changed(number, found[-1] if found else None, before, touched))
        return found

    def _swapped(self, swaps: np.ndarray, number: int) -> Swapped | None:
        return None if number == len(self._groups) else Swapped.of(swaps[:, :, number], self._rows)

    def _changed(self, number: int, inputs: _Values | None, columns: Swapped | None, rows: Swapped | None) -> _Values:
        """A layer under candidates, given its inputs under them (None where they stay)."""
        layer = self._layers[number]
        if number == 0:
            assert rows is not None
            second, first = (
                self._first[rows.networks, self._orders[0][rows.networks, places]]
                for places in (rows.second, rows.first)
            )
            new = layer.before[:, rows.units].transpose(0, 1) + rows.shares(self._rows) @ (second - first)[:, None]
            return _Values(rows.units, new, self._activate(0, new), None, None)
        weight, bias = self._weights(number, columns, rows)
        if inputs is None:
            assert rows is not None
            new = self._rows_anew(layer, number, weight, bias, rows, None)
            return _Values(rows.units, new, self._activate(number, new), weight, bias)
        if inputs.units is None:
            new = torch.matmul(weight, inputs.after) + bias[..., None]
        else:
            assert columns is not None
            new = self._columns_anew(layer, number, weight, inputs, columns)
            if rows is not None:
                self._add_rows(new, self._rows_anew(layer, number, weight, bias, rows, columns), rows, layer)
        return _Values(None, new, self._activate(number, new), weight, bias)

    def _weights(self, number: int, columns: Swapped | None, rows: Swapped | None) -> tuple[Tensor, Tensor]:
        """Combined weights [K, points, units, inputs] and biases [K, points, units] after swaps of inputs and units."""
        layer = self._layers[number]
        given = columns if columns is not None else rows
        count = 1 if given is None else len(given.units)
        weight = layer.weight.expand(count, *layer.weight.shape)
        bias = layer.bias.expand(count, *layer.bias.shape)
        if columns is not None:
            change = layer.weights[columns.networks, :, columns.second]
            change = columns.shares(self._rows) @ (change - layer.weights[columns.networks, :, columns.first])[:, None]
            at = columns.units[:, None, None].expand(*weight.shape[:3], -1)
            weight = weight.scatter(3, at, weight.gather(3, at) + change.transpose(2, 3))
        if rows is not None:
            change = layer.weights[rows.networks, rows.second] - layer.weights[rows.networks, rows.first]
            if columns is not None:
                change = rows.with_inputs(change, columns)
            at = rows.units[:, None, :].expand(*weight.shape[:2], -1)
            shared = rows.shares(self._rows)
            spread = at[..., None].expand(*at.shape, weight.shape[3])
            weight = weight.scatter(2, spread, weight.gather(2, spread) + shared @ change[:, None])
            shift = layer.biases[rows.networks, rows.second] - layer.biases[rows.networks, rows.first]
            bias = bias.scatter(2, at, bias.gather(2, at) + (shared @ shift[:, None, :, None])[..., 0])
        return weight, bias

    def _columns_anew(self, layer: _Layer, number: int, weight: Tensor, inputs: _Values, columns: Swapped) -> Tensor:
        """All units where some inputs change: what these gave is taken out, and what they give put in."""
        points, units, examples = layer.before.shape
        count = len(columns.units)
        at = columns.units[:, None, None].expand(*weight.shape[:3], -1)
        once = columns.once[:, None, None]
        old = layer.weight.expand(weight.shape).gather(3, at)
        factors = torch.cat([weight.gather(3, at) * once, -old * once], 3)
        values = torch.cat([inputs.after, self._layers[number - 1].after[:, columns.units].transpose(0, 1)], 2)
        new = layer.before.repeat(count, 1, 1)
        new.baddbmm_(factors.flatten(0, 1), values.flatten(0, 1))
        return new.view(count, points, units, examples)

    def _rows_anew(
        self, layer: _Layer, number: int, weight: Tensor, bias: Tensor, rows: Swapped, columns: Swapped | None
    ) -> Tensor:
        """Units that are swapped, where inputs other than those in ``columns`` stay: [K, points, 2 E, examples].

        With ``columns``, only what the others add.
        """
        count, points, _, width = weight.shape
        at = rows.units[:, None].expand(count, points, -1)
        spread = at[..., None].expand(*at.shape, width)
        change = weight.gather(2, spread) - layer.weight.expand(weight.shape).gather(2, spread)
        if columns is not None:
            change = change.scatter(3, columns.units[:, None, None].expand(*at.shape, -1), 0.0)
        shift = bias.gather(2, at) - layer.bias.expand(bias.shape).gather(2, at)
        inputs = self._layers[number - 1].after
        # One by one: the shape of a product decides in which order it is added up.
        added = torch.stack([torch.bmm(part, inputs) for part in change]) + shift[..., None]
        return added if columns is not None else added + layer.before[:, rows.units].transpose(0, 1)

    @staticmethod
    def _add_rows(values: Tensor, added: Tensor, rows: Swapped, layer: _Layer) -> None:
        """Add to the units that are swapped; a place that stands twice has the same sum twice."""
        at = rows.units[:, None, :, None].expand(added.shape)
        values.scatter_(2, at, values.gather(2, at) + added)

    @torch.no_grad()
    def accept(self, number: int) -> None:
        """Make a candidate of the last batch the present state."""
        run = next(run for run in self._runs if number in run.numbers)
        place = int(np.flatnonzero(run.numbers == number)[0])
        for layer, values in zip(self._layers[run.first :], run.layers, strict=True):
            if values.units is None:
                layer.before, layer.after = values.before[place].clone(), values.after[place].clone()
            else:
                layer.before[:, values.units[place]] = values.before[place]
                layer.after[:, values.units[place]] = values.after[place]
            if values.weight is not None and values.bias is not None:
                at = min(place, len(values.weight) - 1)  # one for all where nothing is swapped
                layer.weight, layer.bias = values.weight[at].clone(), values.bias[at].clone()
        self._present = self._values[number]
        self._exchange(self._swaps[number])
        self._runs = []
        self._accepted += 1
        if self._accepted >= _REFRESH:
            self._refresh()

    def _exchange(self, swaps: np.ndarray) -> None:
        """Swap units in the networks' own weights."""
        for network, layer in np.argwhere(swaps[..., 0] != swaps[..., 1]).tolist():
            places, other = swaps[network, layer].tolist(), swaps[network, layer, ::-1].tolist()
            for tensor in (self._orders[layer], self._layers[layer].weights, self._layers[layer].biases):
                tensor[network, places] = tensor[network, other]
            following = self._layers[layer + 1].weights
            following[network, :, places] = following[network, :, other]

    def _activate(self, number: int, values: Tensor) -> Tensor:
        return values if number == len(self._groups) else self._chain.activations[number](values)


def _order(indices: Indices, group: str | None, units: int) -> Tensor:
    return torch.arange(units) if group is None else torch.from_numpy(indices[group].copy())
