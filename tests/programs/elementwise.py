"""Steps that treat all positions alike, and broadcasting."""

from tests.programs.contraction import shuffled
from tests.programs.registry import step

FUNCTIONS = (
    "torch.relu({})",
    "torch.tanh({})",
    "F.gelu({})",
    "F.silu({})",
    "torch.sigmoid({}) - 0.4",
    "F.hardswish({})",
    "F.elu({})",
    "F.leaky_relu({}, 0.2)",
    "{}.clamp(-1, 1.5)",
    "{}.abs()",
    "torch.where({0} > 0, {0}, 0.3 * {0})",
    "{} ** 2",
    "torch.exp(torch.tanh({}))",
    "torch.sin({})",
    "F.softplus({})",
    "F.dropout({}, 0.5, False)",
    "torch.maximum({0}, 0.2 - {0})",
)


@step(9)
def function(b):
    x = b.value()
    return [b.emit(b.choose(*FUNCTIONS).format(x))]


@step(1)
def prelu(b):
    x = b.value()
    return [b.emit(f"F.prelu({x}, {b.parameter(b.choose(b.shape(x)[1], 1))})")]


@step(1)
def gated_halves(b):
    x = b.value()
    return [b.emit(f"F.glu({x}, {b.axis(x, lambda size: size % 2 == 0)})")]


@step(6)
def scale_or_shift(b):
    """A parameter that spans some of the axes."""
    x = b.value()
    shape = [size if b.rarely(2) else 1 for size in b.shape(x)[1:]]
    if max(shape) == 1:
        shape[b.choose(*range(len(shape)))] = 0
        shape = [size or own for size, own in zip(shape, b.shape(x)[1:], strict=True)]
    while shape[0] == 1 and len(shape) > 1 and b.rarely(2):
        shape.pop(0)
    return [b.emit(f"{x} {b.choose('*', '+', '-')} {b.parameter(*shape)}")]


@step(2)
def function_of_parameter(b):
    """Bounded weights: the parameter itself goes through a function first."""
    x = b.value()
    shape = b.shape(x)[-b.choose(*range(1, len(b.shape(x)))) :]
    form = b.choose("torch.sigmoid({})", "torch.softmax({}, -1)", "({} - {}.mean())", "F.softplus({})")
    weight = b.parameter(*shape)
    return [b.emit(f"{x} * {form.format(weight, weight)}")]


@step(4)
def residual(b):
    """Two values of one shape, perhaps one and the same."""
    x = b.value()
    shape = b.shape(x)
    y = b.value(lambda other: other == shape)
    return [b.emit(f"{x} + torch.tanh({y})" if x == y else f"{x} {b.choose('+', '*', '-')} {y}")]


@step(3)
def residual_block(b):
    x = b.value()
    width, hidden = b.shape(x)[-1], b.size()
    inner = b.emit(f"torch.relu(F.linear({x}, {b.parameter(hidden, width)}))")
    return [b.emit(f"{x} + F.linear({inner}, {b.parameter(width, hidden)})")]


@step(2)
def gated_block(b):
    """The feed-forward block of recent transformers."""
    x = b.value()
    width, hidden = b.shape(x)[-1], b.size()
    gate = b.emit(f"F.silu(F.linear({x}, {b.parameter(hidden, width)}))")
    up = b.emit(f"F.linear({x}, {b.parameter(hidden, width)})")
    return [b.emit(f"F.linear({gate} * {up}, {b.parameter(width, hidden)})")]


@step(2)
def residual_after_permute(b):
    """A value beside itself with its axes in another order, where the sizes agree."""
    x = b.value(least=3)
    shape = b.shape(x)
    order = shuffled(b, range(1, len(shape)))
    b.require(tuple(shape[place] for place in order) == shape[1:] and order != sorted(order))
    return [b.emit(f"{x} + 0.5 * {x}.permute(0, {', '.join(map(str, order))})")]


@step(2)
def broadcast_values(b):
    """Values of unequal rank or with axes of size one."""
    x, y = b.value(), b.value()
    long, short = sorted((b.shape(x), b.shape(y)), key=len, reverse=True)
    tail = short[1:]
    b.require(long != short)
    b.require(all(1 in pair or len(set(pair)) == 1 for pair in zip(long[len(long) - len(tail) :], tail, strict=True)))
    thin = y if b.shape(y) == short else x
    thick = x if thin == y else y
    ones = ", 1" * (len(long) - len(short))
    rest = "".join(f", {size}" for size in tail)
    return [b.emit(f"{thick} * torch.tanh({thin}.reshape(-1{ones}{rest}))")]


@step(1)
def three_operands(b):
    x = b.value()
    shape = b.shape(x)
    y, z = (b.value(lambda other: other == shape) for _ in range(2))
    weight = b.parameter(*shape[1:])
    return [b.emit(b.choose(f"torch.lerp({x}, {y}, {weight})", f"torch.addcmul({x}, {y}, {z})", f"{x} * {y} * {z}"))]


@step(1)
def centred_over_batch(b):
    x = b.value()
    return [b.emit(f"{x} - {x}.mean(0, keepdim=True)")]


@step(1)
def whole_average(b):
    x = b.value()
    places = tuple(range(1, len(b.shape(x))))
    return [b.emit(f"{x} {b.choose('+', '-')} {x}.mean({places}, keepdim=True)")]
