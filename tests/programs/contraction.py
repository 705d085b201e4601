"""Steps that sum products: linear layers, matrix products, einsum."""

from tests.programs.registry import step

LETTERS = "bijkl"


@step(10)
def linear(b):
    x = b.value()
    inner, outer = b.shape(x)[-1], b.size()
    bias = "" if b.rarely() else f", {b.parameter(outer)}"
    return [b.emit(f"F.linear({x}, {b.parameter(outer, inner)}{bias})")]


@step(3)
def composed_weight(b):
    """A weight that is itself computed: a product of thin ones, a symmetric one, a masked one, a choice of rows."""
    x = b.value()
    inner, outer, thin = b.shape(x)[-1], b.size(), b.choose(2, 3)
    form = b.choose("thin", "outer", "symmetric", "masked", "rows", "joined", "blocks", "two names", "gram")
    if form == "thin":
        weight = f"{b.parameter(outer, thin)} @ {b.parameter(thin, inner)}"
    elif form == "outer":
        weight = f"torch.outer({b.parameter(outer)}, {b.parameter(inner)})"
    elif form == "symmetric":
        square = b.parameter(inner, inner)
        weight = f"{square} + {square}.T"
    elif form == "masked":
        weight = f"{b.parameter(outer, inner)} * {b.constant(outer, inner)}"
    elif form == "rows":
        weight = f"{b.parameter(outer, inner)}[{[b.choose(*range(outer)) for _ in range(b.size())]}]"
    elif form == "joined":
        weight = f"torch.cat([{b.parameter(outer, inner)}, {b.parameter(b.size(), inner)}])"
    elif form == "blocks":
        b.require(inner % 2 == 0)
        weight = f"torch.block_diag({b.parameter(outer, inner // 2)}, {b.parameter(thin, inner // 2)})"
    elif form == "two names":
        weight = b.alias()
        b.require(b.shape(weight)[1:] == (inner,))
    else:
        factors = b.parameter(thin, inner)
        weight = f"{factors}.T @ {factors}"
    return [b.emit(f"F.linear({x}, {weight})")]


@step(1)
def experts(b):
    """Matrices of several experts, weighed by a gate."""
    x = b.value()
    inner, count = b.shape(x)[-1], b.choose(2, 3)
    gate = b.emit(f"torch.softmax(F.linear({x}, {b.parameter(count, inner)}), -1)")
    return [b.emit(f"torch.einsum('b...e,eoi,b...i->b...o', {gate}, {b.parameter(count, b.size(), inner)}, {x})")]


@step(2)
def matrix(b):
    x = b.value()
    return [b.emit(f"{x} @ {b.parameter(b.shape(x)[-1], b.size())}")]


@step(2)
def mix_rows(b):
    """A matrix from the left, perhaps one for each index of the axis before it."""
    x = b.value(least=3)
    *ahead, rows, _ = b.shape(x)
    own = (ahead[-1],) if len(ahead) > 1 and b.rarely(2) else ()
    return [b.emit(f"{b.parameter(*own, b.size(), rows)} @ {x}")]


@step(2)
def there_and_back(b):
    """A matrix and its transpose, as in tied autoencoders."""
    x = b.value()
    weight = b.parameter(b.size(), b.shape(x)[-1])
    hidden = b.emit(f"torch.tanh(F.linear({x}, {weight}))")
    return [b.emit(f"F.linear({hidden}, {weight}.transpose(0, 1))")]


@step(4)
def einsum_with_parameter(b):
    """Some axes are summed, some kept beside the sum, and new ones made."""
    x = b.value(least=3, most=4)
    shape = b.shape(x)
    letters = LETTERS[: len(shape)]
    sizes = {**dict(zip(letters, shape, strict=True)), "m": b.size()}
    roles = {letter: b.choose("summed", "beside", "absent") for letter in letters[1:]}
    roles["m"] = b.choose("new", "new", "unused")
    kept = b.require([letter for letter, role in roles.items() if role not in ("summed", "unused")])
    seen = b.require([letter for letter, role in roles.items() if role in ("summed", "beside", "new")])
    order = "".join(shuffled(b, seen))
    weight = b.parameter(*(sizes[letter] for letter in order))
    return [b.emit(f"torch.einsum('{letters},{order}->b{''.join(shuffled(b, kept))}', {x}, {weight})")]


