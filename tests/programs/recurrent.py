"""Steps that carry a state along an axis, and the layers that torch has for it."""

from tests.programs.registry import step


def sequence(b):
    """Return a value [batch, 2 to 4 steps, features]."""
    return b.value(lambda shape: 1 < shape[1] < 5, least=3, most=3)


@step(2)
def recurrent_module(b):
    x = sequence(b)
    hidden = b.size()
    module = b.member("m", f"nn.{b.choose('RNN', 'GRU', 'LSTM')}({b.shape(x)[-1]}, {hidden}, batch_first=True)")
    return [b.emit(f"{module}({x})[0]")]


@step(1)
def recurrent_cell(b):
    x = b.value(most=2)
    kind = b.choose("GRUCell", "LSTMCell")
    module = b.member("m", f"nn.{kind}({b.shape(x)[-1]}, {b.size()})")
    return [b.emit(f"{module}({x})" + ("[0]" if kind == "LSTMCell" else ""))]


@step(1)
def long_short_term_memory_by_hand(b):
    x = sequence(b)
    width, hidden = b.shape(x)[-1], b.choose(2, 3, 4)
    inward, across = b.parameter(4 * hidden, width), b.parameter(4 * hidden, hidden)
    state = cell = b.emit(f"{x}.new_zeros({x}.shape[0], {hidden})")
    for token in b.emit(f"{x}.unbind(1)", b.shape(x)[1]):
        gates = b.emit(f"F.linear({token}, {inward}) + F.linear({state}, {across})")
        first, forget, new, last = b.emit(f"{gates}.chunk(4, 1)", 4)
        cell = b.emit(f"torch.sigmoid({forget}) * {cell} + torch.sigmoid({first}) * torch.tanh({new})")
        state = b.emit(f"torch.sigmoid({last}) * torch.tanh({cell})")
    return [state]


@step(1)
def gated_recurrence_by_hand(b):
    """One cell applied to the slices of an axis, with its states stacked again."""
    x = sequence(b)
    width, hidden = b.shape(x)[-1], b.choose(2, 3, 4)
    weight, across = b.parameter(2, hidden, width), b.parameter(hidden, hidden)
    state, states = b.emit(f"{x}.new_zeros({x}.shape[0], {hidden})"), []
    for token in b.emit(f"{x}.unbind(1)", b.shape(x)[1]):
        gate = b.emit(f"torch.sigmoid(F.linear({token}, {weight}[0]))")
        new = b.emit(f"torch.tanh(F.linear({token}, {weight}[1]) + F.linear({state}, {across}))")
        state = b.emit(f"{gate} * {state} + (1 - {gate}) * {new}")
        states.append(state)
    return [b.emit(f"torch.stack([{', '.join(states)}], 1)")]


@step(1)
def weights_used_again(b):
    """One block applied twice in a row."""
    x = b.value()
    width, hidden = b.shape(x)[-1], b.size()
    down, up = b.parameter(hidden, width), b.parameter(width, hidden)
    for _ in range(2):
        x = b.emit(f"{x} + F.linear(torch.tanh(F.linear({x}, {down})), {up})")
    return [x]


@step(1)
def soft_lookup(b):
    """Rows of a table, weighed by the value."""
    x = b.value(lambda shape: shape[-1] > 1)
    table = b.parameter(b.shape(x)[-1], b.size())
    return [b.emit(f"torch.softmax({x} * 2, -1) @ {table}")]
