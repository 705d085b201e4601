"""Steps that regroup axes and put them in another order."""

import math

from tests.programs.contraction import shuffled
from tests.programs.registry import step


def tuple_text(numbers):
    """Return ``2, 3, 4``."""
    return ", ".join(map(str, numbers))


@step(5)
def split_axis(b):
    x = b.value(most=4)
    axis = b.axis(x, lambda size: size in (4, 6, 8, 12))
    return [b.emit(f"{x}.unflatten({axis}, ({b.divisor(b.shape(x)[axis])}, -1))")]


@step(5)
def merge_axes(b):
    x = b.value(least=3)
    rank = len(b.shape(x))
    first = b.choose(*range(1, rank - 1))
    return [b.emit(f"{x}.flatten({first}, {b.choose(*range(first + 1, rank))})")]


@step(2)
def regroup(b):
    """Any row-major regrouping, also across the borders of the axes."""
    x = b.value()
    rest = math.prod(b.shape(x)[1:])
    sizes = []
    while rest > 1 and len(sizes) < 3 and not (sizes and b.rarely(3)):
        sizes.append(b.choose(*(number for number in range(2, rest + 1) if rest % number == 0)))
        rest //= sizes[-1]
    b.require(rest < 25)
    return [b.emit(f"{x}.reshape(-1, {tuple_text((*sizes, rest))})")]


@step(2)
def view_back(b):
    """The shape of an earlier value of as many elements."""
    x = b.value()
    shape = b.shape(x)
    like = b.value(lambda other: other != shape and math.prod(other) == math.prod(shape))
    return [b.emit(f"{x}.reshape(-1, {tuple_text(b.shape(like)[1:])})")]


@step(4)
def permute(b):
    x = b.value(least=3)
    order = shuffled(b, range(1, len(b.shape(x))))
    return [b.emit(f"{x}.permute(0, {tuple_text(order)})")]


@step(4)
def transpose(b):
    x = b.value(least=3)
    return [b.emit(f"{x}.transpose({b.axis(x, bool)}, {b.axis(x, bool)})")]


@step(2)
def split_swap_merge(b):
    """An axis as a matrix, transposed in place: a fixed permutation of its positions."""
    x = b.value()
    axis = b.axis(x, lambda size: size in (4, 6, 8, 12))
    blocks = b.divisor(b.shape(x)[axis])
    cut = b.emit(f"{x}.unflatten({axis}, ({blocks}, -1))")
    return [b.emit(f"{cut}.transpose({axis}, {axis + 1}).flatten({axis}, {axis + 1})")]


@step(1)
def wrap(b):
    """A new axis of size one somewhere."""
    x = b.value(most=4)
    return [b.emit(f"{x}.unsqueeze({b.choose(*range(1, len(b.shape(x)) + 1))})")]


@step(1)
def unwrap(b):
    x = b.value(lambda shape: 1 in shape[1:], least=3)
    return [b.emit(f"{x}.squeeze({b.axis(x, lambda size: size == 1)})")]


@step(2)
def copies(b):
    """The same numbers along a new or longer axis."""
    x = b.value(most=4)
    axis, times = b.axis(x, bool), b.choose(2, 3)
    kind = b.choose("expand", "repeat", "interleave")
    if kind == "interleave":
        return [b.emit(f"{x}.repeat_interleave({times}, {axis})")]
    if kind == "repeat":
        return [b.emit(f"{x}.repeat({tuple_text(times if place == axis else 1 for place in range(len(b.shape(x))))})")]
    sizes = [-1] * len(b.shape(x))
    sizes.insert(axis, b.size())
    return [b.emit(f"{x}.unsqueeze({axis}).expand({tuple_text(sizes)})")]


@step(3)
def fold_into_batch(b):
    """An axis beside the batch for the length of one step."""
    x = b.value(least=3, most=4)
    rows, inner = b.shape(x)[1], b.shape(x)[-1]
    folded = b.emit(f"{x}.reshape(-1, {tuple_text(b.shape(x)[2:])})")
    mapped = b.emit(f"torch.tanh(F.linear({folded}, {b.parameter(b.size(), inner)}))")
    return [b.emit(f"{mapped}.reshape(-1, {rows}, {tuple_text(b.shape(mapped)[1:])})")]


@step(1)
def contiguous(b):
    x = b.value()
    return [b.emit(f"{x}.{b.choose('contiguous', 'clone')}()")]


@step(2)
def pointwise_view_of_parameter(b):
    """A parameter that is itself regrouped before it meets the value."""
    x = b.value(least=3)
    rows, columns = b.shape(x)[-2:]
    flat = b.choose("flat", "swapped")
    if flat == "flat":
        return [b.emit(f"{x} * {b.parameter(rows * columns)}.reshape({rows}, {columns})")]
    return [b.emit(f"{x} + {b.parameter(columns, rows)}.transpose(0, 1)")]
