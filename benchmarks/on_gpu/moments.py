"""Moments of activations as convolutional networks for small images have them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple, get_args

import torch
from torch import Tensor

from benchmarks.on_gpu.case import Alternative, Case, Kernel, Sizes, Target, short, tolerance
from fastmatch.kernels import Implementation, Moments, Precision

TARGETS = (Target("x eager", 3.0), Target("bound", 0.6, 0.7))
FAR = 1000.0
_CORRELATED = 0.6
Flat = tuple[Tensor, ...]  # Sums and squares of a and of b, and cross products.


class Inputs(NamedTuple):
    """Activations of two networks, [examples, channels, side, side], and what was streamed so far by each form."""

    a: Tensor
    b: Tensor
    shifts: tuple[Tensor, Tensor]
    streamed: dict[tuple[Implementation, Precision], Moments]


def cases(sizes: Sizes, forced: Implementation = "auto") -> Iterator[Case]:
    """``forced`` stands in for ``"auto"``."""
    for stage, dtype, last in itertools.product(sizes.stages, (torch.float32, torch.bfloat16), (False, True)):
        if stage[1] > 1 or not last:
            yield _case(sizes.examples, stage, dtype, last, 0.5, forced)
    yield _case(sizes.examples, sizes.far, torch.float32, False, FAR, forced)


def _case(
    examples: int, stage: tuple[int, int], dtype: torch.dtype, last: bool, mean: float, forced: Implementation
) -> Case:
    channels, side = stage
    forms: list[tuple[Implementation, Precision]] = [(forced, precision) for precision in get_args(Precision)]
    kernels = {
        f"auto {precision}": Kernel(
            functools.partial(_stream, form=(form, precision)), tolerance(precision, dtype), precision, TARGETS
        )
        for form, precision in forms
    }
    kernels["gpu highest"] = Kernel(functools.partial(_stream, form=("gpu", "highest")), tolerance("highest", dtype))
    samples = examples * side**2
    layout = " channels last" if last else ""
    far = f" mean {mean:g}" if mean == FAR else ""
    return Case(
        "moments",
        f"{examples}x{channels}x{side}x{side} {short(dtype)}{layout}{far}",
        lambda device, seed: _inputs((examples, channels, side, side), dtype, last, mean, device, seed),
        _exact,
        kernels,
        _alternatives(channels, side, dtype),
        moved=2 * samples * channels * dtype.itemsize + 8 * channels**2,
        operations=2 * samples * channels**2,
        read=lambda inputs, result: _figures(result, samples),
        fields={"units": channels},
    )


def _stream(inputs: Inputs, form: tuple[Implementation, Precision]) -> Moments:
    """The same batch again changes no mean: a repeated call may be checked too."""
    if form not in inputs.streamed:
        inputs.streamed[form] = Moments(implementation=form[0], precision=form[1])
    moments = inputs.streamed[form]
    moments.update(inputs.a, inputs.b, axes=(1,))
    return moments


def _inputs(
    shape: tuple[int, ...], dtype: torch.dtype, last: bool, mean: float, device: torch.device, seed: int
) -> Inputs:
    generator = torch.Generator(device).manual_seed(seed)
    a, noise = (torch.randn(shape, generator=generator, device=device) for _ in range(2))
    b = _CORRELATED * a.flip(1) + (1 - _CORRELATED) * noise - mean
    a = a + mean
    order = torch.channels_last if last else torch.contiguous_format
    a, b = (side.to(dtype).contiguous(memory_format=order) for side in (a, b))
    # Not the means themselves: in a stream they belong to another batch.
    shifts = tuple(side[: len(side) // 2].mean((0, 2, 3), dtype=torch.float64).float() for side in (a, b))
    return Inputs(a, b, (shifts[0], shifts[1]), {})


def _exact(inputs: Inputs) -> list[Tensor]:
    """Covariance and correlation in float64."""
    a, b = (side.movedim(1, 0).flatten(1).double() for side in (inputs.a, inputs.b))
    a, b = (side - side.mean(1, keepdim=True) for side in (a, b))
    covariance = a @ b.T / a.shape[1]
    return [covariance, covariance / torch.outer(a.square().mean(1).sqrt(), b.square().mean(1).sqrt())]


def _figures(result: Moments | Flat, samples: int) -> list[Tensor]:
    if isinstance(result, Moments):
        return [result.covariance(), result.pearson()]
    sum_a, squares_a, sum_b, squares_b, cross = (part.double() / samples for part in result)
    covariance = cross - torch.outer(sum_a, sum_b)
    variances = squares_a - sum_a**2, squares_b - sum_b**2
    return [covariance, covariance * torch.outer(*(variance.rsqrt() for variance in variances))]


def _alternatives(channels: int, side: int, dtype: torch.dtype) -> dict[str, Alternative]:
    """Shifted and plain sums; with products of matrices, and of examples one by one where those are few enough.

    Plain sums lose their digits where means are large: then they are off by too much to count.
    """
    calls = {"shifted": _shifted, "plain": _plain}
    if channels <= side**2:
        calls["batched"] = _batched
    forms = itertools.product((False, True), calls.items())
    found = {
        f"{name}{' tf32' if tf32 else ''}": Alternative(call, tf32, worth_compiling=name != "plain")
        for tf32, (name, call) in forms
    }
    return found if dtype == torch.float32 else found | {"halves": Alternative(_halves)}


def _shifted(inputs: Inputs) -> Flat:
    a, b = inputs.shifts
    return _flat(_rows(inputs.a).float() - a[:, None], _rows(inputs.b).float() - b[:, None])


def _plain(inputs: Inputs) -> Flat:
    return _flat(_rows(inputs.a).float(), _rows(inputs.b).float())


def _halves(inputs: Inputs) -> Flat:
    """Products of halves, whose sums torch keeps in float32 until they are rounded."""
    a, b = _rows(inputs.a), _rows(inputs.b)
    return (*_single(a.float()), *_single(b.float()), a @ b.T)


def _batched(inputs: Inputs) -> Flat:
    """No copy where channels come before the places of an image."""
    shift_a, shift_b = inputs.shifts
    a, b = inputs.a.flatten(2).float() - shift_a[:, None], inputs.b.flatten(2).float() - shift_b[:, None]
    single = (moment for side in (a, b) for moment in (side.sum((0, 2)), (side * side).sum((0, 2))))
    return (*single, (a @ b.mT).sum(0))


def _rows(values: Tensor) -> Tensor:
    return values.movedim(1, 0).reshape(values.shape[1], -1)


def _flat(a: Tensor, b: Tensor) -> Flat:
    return (*_single(a), *_single(b), a @ b.T)


def _single(values: Tensor) -> Sequence[Tensor]:
    return values.sum(1), (values * values).sum(1)
