"""Steps that slide: convolutions, pooling, resampling."""

from tests.programs.registry import step


@step(5)
def convolution(b):
    """Any number of groups, any stride, one to three spatial axes."""
    x = b.value(least=3, most=5)
    channels, *space = b.shape(x)[1:]
    groups = b.choose(1, *(number for number in range(2, channels + 1) if channels % number == 0))
    outgoing = groups * b.choose(1, 2, 3) if groups > 1 else b.size()
    kernel = [b.choose(1, 3) for _ in space]
    bias = f", {b.parameter(outgoing)}" if b.rarely(2) else ", None"
    weight = b.parameter(outgoing, channels // groups, *kernel)
    padding = tuple(side // 2 for side in kernel)
    stride = b.choose(1, 1, 2)
    return [b.emit(f"F.conv{len(space)}d({x}, {weight}{bias}, padding={padding}, stride={stride}, groups={groups})")]


@step(2)
def transposed_convolution(b):
    x = b.value(least=3, most=4)
    channels, *space = b.shape(x)[1:]
    groups = b.choose(1, *(number for number in range(2, channels + 1) if channels % number == 0))
    outgoing = b.choose(1, 2, 3) if groups > 1 else b.size()
    stride = b.choose(1, 2)
    bias = b.parameter(groups * outgoing) if b.rarely(2) else None
    weight = b.parameter(channels, outgoing, *[stride] * len(space))
    function = f"F.conv_transpose{len(space)}d"
    return [b.emit(f"{function}({x}, {weight}, {bias}, stride={stride}, groups={groups})")]


@step(1)
def channel_shuffle(b):
    x = b.value(lambda shape: shape[1] in (4, 6, 8, 12), least=3, most=4)
    groups = b.divisor(b.shape(x)[1])
    if b.rarely(2):
        return [b.emit(f"{x}.unflatten(1, ({groups}, -1)).transpose(1, 2).flatten(1, 2)")]
    b.require(len(b.shape(x)) == 4)
    return [b.emit(f"F.channel_shuffle({x}, {groups})")]


@step(2)
def pooling(b):
    x = b.value(lambda shape: min(shape[2:]) > 1, least=3, most=4)
    count = len(b.shape(x)) - 2
    kind = b.choose("avg_pool", "max_pool")
    if b.rarely(3):
        return [b.emit(f"F.adaptive_avg_pool{count}d({x}, 2)")]
    return [b.emit(f"F.{kind}{count}d({x}, 2)")]


@step(1)
def resampling(b):
    x = b.value(least=3, most=4)
    smooth = {3: "linear", 4: "bilinear"}[len(b.shape(x))]
    return [b.emit(f"F.interpolate({x}, scale_factor=2.0, mode={b.choose('nearest', smooth)!r})")]


@step(1)
def pixel_shuffle(b):
    x = b.value(lambda shape: shape[1] % 4 == 0, least=4, most=4)
    return [b.emit(f"F.pixel_shuffle({x}, 2)")]


@step(1)
def pixel_unshuffle(b):
    x = b.value(lambda shape: shape[2] % 2 == shape[3] % 2 == 0, least=4, most=4)
    return [b.emit(f"F.pixel_unshuffle({x}, 2)")]


@step(1)
def patches(b):
    """Windows of an image become rows, as in hand-written vision transformers."""
    x = b.value(lambda shape: shape[2] % 2 == shape[3] % 2 == 0, least=4, most=4)
    cut = b.emit(f"{x}.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))")
    order = b.choose((0, 2, 4, 1, 3, 5), (0, 2, 4, 3, 5, 1), (0, 1, 2, 4, 3, 5))
    return [b.emit(f"{cut}.permute{order}.flatten(3).flatten(1, 2)")]


@step(1)
def convolution_after_matrix(b):
    """Columns of the image as features: unfold, then a matrix."""
    x = b.value(lambda shape: min(shape[2:]) > 1, least=4, most=4)
    columns = b.emit(f"F.unfold({x}, 2)")
    return [b.emit(f"{b.parameter(b.size(), b.shape(columns)[1])} @ {columns}")]
