"""Kernels that read their inputs once: combinations of networks, scores, products of features."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.on_gpu.case import Alternative, Case, Kernel, Sizes, Target, short
from fastmatch.kernels import Implementation, Scores, combine, feature_products, scores

_NETWORKS = (2, 3)
_ROUNDED = {torch.float32: 1e-6, torch.bfloat16: 1e-2}  # One rounding; the interpreter's is by truncation.
_FLOAT64 = 1e-9
_FLOAT32 = 1e-5
_PIECE = 1 << 24  # Entries of a result that are compared with float64.


class Sets(NamedTuple):
    sets: Tensor
    coefficients: Tensor
    placed: Tensor  # The coefficients on the device.
    dtype: torch.dtype


class Logits(NamedTuple):
    logits: Tensor
    labels: Tensor


def combinations(sizes: Sizes, forced: Implementation = "auto") -> Iterator[Case]:
    choices = itertools.product(
        sizes.parameters.items(), _NETWORKS, sizes.combinations, (torch.float32, torch.bfloat16)
    )
    for (title, parameters), networks, count, dtype in choices:

        def make(device: torch.device, seed: int, shape=(networks, parameters), count=count, dtype=dtype) -> Sets:
            generator = torch.Generator(device).manual_seed(seed)
            sets = torch.randn(shape, generator=generator, device=device)
            coefficients = torch.rand(count, shape[0], generator=torch.Generator().manual_seed(seed)) + 0.1
            return Sets(sets, coefficients, coefficients.to(device), dtype)

        kernel = Kernel(functools.partial(_combine, forced=forced), _ROUNDED[dtype], targets=(Target("of copy", 0.8),))
        yield Case(
            "combine",
            f"{title} {networks} -> {count} {short(dtype)}",
            make,
            lambda inputs: [inputs.placed.double() @ _some(inputs.sets, len(inputs.placed)).double()],
            {"auto": kernel},
            {"matmul": Alternative(_matmul), "broadcast": Alternative(_broadcast, worth_compiling=True)},
            moved=parameters * (4 * networks + dtype.itemsize * count),
            read=lambda inputs, result: [_some(result, len(result))],
        )


def _some(columns: Tensor, count: int) -> Tensor:
    """Columns from end to end: all of the largest results would not fit in float64."""
    step = max(1, columns.shape[1] * count // _PIECE) | 1
    return torch.cat([columns[:, ::step], columns[:, -1:]], 1)


def _combine(inputs: Sets, forced: Implementation) -> Tensor:
    return combine(inputs.sets, inputs.coefficients, dtype=inputs.dtype, implementation=forced)


def _matmul(inputs: Sets) -> Tensor:
    return (inputs.placed @ inputs.sets).to(inputs.dtype)


def _broadcast(inputs: Sets) -> Tensor:
    """One pass, if compiled."""
    total = inputs.placed[:, :1] * inputs.sets[0]
    for number in range(1, len(inputs.sets)):
        total = total + inputs.placed[:, number : number + 1] * inputs.sets[number]
    return total.to(inputs.dtype)


def all_scores(sizes: Sizes, forced: Implementation = "auto") -> Iterator[Case]:
    for shape in sizes.logits:

        def make(device: torch.device, seed: int, shape=shape) -> Logits:
            generator = torch.Generator(device).manual_seed(seed)
            logits = 3 * torch.randn(shape, generator=generator, device=device)
            return Logits(logits, torch.randint(shape[2], shape[1:2], generator=generator, device=device))

        kernel = Kernel(
            functools.partial(_scores, forced=forced), _FLOAT64, targets=(Target("x best", 3.0),), comparable=_FLOAT32
        )
        yield Case(
            "scores",
            " x ".join(map(str, shape)),
            make,
            _exact_scores,
            {"auto": kernel},
            {
                "cross_entropy": Alternative(_cross_entropy, worth_compiling=True),
                "logsumexp": Alternative(_logsumexp, worth_compiling=True),
            },
            moved=math.prod(shape) * 4 + 8 * shape[1],
            read=lambda inputs, result: list(result[:2]),
        )


def _scores(inputs: Logits, forced: Implementation) -> Scores:
    return scores(inputs.logits, inputs.labels, implementation=forced)


def _exact_scores(inputs: Logits) -> list[Tensor]:
    """One network after the other, since float64 takes twice the room."""
    losses, errors = [], []
    for logits in inputs.logits:
        losses.append(cross_entropy(logits.double(), inputs.labels, reduction="sum"))
        errors.append((logits.argmax(1) != inputs.labels).sum())
    return [torch.stack(losses), torch.stack(errors)]


def _cross_entropy(inputs: Logits) -> tuple[Tensor, Tensor]:
    networks, examples, classes = inputs.logits.shape
    labels = inputs.labels.expand(networks, examples)
    losses = cross_entropy(inputs.logits.reshape(-1, classes), labels.reshape(-1), reduction="none")
    return losses.view(networks, examples).sum(1), (inputs.logits.argmax(2) != labels).sum(1)


def _logsumexp(inputs: Logits) -> tuple[Tensor, Tensor]:
    labels = inputs.labels.expand(inputs.logits.shape[:2])
    target = inputs.logits.gather(2, labels[..., None])[..., 0]
    return (inputs.logits.logsumexp(2) - target).sum(1), (inputs.logits.argmax(2) != labels).sum(1)


def products(sizes: Sizes, forced: Implementation = "auto") -> Iterator[Case]:
    for dtype in (torch.float32, torch.bfloat16):

        def make(device: torch.device, seed: int, dtype=dtype) -> list[Tensor]:
            generator = torch.Generator(device).manual_seed(seed)
            first, *rest = (torch.randn(sizes.features, generator=generator, device=device) for _ in range(3))
            return [first.to(dtype), *((first + other).to(dtype) for other in rest)]

        yield Case(
            "feature_products",
            f"3 x {'x'.join(map(str, sizes.features))} {short(dtype)}",
            make,
            _exact_products,
            {"auto": Kernel(functools.partial(_products, forced=forced), 1e-6, comparable=_ROUNDED[torch.bfloat16])},
            {"bmm": Alternative(_bmm), "sums": Alternative(_sums, worth_compiling=True)},
            moved=3 * math.prod(sizes.features) * dtype.itemsize + 9 * 8 * sizes.features[0],
        )


def _products(values: list[Tensor], forced: Implementation) -> Tensor:
    return feature_products(values, implementation=forced)


def _exact_products(values: list[Tensor]) -> list[Tensor]:
    rows = torch.stack([value.flatten(1).double() for value in values], 1)
    return [rows @ rows.mT]


def _bmm(values: list[Tensor]) -> Tensor:
    rows = torch.stack([value.flatten(1) for value in values], 1)
    return rows @ rows.mT


def _sums(values: list[Tensor]) -> Tensor:
    rows = [value.flatten(1) for value in values]
    sums = {
        pair: (rows[pair[0]].float() * rows[pair[1]].float()).sum(1)
        for pair in itertools.combinations_with_replacement(range(len(rows)), 2)
    }
    return torch.stack(
        [torch.stack([sums[min(i, j), max(i, j)] for j in range(len(rows))], 1) for i in range(len(rows))], 1
    )