def shuffled(b, items):
    """Return the items in a chosen order."""
    items, result = list(items), []
    while items:
        result.append(items.pop(items.index(b.choose(*items))))
    return result


@step(3)
def einsum_of_values(b):
    """Two values of the batch: axes of equal size may be one index."""
    x, y = b.value(most=4), b.value(most=4)
    left = LETTERS[: len(b.shape(x))]
    sizes = dict(zip(left, b.shape(x), strict=True))
    right, free = "b", list(left[1:])
    for place, size in enumerate(b.shape(y)[1:]):
        same = [letter for letter in free if sizes[letter] == size]
        letter = b.choose(*same, "mnop"[place])
        free = [other for other in free if other != letter]
        sizes[letter] = size
        right += letter
    letters = [letter for letter in dict.fromkeys(left + right) if letter != "b"]
    kept = shuffled(b, [letter for letter in letters if b.rarely(2)])
    b.require(0 < len(kept) < 5)
    return [b.emit(f"torch.einsum('{left},{right}->b{''.join(kept)}', {x}, {y})")]


@step(2)
def gram(b):
    """Inner products of a value's rows or columns with each other."""
    x = b.value(least=3)
    turned = b.emit(f"{x}.transpose(-1, -2)")
    product = f"{x} @ {turned}" if b.rarely(2) else f"{turned} @ {x}"
    return [b.emit(f"({product}) / {b.shape(x)[-1]}")]


@step(2)
def mix_by_itself(b):
    """Attention without projections."""
    x = b.value(least=3)
    place = b.choose(-1, -2)
    scores = b.emit(f"torch.softmax({x} @ {x}.transpose(-1, -2), {place})")
    return [b.emit(f"{scores} @ {x}")]


@step(1)
def outer_product(b):
    x, y = b.value(most=2), b.value(most=2)
    return [b.emit(f"{x}[:, :, None] * {y}[:, None, :]")]


@step(1)
def bilinear(b):
    x, y = b.value(most=2), b.value(most=2)
    weight = b.parameter(b.size(), b.shape(x)[-1], b.shape(y)[-1])
    return [b.emit(f"F.bilinear({x}, {y}, {weight})")]


@step(2)
def batched_product(b):
    """The same slices of two values, multiplied as matrices after one of the batch axes is folded in."""
    x = b.value(least=4, most=4)
    _, blocks, _, columns = b.shape(x)
    folded = b.emit(f"{x}.flatten(0, 1)")
    if b.rarely(2):
        other = f"{folded}.transpose(1, 2)"
    else:
        other = f"{b.parameter(columns, b.size())}.expand({folded}.shape[0], -1, -1)"
    product = b.emit(f"torch.bmm({folded}, {other})")
    return [b.emit(f"{product}.unflatten(0, (-1, {blocks}))")]


@step(1)
def biased_batched_product(b):
    x = b.value(least=3, most=3)
    _, rows, columns = b.shape(x)
    width = b.size()
    bias = b.parameter(*b.choose((1, 1, width), (1, rows, 1), (1, rows, width)))
    weight = b.parameter(columns, width)
    return [b.emit(f"torch.baddbmm({bias}, {x}, {weight}.expand({x}.shape[0], -1, -1), alpha=0.5)")]


@step(1)
def added_product(b):
    x = b.value(most=2)
    width = b.size()
    return [b.emit(f"torch.addmm({b.parameter(width)}, {x}, {b.parameter(b.shape(x)[1], width)}, beta=0.5)")]


@step(1)
def tensordot(b):
    """Contract two axes at once."""
    x = b.value(least=3)
    shape = b.shape(x)
    first = b.choose(*range(1, len(shape) - 1))
    weight = b.parameter(shape[first], shape[first + 1], b.size())
    return [b.emit(f"torch.tensordot({x}, {weight}, dims=([{first}, {first + 1}], [0, 1]))")]
