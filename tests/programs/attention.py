"""Attention in its many layouts: fused or separate projections, shared key heads, rotary embeddings, masks."""

from tests.programs.registry import step


@step(5)
def attention(b):
    """Heads of queries, keys and values from linear layers, merged by another."""
    x = b.value(lambda shape: shape[1] <= 6, least=3, most=3)
    heads, inside = b.choose(2, 3, 4), b.choose(2, 3, 4)
    query, key, value = b.choose(_fused, _separate, _shared_heads, _crossed)(b, x, heads, inside)
    if b.rarely():
        query, key = _rotated(b, query), _rotated(b, key)
    mixed = b.choose(_by_function, _by_hand)(b, query, key, value)
    merged = b.emit(f"{mixed}.transpose(1, 2).flatten(2)")
    width = b.shape(x)[-1]
    out = b.emit(f"F.linear({merged}, {b.parameter(width, heads * inside)})")
    return [b.emit(f"{x} + {out}")] if b.rarely(2) else [out]


def _fused(b, x, heads, inside):
    """One projection, cut in three in one of the usual ways."""
    wide = b.emit(f"F.linear({x}, {b.parameter(3 * heads * inside, b.shape(x)[-1])})")
    layout = b.choose("three first", "chunks", "heads first", "inside first")
    if layout == "three first":
        wide = b.emit(f"{wide}.unflatten(-1, (3, {heads}, {inside}))")
        return b.emit(f"{wide}.permute(2, 0, 3, 1, 4).unbind(0)", 3)
    if layout == "chunks":
        return [_heads(b, part, heads) for part in b.emit(f"{wide}.chunk(3, -1)", 3)]
    if layout == "heads first":
        wide = b.emit(f"{wide}.unflatten(-1, ({heads}, {3 * inside})).transpose(1, 2)")
        return b.emit(f"{wide}.chunk(3, -1)", 3)
    wide = b.emit(f"{wide}.unflatten(-1, ({inside}, 3, {heads})).permute(3, 0, 4, 1, 2)")
    return b.emit(f"{wide}.unbind(0)", 3)


def _heads(b, name, heads):
    return b.emit(f"{name}.unflatten(-1, ({heads}, -1)).transpose(1, 2)")


def _separate(b, x, heads, inside):
    shape = heads * inside, b.shape(x)[-1]
    return [_heads(b, b.emit(f"F.linear({x}, {b.parameter(*shape)})"), heads) for _ in range(3)]


