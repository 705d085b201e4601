"""Scores in one pass over the logits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from fastmatch.kernels.dispatch import DTYPES
from fastmatch.kernels.launch import TYPES, Variant, launch
from fastmatch.kernels.scores.result import Scores

# Classes that a program reads at a time, and the examples that it reads of them; more classes take several turns.
_BLOCKS = {16: 32, 128: 4, 1024: 1}


@triton.jit(
    do_not_specialize=[
        "logits",
        "labels",
        "sums",
        "losses",
        "errors",
        "examples",
        "classes",
        "network",
        "row",
        "column",
        "each",
    ]
)
def kernel(
    logits,
    labels,
    sums,
    losses,
    errors,
    examples: tl.int64,
    classes: tl.int64,
    network: tl.int64,
    row: tl.int64,
    column: tl.int64,
    each: tl.int64,
    EXAMPLES: tl.constexpr,
    CLASSES: tl.constexpr,
):
    """Programs: [blocks of examples, networks].

    ``sums`` is [2, networks, blocks]; ``losses`` and ``errors`` are [networks, examples], written if ``each`` is 1.
    """
    block, which = tl.program_id(0), tl.program_id(1).to(tl.int64)
    example = block.to(tl.int64) * EXAMPLES + tl.arange(0, EXAMPLES)
    here = example < examples
    label = tl.load(labels + example, mask=here, other=0)
    start = logits + which * network + example * row
    top = tl.full((EXAMPLES,), float("-inf"), tl.float64)
    best = tl.zeros((EXAMPLES,), tl.int64)
    total = tl.zeros((EXAMPLES,), tl.float64)
    target = tl.zeros((EXAMPLES,), tl.float64)
    for first in range(0, classes, CLASSES):
        number = first + tl.arange(0, CLASSES)
        inside = here[:, None] & (number < classes)[None, :]
        values = tl.load(start[:, None] + (number * column)[None, :], mask=inside, other=float("-inf")).to(tl.float64)
        highest, place = tl.max(values, 1, return_indices=True)
        best = tl.where(highest > top, first + place, best)
        old = top
        top = tl.maximum(top, highest)
        # The shift is 0 where the largest value is infinite: infinity minus itself would be NaN.
        shift = tl.where(tl.abs(top) == float("inf"), 0.0, top)
        total = tl.where(old == float("-inf"), 0.0, total * tl.exp(old - shift))
        total += tl.sum(tl.exp(values - shift[:, None]), 1)
        target += tl.sum(tl.where(number[None, :] == label[:, None], values, 0.0), 1)
    target = tl.where((label >= 0) & (label < classes), target, float("nan"))
    loss = tl.where(tl.abs(top) == float("inf"), 0.0, top) + tl.log(total) - target
    wrong = (best != label) | (total != total)
    tl.store(sums + which * tl.num_programs(0) + block, tl.sum(tl.where(here, loss, 0.0), 0))
    count = tl.sum((here & wrong).to(tl.float64), 0)
    tl.store(sums + (tl.num_programs(1) + which) * tl.num_programs(0) + block, count)
    tl.store(losses + which * examples + example, loss, mask=example < examples * each)
    tl.store(errors + which * examples + example, wrong, mask=example < examples * each)


def scores(logits: Tensor, labels: Tensor, per_example: bool) -> Scores:
    """See :func:`fastmatch.kernels.scores`."""
    shape, (examples, classes) = logits.shape[:-2], logits.shape[-2:]
    flat = logits.reshape(math.prod(shape), examples, classes)
    variant = _variant(logits.dtype, classes)
    grid = (triton.cdiv(examples, variant.constants["EXAMPLES"]), len(flat))
    sums = torch.empty((2, *reversed(grid)), dtype=torch.float64, device=logits.device)
    length = (*shape, examples) if per_example else (0,)
    losses = torch.empty(length, dtype=torch.float64, device=logits.device)
    errors = torch.empty(length, dtype=torch.bool, device=logits.device)
    arguments = (flat, labels.contiguous(), sums, losses, errors, examples, classes, *flat.stride(), int(per_example))
    launch(kernel, variant, grid, logits.device, arguments)
    loss, wrong = sums.sum(-1)
    return Scores(
        loss.reshape(shape),
        wrong.reshape(shape).long(),
        losses if per_example else None,
        errors if per_example else None,
    )


def variants() -> Iterator[Variant]:
    """All forms of the kernel."""
    for dtype, classes in itertools.product(DTYPES, _BLOCKS):
        yield _variant(dtype, classes)


def _variant(dtype: torch.dtype, classes: int) -> Variant:
    block = next((size for size in _BLOCKS if classes <= size), max(_BLOCKS))
    pointers = {"logits": TYPES[dtype], "labels": "i64", "sums": "fp64", "losses": "fp64", "errors": "u1"}
    scalars = dict.fromkeys(("examples", "classes", "network", "row", "column", "each"), "i64")
    constants = {"EXAMPLES": _BLOCKS[block], "CLASSES": block}
    return Variant({name: f"*{kind}" for name, kind in pointers.items()} | scalars, constants)
