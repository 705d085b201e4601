"""Steps that normalise or reduce."""

from tests.programs.registry import step


def _affine(b, shape):
    """Text of a weight and a bias, of a weight alone, or of neither."""
    kind = b.choose("both", "both", "weight", "none")
    if kind == "none":
        return "None, None"
    weight = b.parameter(*shape)
    return f"{weight}, {b.parameter(*shape) if kind == 'both' else None}"


@step(4)
def layer_norm(b):
    x = b.value()
    shape = b.shape(x)[-b.choose(*range(1, len(b.shape(x)))) :]
    return [b.emit(f"F.layer_norm({x}, {shape}, {_affine(b, shape)})")]


@step(1)
def rms_norm(b):
    x = b.value()
    shape = b.shape(x)[-b.choose(*range(1, len(b.shape(x)))) :]
    weight = None if b.rarely() else b.parameter(*shape)
    return [b.emit(f"F.rms_norm({x}, {shape}, {weight})")]


@step(3)
def group_norm(b):
    x = b.value(lambda shape: len(shape) > 2 or shape[1] > 3)
    channels = b.shape(x)[1]
    groups = b.choose(1, *(number for number in range(2, channels + 1) if channels % number == 0))
    b.require(len(b.shape(x)) > 2 or groups < channels)
    return [b.emit(f"F.group_norm({x}, {groups}, {_affine(b, (channels,))})")]


@step(3)
def batch_norm(b):
    x = b.value()
    channels = b.shape(x)[1]
    statistics = f"{b.member('b', f'torch.randn({channels})')}, {b.positive(channels)}"
    return [b.emit(f"F.batch_norm({x}, {statistics}, {_affine(b, (channels,))})")]


@step(1)
def instance_norm(b):
    x = b.value(lambda shape: max(shape[2:]) > 1, least=3)
    return [b.emit(f"F.instance_norm({x}, None, None, {_affine(b, (b.shape(x)[1],))})")]


@step(1)
def standardised_by_hand(b):
    x = b.value()
    axis = b.axis(x)
    centred = b.emit(f"{x} - {x}.mean({axis}, keepdim=True)")
    spread = b.choose(f"{x}.var({axis}, keepdim=True)", f"({centred} ** 2).mean({axis}, keepdim=True)")
    return [b.emit(f"{centred} / ({spread} + 0.1).sqrt()")]


@step(1)
def unit_length(b):
    x = b.value()
    return [b.emit(f"F.normalize({x}, dim={b.axis(x)}, eps=0.1)")]


@step(3)
def softmax(b):
    x = b.value()
    axis = b.axis(x)
    return [b.emit(f"torch.{b.choose('softmax', 'log_softmax')}({x}, {axis}) * {b.shape(x)[axis]}")]


@step(1)
def statistics(b):
    """Both results of an operation that has two."""
    x = b.value(least=3)
    shape = b.shape(x)
    if b.rarely(2):
        places = tuple(place for place in range(1, len(shape)) if b.rarely(2)) or (len(shape) - 1,)
        b.require(len(places) < len(shape) - 1)
        return b.emit(f"torch.var_mean({x}, {places}, correction=0)", 2)
    normal, mean, scale = b.emit(f"torch.native_layer_norm({x}, {shape[-1:]}, None, None, 1e-3)", 3)
    return [normal, b.emit(f"{mean} * {scale}")]


@step(1)
def standardised_weight(b):
    """A linear layer whose weight is normalised first, as in weight standardisation or spectral forms."""
    x = b.value()
    weight = b.parameter(b.size(), b.shape(x)[-1])
    norm = b.choose(f"{weight}.norm(dim={b.choose(0, 1)}, keepdim=True)", f"{weight}.abs().sum()")
    return [b.emit(f"F.linear({x}, {weight} / ({norm} + 0.1))")]


@step(4)
def reduction(b):
    x = b.value(least=3)
    places = tuple(place for place in range(1, len(b.shape(x))) if b.rarely(2)) or (b.axis(x, bool),)
    keep = b.choose(False, True)
    b.require(keep or len(places) < len(b.shape(x)) - 1)
    return [b.emit(f"{x}.{b.choose('mean', 'sum', 'amax', 'amin', 'logsumexp')}({places}, keepdim={keep})")]


@step(1)
def spread(b):
    x = b.value(least=3)
    axis = b.axis(x)
    return [b.emit(f"{x}.{b.choose('var', 'std', 'norm', 'prod')}(dim={axis}, keepdim={b.choose(False, True)})")]


@step(1)
def largest(b):
    """The maximum along an axis, as a method that also returns its place."""
    x = b.value(least=3)
    return [b.emit(f"{x}.{b.choose('max', 'min')}({b.axis(x)}).values")]


@step(2)
def gate_by_mean(b):
    """Squeeze and excite."""
    x = b.value()
    axis = b.axis(x)
    mean = f"{x}.{b.choose('mean', 'amax')}({axis}, keepdim=True)"
    return [b.emit(f"{x} {b.choose('* torch.sigmoid', '-', '+')}({mean})")]


@step(1)
def squeeze_excite(b):
    """Channels weighed by a small network of their means."""
    x = b.value(least=3, most=4)
    channels, hidden = b.shape(x)[1], b.size()
    means = b.emit(f"{x}.flatten(2).mean(2)")
    inner = b.emit(f"torch.relu(F.linear({means}, {b.parameter(hidden, channels)}))")
    gate = b.emit(f"torch.sigmoid(F.linear({inner}, {b.parameter(channels, hidden)}))")
    return [b.emit(f"{x} * {gate}.reshape(-1, {channels}, {', '.join('1' * (len(b.shape(x)) - 2))})")]
