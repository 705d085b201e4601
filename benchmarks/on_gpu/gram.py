"""Gram matrices of all groups of networks, whole and brought up to date."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from benchmarks import trained
from benchmarks.on_gpu.case import Alternative, Call, Case, Kernel, Sizes, Target, short, tolerance
from fastmatch.kernels import Implementation, Precision, Source, Summand, gram, gram_update
from fastmatch.matching.comparison import Comparison, Positions, Term
from fastmatch.matching.problem import Problem

MOVED = (0.1, 0.3)
_WIDE = "x32"  # Networks of this width need not be faster than torch, but may not be slower.


class Inputs(NamedTuple):
    """Summands as the kernel takes them, and for torch with the index arrays on the device."""

    summands: Sequence[Summand]
    placed: Sequence[Summand]
    total: Tensor | None = None
    whole: Sequence[Summand] = ()


class Group(NamedTuple):
    """A group of units, and how many of its network look the same."""

    problem: Problem
    name: str
    alike: int

    @property
    def terms(self) -> Sequence[Term]:
        return self.problem.terms[self.name]

    @property
    def units(self) -> int:
        return self.problem.groups[self.name].size


def cases(sizes: Sizes, forced: Implementation = "auto") -> Iterator[Case]:
    """Whole sums, then updates; ``forced`` stands in for ``"auto"``."""
    for title, model in sizes.models.items():
        for group in groups(model):
            for dtype in (torch.float32, torch.bfloat16) if title in sizes.halves else (torch.float32,):
                yield _whole(title, group, dtype, forced)
    for title, model in sizes.models.items():
        if not title.endswith(_WIDE):
            for group in groups(model):
                if any(term.others for term in group.terms):
                    yield from (_update(title, group, fraction, forced) for fraction in MOVED)


@functools.cache
def groups(model: str) -> list[Group]:
    """Groups of a network that differ in the shapes of what is compared."""
    spec = trained.trace(model)
    shapes = {name: torch.empty(layout.shape, device="meta") for name, layout in spec.tensors.items()}
    problem = Problem(spec, shapes, shapes)
    found: dict[tuple[object, ...], list[str]] = {}
    for name, terms in problem.terms.items():
        key = tuple(sorted((term.shape, term.place.axis, term.others) for term in terms))
        found.setdefault(key, []).append(name)
    return [Group(problem, names[0], len(names)) for names in found.values()]


def _whole(title: str, group: Group, dtype: torch.dtype, forced: Implementation) -> Case:
    def run(inputs: Inputs, precision: Precision, implementation: Implementation) -> Tensor:
        return gram(inputs.summands, precision=precision, implementation=implementation)

    targets = (Target("x best", 1.0 if title.endswith(_WIDE) else 1.5),)
    kernels = {
        f"auto {precision}": Kernel(
            functools.partial(run, precision=precision, implementation=forced),
            tolerance(precision, dtype),
            precision,
            targets,
        )
        for precision in get_args(Precision)
    }
    forms = functools.partial(run, precision="highest", implementation="gpu")
    kernels["gpu highest"] = Kernel(forms, tolerance("highest", dtype))
    alternatives = _with_tf32({"summed": _summed, "joined": _joined})
    if dtype != torch.float32:
        alternatives = _with_tf32({"widened": _widened})
        alternatives |= {"summed": Alternative(_summed), "joined": Alternative(_joined)}
    return Case(
        "gram",
        _name(title, group, short(dtype)),
        lambda device, seed: _inputs(group, dtype, device, seed),
        lambda inputs: [exact(inputs.summands)],
        kernels,
        alternatives,
        **_sizes(group, dtype.itemsize),
    )


def _update(title: str, group: Group, fraction: float, forced: Implementation) -> Case:
    def run(inputs: Inputs, precision: Precision) -> Tensor:
        assert inputs.total is not None
        return gram_update(inputs.total.clone(), inputs.summands, precision=precision, implementation=forced)

    kernels = {
        f"auto {precision}": Kernel(
            functools.partial(run, precision=precision), tolerance(precision, torch.float32), precision
        )
        for precision in get_args(Precision)
    }
    return Case(
        "gram_update",
        _name(title, group, f"{fraction:.0%}"),
        lambda device, seed: _moved_inputs(group, fraction, device, seed),
        lambda inputs: [exact(inputs.whole)],
        kernels,
        _with_tf32({"summed": _updated, "anew": lambda inputs: _sum(inputs.whole)}),
        **_sizes(group, 4, 2 * fraction),
    )


def _name(title: str, group: Group, what: str) -> str:
    alike = f" ({group.alike} alike)" if group.alike > 1 else ""
    return f"{title} {group.name}{alike} {what}"


def _sizes(group: Group, itemsize: int, fraction: float = 1.0) -> dict[str, Any]:
    """Bytes and operations; of terms that nothing moves beside, an update reads nothing, of the others ``fraction``.

    An update reads the columns of b twice: where they lie and where they lay.
    """
    whole = fraction == 1.0
    entries = sum(np.prod(term.shape) * (1 if whole else fraction / 2) for term in group.terms if whole or term.others)
    sides = 2 if whole else 3
    totals = 1 if whole else 4  # Read and written by the copy, and again by the sum.
    return {
        "moved": int(sides * entries * itemsize) + totals * 4 * group.units**2,
        "operations": int(2 * group.units * entries),
        "fields": {"units": group.units},
    }


def _with_tf32(calls: Mapping[str, Call]) -> dict[str, Alternative]:
    """Each with and without tf32; the first is worth compiling."""
    first = next(iter(calls))
    forms = itertools.product((False, True), calls.items())
    return {f"{name}{' tf32' if tf32 else ''}": Alternative(call, tf32, name == first) for tf32, (name, call) in forms}


def _inputs(group: Group, dtype: torch.dtype, device: torch.device, seed: int) -> Inputs:
    comparison = _comparison(group, dtype, device, seed)
    indices = group.problem.spec.random(seed)
    summands = list(comparison.summands(comparison.surroundings(Positions(group.problem.spec, indices)), "all"))
    return Inputs(summands, _placed(summands, device))


def _moved_inputs(group: Group, fraction: float, device: torch.device, seed: int) -> Inputs:
    comparison, spec = _comparison(group, torch.float32, device, seed), group.problem.spec
    before = spec.random(seed)
    rng = np.random.default_rng(seed)
    after = {name: _shuffled(index, fraction, rng) for name, index in before.items()}
    old, new = (comparison.surroundings(Positions(spec, indices)) for indices in (before, after))
    differences = list(comparison.differences(old, new))
    whole = _placed(list(comparison.summands(new, "all")), device)
    total = exact(list(comparison.summands(old, "all"))).float()
    return Inputs(differences, _placed(differences, device), total, whole)


def _shuffled(index: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """About ``fraction`` of the entries, two at least, taken round by one place."""
    chosen = rng.permutation(len(index))[: max(2, round(fraction * len(index)))]
    result = index.copy()
    result[chosen] = index[np.roll(chosen, 1)]
    return result


def _comparison(group: Group, dtype: torch.dtype, device: torch.device, seed: int) -> Comparison:
    """Weights of b are those of a with noise, so that the sums have entries of every size."""
    generator = torch.Generator(device).manual_seed(seed)

    def draw(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    a = {term.place.tensor: draw(term.shape) for term in group.terms}
    b = {name: (0.5 * weight + draw(tuple(weight.shape))).to(dtype) for name, weight in a.items()}
    return Comparison({name: weight.to(dtype) for name, weight in a.items()}, b, group.terms)


def _placed(summands: Sequence[Summand], device: torch.device) -> list[Summand]:
    def place(source: Source) -> Source:
        return Source(source.axis, *(None if index is None else index.to(device) for index in source[1:]))

    return [summand._replace(sources=tuple(map(place, summand.sources))) for summand in summands]


def _pair(summand: Summand) -> tuple[Tensor, Tensor]:
    """Matrices [units, columns] by ``index_select``."""
    a, b, axis, sources = summand
    less, before = any(source.less is not None for source in sources), b
    for source in sources:
        a = a if source.a is None else a.index_select(source.axis, source.a)
        if less:
            before = before.index_select(source.axis, source.b if source.less is None else source.less)
        b = b.index_select(source.axis, source.b)
    if less:
        b = b - before
    return a.movedim(axis, 0).reshape(a.shape[axis], -1), b.movedim(axis, 0).reshape(b.shape[axis], -1)


def exact(summands: Sequence[Summand]) -> Tensor:
    """Sum of whole columns in float64."""
    wide = [summand._replace(a=summand.a.double(), b=summand.b.double()) for summand in summands]
    return _sum(_placed(wide, summands[0].a.device))


def _sum(summands: Sequence[Summand], total: Tensor | None = None) -> Tensor:
    for a, b in map(_pair, summands):
        if total is not None and a.dtype == total.dtype:
            total = torch.addmm(total, a, b.T)
        else:
            product = (a @ b.T).to(torch.promote_types(a.dtype, torch.float32))
            total = product if total is None else total + product
    assert total is not None
    return total


def _summed(inputs: Inputs) -> Tensor:
    """A product for every parameter."""
    return _sum(inputs.placed)


def _updated(inputs: Inputs) -> Tensor:
    return _sum(inputs.placed, inputs.total)


def _joined(inputs: Inputs) -> Tensor:
    """One product of all columns together."""
    left, right = zip(*map(_pair, inputs.placed), strict=True)
    return torch.cat(left, 1) @ torch.cat(right, 1).T


def _widened(inputs: Inputs) -> Tensor:
    return _sum([summand._replace(a=summand.a.float(), b=summand.b.float()) for summand in inputs.placed])
