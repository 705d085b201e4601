"""Layers that write the units of groups, and the second moments of what they read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from fastmatch.data import Split, batch_count
from fastmatch.devices import full_float32
from fastmatch.symmetry import GraphRunner, Indices, Occurrence, PermutationSpec, export_at_home, float_type

State = Mapping[str, Tensor]
BATCH_SIZE = 250
_CHUNK = 1 << 25  # Entries of unfolded images at a time: 256 MiB in float64.
_aten = torch.ops.aten


@dataclass(frozen=True)
class Writer:
    """A linear layer or convolution whose outputs are units of groups.

    Attributes
    ----------
    weight, bias
        Names of its parameters. The bias counts as the weight of one more input, which is always 1.
    calls
        Every place where the network runs it.
    """

    weight: str
    bias: str | None
    calls: tuple[fx.Node, ...]

    def rows(self, state: State) -> Tensor:
        """Weights of every output, float64, shape [outputs, inputs]."""
        rows = state[self.weight].double().flatten(1)
        return rows if self.bias is None else torch.cat([rows, state[self.bias].double()[:, None]], 1)

    def columns(self, spec: PermutationSpec, indices: Indices) -> Tensor:
        """Input of b that stands at each place once the groups in ``indices`` are lined up, int64, shape [inputs]."""
        shape = spec.tensors[self.weight].shape
        count = math.prod(shape[1:])
        numbers = torch.arange(count).expand(shape[0], count).reshape(shape)
        moved = spec.permute({self.weight: numbers}, indices)[self.weight][0].flatten()
        return moved if self.bias is None else torch.cat([moved, torch.tensor([count])])

    def units(self, spec: PermutationSpec, place: Occurrence) -> np.ndarray:
        """Output that each unit of a place is, over its bases, int64, shape [units of all bases]."""
        shape = spec.tensors[self.weight].shape
        numbers = torch.arange(shape[0]).view(-1, *[1] * (len(shape) - 1)).expand(shape).contiguous()
        return place.units(numbers)[..., 0].flatten().numpy()

    def before(self, spec: PermutationSpec) -> set[str]:
        """Groups that its inputs are units of."""
        boxes = (box for axis in spec.tensors[self.weight].axes[1:] for box in axis)
        return {str(factor.group) for box in boxes for factor in box.factors if factor.group} - spec.fixed


def find_writers(module: nn.Module, example: Tensor) -> tuple[list[Writer], GraphRunner]:
    """Linear layers and convolutions in the order in which they run, and what gives the values they read.

    Left out are convolutions in groups, transposed ones, those over volumes, and layers whose weights are computed.

    Raises
    ------
    SymmetryError
        The network cannot be exported.
    """
    graph = export_at_home(module, example)
    names = {node: source.name for node, source in graph.placeholders() if source.kind == "state"}
    found: dict[tuple[str, str | None], list[fx.Node]] = {}
    for node in graph.module.graph.nodes:
        if _is_plain(node, names):
            weight, bias = (*_arguments(node)[1:3], None)[:2]
            found.setdefault((names[weight], None if bias is None else names[bias]), []).append(node)
    writers = [Writer(weight, bias, tuple(calls)) for (weight, bias), calls in found.items()]
    read = {_arguments(call)[0].name for writer in writers for call in writer.calls}
    return writers, GraphRunner(graph, sorted(read))


def second_moments(
    runner: GraphRunner,
    writers: Sequence[Writer],
    state: State,
    data: Split,
    progress: Callable[[int, int], None] | None = None,
) -> list[Tensor]:
    """Second moments of what each writer reads, over its bias too, float64, shape [inputs, inputs].

    Means over examples of ``x x^T``, summed over all places that the layer is applied to: tokens, time steps, and the
    patches of a convolution (im2col).
    """
    totals: list[Tensor | float] = [0.0 for _ in writers]
    for done, (inputs, _) in enumerate(data.batches(BATCH_SIZE), start=1):
        values = runner.activations(state, (inputs.to(float_type(state)),))
        with torch.no_grad(), full_float32():
            for number, writer in enumerate(writers):
                for call in writer.calls:
                    totals[number] += _products(values[_arguments(call)[0].name], call, writer, state)
        if progress is not None:
            progress(done, batch_count(len(data), BATCH_SIZE))
    return [torch.as_tensor(total) / len(data) for total in totals]


def _is_plain(node: fx.Node, names: Mapping[fx.Node, str]) -> bool:
    if node.target not in (_aten.linear.default, _aten.convolution.default):
        return False
    weight, bias = (*_arguments(node)[1:3], None)[:2]
    if weight not in names or not (bias is None or bias in names):
        return False
    if node.target == _aten.linear.default:
        return True
    *_, transposed, _, groups = _arguments(node)
    return not transposed and groups == 1 and weight.meta["val"].dim() <= 4


def _arguments(node: fx.Node) -> Sequence[Any]:
    """What a node is called with; the types of fx say less than what operations are known to take."""
    return node.args


def _products(values: Tensor, call: fx.Node, writer: Writer, state: State) -> Tensor:
    """Sum of ``x x^T`` over examples and places."""
    kernel = state[writer.weight].shape[2:]
    size = 1 if call.target == _aten.linear.default else values[0].numel() * math.prod(kernel)
    total = torch.zeros((), dtype=torch.float64, device=values.device)
    for part in values.split(max(1, _CHUNK // size)):
        read = part.flatten(0, -2) if call.target == _aten.linear.default else _patches(part, call, kernel)
        read = read.double()
        if writer.bias is not None:
            read = torch.cat([read, read.new_ones(len(read), 1)], 1)
        total = total + read.T @ read
    return total


def _patches(images: Tensor, call: fx.Node, kernel: Sequence[int]) -> Tensor:
    """What a convolution multiplies its weights with, shape [places, channels * kernel]."""
    stride, padding, dilation = (tuple(given) for given in _arguments(call)[3:6])
    if len(kernel) == 1:  # a row of an image
        images, kernel = images.unsqueeze(-2), (1, *kernel)
        stride, padding, dilation = (1, *stride), (0, *padding), (1, *dilation)
    patches = F.unfold(images, tuple(kernel), dilation=dilation, padding=padding, stride=stride)
    return patches.mT.flatten(0, 1)
