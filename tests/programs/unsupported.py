"""Steps with operations for which there may be no rule: whatever they touch must be left in place."""

from tests.programs.registry import step


@step(1)
def fourier(b):
    x = b.value()
    return [b.emit(f"torch.fft.rfft({x}, dim={b.axis(x)}).abs()")]


@step(1)
def sorting(b):
    x = b.value()
    axis = b.axis(x)
    return [b.emit(b.choose(f"{x}.sort({axis}).values", f"{x}.topk(2, {axis}).values", f"{x}.median({axis}, True)[0]"))]


@step(1)
def running_product(b):
    x = b.value()
    return [b.emit(f"torch.{b.choose('cumprod', 'logcumsumexp')}(torch.tanh({x}) + 0.5, {b.axis(x)})")]


@step(1)
def running_maximum(b):
    x = b.value()
    return [b.emit(f"torch.cummax({x}, {b.axis(x)}).values")]


@step(1)
def gather(b):
    """Positions by a table of numbers."""
    x = b.value()
    size = b.shape(x)[-1]
    index = [b.choose(*range(size)) for _ in range(2)]
    return [b.emit(f"torch.gather({x}, -1, torch.tensor({index}).expand(*{x}.shape[:-1], 2))")]


@step(1)
def windows(b):
    x = b.value(lambda shape: shape[-1] > 2, most=4)
    return [b.emit(f"{x}.unfold(-1, 2, {b.choose(1, 2)})")]


@step(1)
def diagonal(b):
    x = b.value(lambda shape: shape[-1] == shape[-2], least=3)
    rank = len(b.shape(x))
    return [b.emit(f"{x}.diagonal(0, {rank - 2}, {rank - 1})")]


@step(1)
def diagonal_matrix(b):
    x = b.value(most=4)
    return [b.emit(f"torch.diag_embed({x})")]


@step(1)
def distances(b):
    x = b.value(least=3, most=3)
    return [b.emit(f"torch.cdist({x}, {x} + 1)")]


@step(1)
def inverse(b):
    x = b.value(lambda shape: shape[-1] < 7, least=3, most=3)
    size = b.shape(x)[-1]
    return [b.emit(f"torch.linalg.inv(torch.eye({size}) + torch.tanh({x}).transpose(1, 2) @ torch.tanh({x}))")]


@step(1)
def scattered(b):
    x = b.value(most=2)
    size = b.shape(x)[-1]
    index = [b.choose(*range(size)) for _ in range(size)]
    return [b.emit(f"torch.zeros_like({x}).index_add(1, torch.tensor({index}), {x})")]


@step(1)
def neighbours(b):
    x = b.value(least=3, most=4)
    return [b.emit(f"F.local_response_norm({x}, 3)")]


@step(1)
def kronecker(b):
    x = b.value(most=3)
    return [b.emit(f"torch.kron({x}.contiguous(), {b.parameter(*[1] * (len(b.shape(x)) - 1), 2)})")]


@step(1)
def complex_pairs(b):
    """Pairs of numbers turned as complex numbers, as in the first rotary embeddings."""
    x = b.value(lambda shape: shape[-1] % 2 == 0, most=4)
    pairs = b.emit(f"torch.view_as_complex({x}.unflatten(-1, (-1, 2)).contiguous())")
    turned = b.emit(f"{pairs} * torch.polar(torch.ones({b.shape(x)[-1] // 2}), torch.arange({b.shape(x)[-1] // 2}.0))")
    return [b.emit(f"torch.view_as_real({turned}).flatten(-2)")]


@step(1)
def median_of_parameter(b):
    """A weight that goes through an operation without a rule before it is used."""
    x = b.value()
    weight = b.parameter(b.size(), b.shape(x)[-1])
    return [b.emit(f"F.linear({x}, {weight}.sort(1).values)")]
