"""Steps that cut axes into pieces and join pieces into axes."""

from tests.programs.contraction import shuffled
from tests.programs.registry import step


def like(b, x, axis):
    """Return a value that can stand beside ``x`` along ``axis``; ``x`` itself if there is no other."""

    def fits(shape):
        own = b.shape(x)
        return len(shape) == len(own) and all(shape[place] == own[place] for place in range(len(own)) if place != axis)

    return b.value(fits)


@step(4)
def join(b):
    x = b.value()
    axis = b.axis(x, bool)
    parts = [x, *(like(b, x, axis) for _ in range(b.choose(1, 2)))]
    return [b.emit(f"torch.cat([{', '.join(shuffled(b, parts))}], {axis})")]


@step(1)
def join_with_weights(b):
    """A learnt token, or constant rows, beside the value."""
    x = b.value(least=3)
    axis = b.axis(x, bool)
    shape = [size if place != axis else b.choose(1, 2) for place, size in enumerate(b.shape(x))][1:]
    beside = b.parameter(*shape) if b.rarely(2) else b.constant(*shape)
    parts = shuffled(b, [x, f"{beside}.expand({x}.shape[0], {', '.join(['-1'] * len(shape))})"])
    return [b.emit(f"torch.cat([{', '.join(parts)}], {axis})")]


@step(2)
def stack(b):
    x = b.value(most=4)
    shape = b.shape(x)
    other = b.value(lambda candidate: candidate == shape)
    return [b.emit(f"torch.stack([{x}, {other}], {b.choose(*range(1, len(shape) + 1))})")]


@step(4)
def cut(b):
    """Pieces of one axis, all of them kept."""
    x = b.value()
    axis = b.axis(x, lambda size: size > 2)
    size = b.shape(x)[axis]
    first = b.choose(*range(1, size))
    if size % 2 == 0 and b.rarely(2):
        return b.emit(f"{x}.chunk(2, {axis})", 2)
    if size % 3 == 0 and b.rarely(2):
        return b.emit(f"{x}.tensor_split(3, {axis})", 3)
    return b.emit(f"{x}.split([{first}, {size - first}], {axis})", 2)


@step(2)
def cut_and_join(b):
    """Pieces in another order, or summed."""
    x = b.value()
    axis = b.axis(x, lambda size: size % 2 == 0)
    first, second = b.emit(f"{x}.chunk(2, {axis})", 2)
    kind = b.choose("gate", "swap", "negate", "sum", "stack")
    if kind == "stack":
        b.require(len(b.shape(x)) < 5)
        return [b.emit(f"torch.stack([{first}, {second}], {b.choose(axis, axis + 1)})")]
    forms = {
        "gate": f"{first} * torch.sigmoid({second})",
        "swap": f"torch.cat([{second}, {first}], {axis})",
        "negate": f"torch.cat([-{second}, {first}], {axis})",
        "sum": f"{first} + {second}",
    }
    return [b.emit(forms[kind])]


@step(2)
def cut_by_slices(b):
    """Two slices that cover an axis, perhaps with a common part or every other position each."""
    x = b.value()
    axis = b.axis(x, lambda size: size > 2)
    middle = b.choose(*range(1, b.shape(x)[axis]))
    ahead = ":, " * axis
    kind = b.choose("halves", "interleaved", "common")
    if kind == "interleaved":
        return [b.emit(f"{x}[{ahead}::2]"), b.emit(f"{x}[{ahead}1::2]")]
    return [b.emit(f"{x}[{ahead}:{middle}]"), b.emit(f"{x}[{ahead}{middle - (kind == 'common')}:]")]


@step(1)
def one_slice(b):
    x = b.value()
    axis = b.axis(x, lambda size: size > 2)
    last = b.shape(x)[axis]
    start, stop = b.choose(0, 1, last // 2), b.choose(last, last - 1)
    stride = b.choose(1, 1, 2, 3)
    if b.rarely():
        return [b.emit(f"{x}.narrow({axis}, {start}, {stop - start})")]
    return [b.emit(f"{x}[{':, ' * axis}{start}:{stop}:{stride}]")]


@step(2)
def select(b):
    x = b.value(least=3)
    axis = b.axis(x, bool)
    return [b.emit(f"{x}.select({axis}, {b.choose(0, b.shape(x)[axis] - 1)})")]


@step(3)
def unbind(b):
    """Slices along an axis, each on its own way or all summed."""
    x = b.value(lambda shape: any(1 < size < 5 for size in shape[1:]), least=3)
    axis = b.axis(x, lambda size: 1 < size < 5)
    names = b.emit(f"{x}.unbind({axis})", b.shape(x)[axis])
    kind = b.choose("apart", "sum", "product", "stack back")
    if kind == "apart":
        return names
    if kind == "stack back":
        return [b.emit(f"torch.stack([{', '.join(shuffled(b, names))}], {b.choose(axis, 1)})")]
    return [b.emit({"sum": " + ", "product": " * "}[kind].join(names))]


@step(3)
def pad(b):
    x = b.value()
    before, after = b.choose((0, 1), (2, 2), (3, 0), (-1, 1), (0, 2))
    b.require(before >= 0 or b.shape(x)[-1] > 2)
    ahead = (0, 0) if len(b.shape(x)) > 2 and b.rarely(2) else ()
    value = b.choose("", "", ", value=0.6")
    return [b.emit(f"F.pad({x}, {(*ahead, before, after)}{value})")]


@step(1)
def pad_by_content(b):
    x = b.value(lambda shape: shape[-1] > 2, least=3, most=3)
    return [b.emit(f"F.pad({x}, (1, 1), mode={b.choose('replicate', 'circular', 'reflect')!r})")]


@step(1)
def zero_padded_shortcut(b):
    """Channels are added as zeros, as between the stages of a residual network without projections."""
    x = b.value(least=3, most=4)
    channels, *space = b.shape(x)[1:]
    weight = b.parameter(2 * channels, channels, *[1] * len(space))
    wide = b.emit(f"F.conv{len(space)}d({x}, {weight})")
    extra = b.choose((0, channels), (channels // 2, channels - channels // 2))
    return [b.emit(f"{wide} + F.pad({x}, {(0, 0) * len(space) + extra})")]


@step(1)
def changed_in_place(b):
    x = b.value()
    axis = b.axis(x, lambda size: size > 2)
    copy = b.emit(f"{x}.clone()")
    ahead = ":, " * axis
    form = b.choose("piece", "every other", "one", "whole")
    if form == "piece":
        b.change(f"{copy}[{ahead}1:] = torch.tanh({x}[{ahead}:-1])")
    elif form == "every other":
        b.change(f"{copy}[{ahead}::2] *= 0.5")
    elif form == "one":
        b.change(f"{copy}[{ahead}-1] = 0.4")
    else:
        b.change(f"{copy}.add_({b.parameter(b.shape(x)[-1])}).mul_({x})")
    return [copy]


@step(1)
def write_into(b):
    """A piece of a value replaced by another."""
    x = b.value()
    shape = b.shape(x)
    axis = b.axis(x, lambda size: size > 2)
    other = b.emit(f"torch.tanh({x}.narrow({axis}, {b.choose(0, 1)}, 2))")
    start = b.choose(0, shape[axis] - 2)
    return [b.emit(f"torch.slice_scatter({x}, {other}, {axis}, {start}, {start + 2})")]
