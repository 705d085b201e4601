"""Recurrent networks: all gates of a layer share its hidden units."""

import torch
from torch import Tensor, nn

from tests.zoo.network import Network, noise


class Recurrent(nn.Module):
    """A recurrent network over [N, time, 5], read at the last step."""

    def __init__(self, cell: type[nn.RNNBase], outputs: int = 6, **options):
        super().__init__()
        self.cell, self.head = cell(5, 6, batch_first=True, **options), nn.Linear(outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][:, -1])


class Stacked(nn.Module):
    """A GRU cell by hand, and the last state of an LSTM over what it said."""

    def __init__(self):
        super().__init__()
        self.below, self.above, self.head = nn.GRUCell(5, 7), nn.LSTM(7, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        states = [self.below(x[:, 0])]
        for step in range(1, 4):
            states.append(self.below(x[:, step], states[-1]))
        return self.head(self.above(torch.stack(states, dim=1))[1][0][0])


def plain(cell: type[nn.RNNBase], layers: int) -> Network:
    """One group a layer."""
    name = f"{cell.__name__.lower()} of {layers}"
    return Network(name, lambda: Recurrent(cell, num_layers=layers), INPUT, {(6,): layers}, layers)


def bidirectional() -> nn.Module:
    return Recurrent(nn.LSTM, 12, num_layers=2, bidirectional=True)


INPUT = noise(2, 4, 5)
RECURRENT = [
    *(plain(cell, layers) for cell in (nn.RNN, nn.LSTM, nn.GRU) for layers in (1, 2)),
    # Two directions in each of two layers; the second layer reads both.
    Network("bidirectional lstm", bidirectional, INPUT, {(6,): 4}, 4),
    # Cells and projected states.
    Network("lstm with projection", lambda: Recurrent(nn.LSTM, 4, proj_size=4), INPUT, {(6,): 1, (4,): 1}, 2),
    Network("gru cell under lstm", Stacked, INPUT, {(7,): 1, (4,): 1}, 2),
]