def _shared_heads(b, x, heads, inside):
    """Grouped-query attention: fewer heads of keys and values, each repeated."""
    few = b.choose(*(number for number in (1, 2, heads) if heads % number == 0))
    width = b.shape(x)[-1]
    query = _heads(b, b.emit(f"F.linear({x}, {b.parameter(heads * inside, width)})"), heads)
    pair = []
    for _ in range(2):
        thin = _heads(b, b.emit(f"F.linear({x}, {b.parameter(few * inside, width)})"), few)
        pair.append(_repeated(b, thin, heads // few))
    return [query, *pair]


def _crossed(b, x, heads, inside):
    """Keys and values from another value, or each from its own."""
    query = _heads(b, b.emit(f"F.linear({x}, {b.parameter(heads * inside, b.shape(x)[-1])})"), heads)
    y = b.value(lambda shape: shape[1] <= 6, least=3, most=3)
    rows = b.shape(y)[1]
    z = b.value(lambda shape: shape[1] == rows, least=3, most=3)
    pair = [b.emit(f"F.linear({name}, {b.parameter(heads * inside, b.shape(name)[-1])})") for name in (y, z)]
    return [query, *(_heads(b, name, heads) for name in pair)]


def _repeated(b, name, times):
    if b.rarely(2):
        return b.emit(f"{name}.repeat_interleave({times}, 1)")
    return b.emit(f"{name}[:, :, None].expand(-1, -1, {times}, -1, -1).flatten(1, 2)")


def _rotated(b, name):
    """Rotary embedding: halves exchanged, one with its sign changed, weighed by position."""
    b.require(b.shape(name)[-1] % 2 == 0)
    rows, inside = b.shape(name)[-2:]
    first, second = b.emit(f"{name}.chunk(2, -1)", 2)
    angles = b.emit(f"torch.linspace(0, 1, {rows * inside // 2}).reshape({rows}, {inside // 2}).repeat(1, 2)")
    return b.emit(f"{name} * {angles}.cos() + torch.cat([-{second}, {first}], -1) * {angles}.sin()")


def _by_function(b, query, key, value):
    causal = ", is_causal=True" if b.rarely(3) else ""
    return b.emit(f"F.scaled_dot_product_attention({query}, {key}, {value}{causal})")


def _by_hand(b, query, key, value):
    if b.rarely(2):
        scores = b.emit(f"torch.einsum('bhid,bhjd->bhij', {query}, {key})")
    else:
        scores = b.emit(f"{query} @ {key}.transpose(-1, -2) * 0.5")
    rows, columns = b.shape(scores)[-2:]
    if b.rarely():
        scores = b.emit(f"{scores} + {b.parameter(b.shape(scores)[1], 1, 1)} * torch.arange({columns})")
    if b.rarely():
        scores = b.emit(f"{scores}.masked_fill(torch.ones({rows}, {columns}).triu(1) > 0, -9.0)")
    weights = b.emit(f"torch.softmax({scores}, -1)")
    return b.emit(f"{weights} @ {value}")


@step(1)
def grouped_attention_by_function(b):
    """The fused function with fewer heads of keys and values."""
    x = b.value(lambda shape: shape[1] <= 6, least=3, most=3)
    width, inside = b.shape(x)[-1], b.choose(2, 3)
    query = _heads(b, b.emit(f"F.linear({x}, {b.parameter(4 * inside, width)})"), 4)
    key, value = (_heads(b, b.emit(f"F.linear({x}, {b.parameter(2 * inside, width)})"), 2) for _ in range(2))
    mixed = b.emit(f"F.scaled_dot_product_attention({query}, {key}, {value}, enable_gqa=True)")
    return [b.emit(f"{mixed}.transpose(1, 2).flatten(2)")]


@step(2)
def attention_without_projections(b):
    """Values as queries, keys and values of the fused function."""
    x = b.value(lambda shape: shape[-1] <= 8 and shape[-2] <= 8, least=3, most=4)
    shape = b.shape(x)
    key = b.value(lambda other: other[:-2] == shape[:-2] and other[-1] == shape[-1], least=len(shape), most=len(shape))
    rows = b.shape(key)[-2]
    value = b.value(lambda other: other[:-2] == shape[:-2] and other[-2] == rows, least=len(shape), most=len(shape))
    return [b.emit(f"F.scaled_dot_product_attention({x}, {key}, {value}, is_causal={b.choose(False, False, True)})")]


@step(1)
def encoder_layer(b):
    x = b.value(lambda shape: shape[1] <= 6 and shape[2] in (2, 4, 6), least=3, most=3)
    first = b.choose(False, True)
    layer = f"nn.TransformerEncoderLayer({b.shape(x)[-1]}, 2, {b.size()}, batch_first=True, norm_first={first})"
    return [b.emit(f"{b.member('m', layer)}.eval()({x})")]


@step(1)
def attention_with_mask(b):
    """A parameter or a constant added to the scores inside the fused function."""
    x = b.value(lambda shape: shape[1] <= 6, least=3, most=3)
    heads, rows = b.choose(2, 3), b.shape(x)[1]
    parts = [_heads(b, b.emit(f"F.linear({x}, {b.parameter(heads * 2, b.shape(x)[-1])})"), heads) for _ in range(3)]
    shape = b.choose((rows, rows), (heads, rows, rows), (heads, 1, rows))
    mask = b.parameter(*shape) if b.rarely(2) else b.constant(*shape)
    mask = b.emit(f"{mask}.expand({heads}, {rows}, {rows}).type_as({x})")
    return [b.emit(f"F.scaled_dot_product_attention({', '.join(parts)}, attn_mask={mask})")]


@step(1)
def attention_across_heads(b):
    """Coordinates of heads that are mixed by their own matrices before and after."""
    x = b.value(lambda shape: shape[1] <= 6, least=3, most=3)
    heads, inside = b.choose(2, 3, 4), b.choose(2, 3, 4)
    name = b.emit(f"F.linear({x}, {b.parameter(heads * inside, b.shape(x)[-1])}).unflatten(-1, ({heads}, {inside}))")
    weight = b.parameter(heads, inside, b.choose(2, 3, 4))
    return [b.emit(f"torch.einsum('bthd,hde->b{b.choose('the', 'hte', 'eth')}', {name}, {weight})")]


@step(1)
def attention_module(b):
    x = b.value(lambda shape: shape[1] <= 6 and shape[2] % 2 == 0, least=3, most=3)
    module = b.member("m", f"nn.MultiheadAttention({b.shape(x)[-1]}, 2, batch_first=True)")
    return [b.emit(f"{module}({x}, {x}, {x}, need_weights=False)[0]")]
