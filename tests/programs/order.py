"""Steps that see the order of an axis: what they touch must stay in place, or move with them."""

from tests.programs.registry import step
from tests.programs.views import tuple_text


@step(2)
def flip(b):
    x = b.value()
    return [b.emit(f"{x}.flip({b.axis(x)})")]


@step(1)
def roll(b):
    x = b.value()
    axis = b.axis(x)
    return [b.emit(f"{x}.roll({b.choose(1, b.shape(x)[axis] // 2)}, {axis})")]


@step(2)
def residual_with_itself_moved(b):
    x = b.value()
    axis = b.axis(x)
    moved = b.choose(f"{x}.flip({axis})", f"{x}.roll(1, {axis})")
    return [b.emit(f"{x} {b.choose('+', '*')} {moved}")]


@step(3)
def residual_with_itself_transposed(b):
    """Two axes of one size get one label."""
    x = b.value(lambda shape: len(set(shape[1:])) < len(shape) - 1, least=3)
    shape = b.shape(x)
    first = b.axis(x, lambda size: shape[1:].count(size) > 1)
    same = [place for place in range(1, len(shape)) if place != first and shape[place] == shape[first]]
    return [b.emit(f"{x} {b.choose('+', '*')} 0.5 * {x}.transpose({first}, {b.choose(*same)})")]


@step(1)
def running_sum(b):
    x = b.value()
    return [b.emit(f"{x}.cumsum({b.axis(x)})")]


@step(1)
def triangle(b):
    x = b.value(lambda shape: shape[-1] > 1 and shape[-2] > 1, least=3)
    return [b.emit(f"{x}.{b.choose('tril', 'triu')}()")]


@step(1)
def triangle_of_parameter(b):
    """A learnt causal mixing of rows."""
    x = b.value(least=3)
    rows = b.shape(x)[-2]
    return [b.emit(f"torch.tril({b.parameter(rows, rows)}) @ {x}")]


@step(2)
def constant_index(b):
    """Positions by number: some twice, some never, or all in another order."""
    x = b.value()
    axis = b.axis(x)
    size = b.shape(x)[axis]
    count = b.choose(size, 2)
    index = [b.choose(*range(size)) for _ in range(count)]
    form = b.choose("index", "select", "buffer")
    if form == "buffer":
        return [b.emit(f"{x}.index_select({axis}, {b.member('b', f'torch.tensor({index})')})")]
    if form == "select":
        return [b.emit(f"{x}.index_select({axis}, torch.tensor({index}))")]
    return [b.emit(f"{x}[{':, ' * axis}{index}]")]


@step(1)
def rotate(b):
    """Two axes turned by a quarter."""
    x = b.value(least=3)
    rank = len(b.shape(x))
    return [b.emit(f"torch.rot90({x}, 1, ({rank - 2}, {rank - 1}))")]


@step(1)
def positions(b):
    """A table of positions, learnt or fixed, added or multiplied."""
    x = b.value(least=3)
    rows, columns = b.shape(x)[-2:]
    table = b.choose("learnt", "waves", "index")
    if table == "learnt":
        return [b.emit(f"{x} + F.embedding(torch.arange({rows}), {b.parameter(rows + 1, columns)})")]
    if table == "index":
        return [b.emit(f"{x} * torch.arange({columns}).add(1)")]
    return [b.emit(f"{x} + torch.outer(torch.arange({rows}.0), torch.arange({columns}.0)).sin()")]


@step(1)
def asymmetric_constant(b):
    x = b.value()
    shape = [b.choose(size, 1) for size in b.shape(x)[1:]]
    return [b.emit(f"{x} {b.choose('+', '*')} {b.constant(*shape)}")]


@step(1)
def mask(b):
    x = b.value(lambda shape: shape[-1] > 1 and shape[-2] > 1, least=3)
    rows, columns = b.shape(x)[-2:]
    return [b.emit(f"{x}.masked_fill(torch.ones({tuple_text((rows, columns))}).tril() == 0, 0.3)")]
