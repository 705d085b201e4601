"""How a program begins and how it ends."""

import math

from tests.programs.builder import BATCH, SIZES


def begin(b):
    """Inputs and first layer: numbers mapped or as they are, an image, tokens."""
    first = b.choose(_features, _grid, _grid, _grid, _rows, _image, _tokens, _raw)(b)
    return first + b.choose(_features, _grid, _rows)(b) if b.rarely() else first


def _features(b):
    x = b.add_input(f"torch.randn({BATCH}, {b.choose(4, 3, 6)})")
    inner = b.shape(x)[1]
    return [b.emit(f"F.linear({x}, {b.fresh(b.size(), inner)})")]


def _grid(b):
    """A layer whose units are several axes at once."""
    x = b.add_input(f"torch.randn({BATCH}, 5)")
    sizes = [b.choose(*SIZES[:4]) for _ in range(b.choose(2, 3, 3, 4))]
    inner = b.emit(f"F.linear({x}, {b.fresh(math.prod(sizes), 5)})")
    return [b.emit(f"{inner}.reshape(-1, {', '.join(map(str, sizes))})")]


def _rows(b):
    x = b.add_input(f"torch.randn({BATCH}, {b.choose(2, 3, 4, 6)}, {b.choose(4, 3, 5)})")
    return [b.emit(f"F.linear({x}, {b.fresh(b.size(), b.shape(x)[-1])})")]


def _image(b):
    x = b.add_input(f"torch.randn({BATCH}, {b.choose(1, 2, 3)}, 4, 4)")
    return [b.emit(f"F.conv2d({x}, {b.fresh(b.size(), b.shape(x)[1], 3, 3)}, padding=1)")]


def _tokens(b):
    x = b.add_input(f"torch.randint(6, ({BATCH}, {b.choose(2, 3, 4)}))")
    width = b.size()
    return [b.emit(f"F.embedding({x}, {b.fresh(6, width)}) + {b.fresh(b.shape(x)[1], width)}")]


def _raw(b):
    x = b.add_input(f"torch.randn({BATCH}, {', '.join(str(b.size()) for _ in range(b.choose(1, 2)))})")
    return [b.emit(f"{x} * {b.fresh(*b.shape(x)[1:])}")]


def end(b):
    """Outputs: each leaf read in a way that sees the order of all its axes, or of none."""
    shapes = [b.shape(name) for name in b.leaves]
    readers = (_full, _full, _by_axes, _by_axes, _fixed, _average, _as_it_is, _symmetric)
    return [b.choose(*readers)(b, name, shape) for name, shape in zip(b.leaves, shapes, strict=True)]


def _full(b, name, shape):
    return b.emit(f"F.linear({name}.flatten(1), {b.parameter(b.choose(2, 3), math.prod(shape[1:]))})")


def _by_axes(b, name, shape):
    """One axis after the other, each by a vector or a matrix with a bend."""
    for size in reversed(shape[2:]):
        name = b.emit(f"torch.tanh({name} @ {b.parameter(size)})")
    return b.emit(f"{name} @ {b.parameter(shape[1], 2)}") if len(shape) > 1 else name


def _fixed(b, name, shape):
    """Weighed by constants, no two the same."""
    count = math.prod(shape[1:])
    return b.emit(f"({name}.flatten(1) * torch.arange({count}).cos()).sum(1)")


def _average(b, name, shape):
    if len(shape) < 3:
        return _full(b, name, shape)
    return b.emit(f"F.linear({name}.flatten(2).mean(2), {b.parameter(2, shape[1])})")


def _as_it_is(b, name, shape):
    return name


def _symmetric(b, name, shape):
    return b.emit(f"torch.tanh({name}).flatten(1).sum(1)")
