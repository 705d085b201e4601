"""Fully connected networks: gates, mixing of tokens, parameters used twice, tied names, branches."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastmatch import networks
from tests.zoo.network import Network, noise, tokens


class Mixer(nn.Module):
    """MLP-Mixer: patches, then layers that mix tokens (which stay in order) and channels."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(1, 6, 2, stride=2)
        self.layers = nn.ModuleList(self.layer(6, mixing, channels) for mixing, channels in ((5, 7), (8, 9)))
        self.norm, self.head = nn.LayerNorm(6), nn.Linear(6, 3)

    @staticmethod
    def layer(width: int, mixing: int, channels: int) -> nn.ModuleDict:
        def mlp(size: int, hidden: int) -> nn.Module:
            return nn.Sequential(nn.Linear(size, hidden), nn.GELU(), nn.Linear(hidden, size))

        norms = {"before": nn.LayerNorm(width), "between": nn.LayerNorm(width)}
        return nn.ModuleDict({**norms, "mixing": mlp(16, mixing), "channels": mlp(width, channels)})

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        for layer in self.layers:
            x = x + layer["mixing"](layer["before"](x).transpose(1, 2)).transpose(1, 2)
            x = x + layer["channels"](layer["between"](x))
        return self.head(self.norm(x).mean(dim=1))


class Gated(nn.Module):
    """A residual stream with three gated MLPs: gate and value apart, packed in one layer, and by ``F.glu``."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(5, 6), nn.Linear(6, 3)
        self.gate, self.up, self.down = nn.Linear(6, 9), nn.Linear(6, 9), nn.Linear(9, 6)
        self.packed, self.back = nn.Linear(6, 20), nn.Linear(10, 6)
        self.glu, self.out = nn.Linear(6, 14), nn.Linear(7, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.down(F.silu(self.gate(x)) * self.up(x))
        gate, up = self.packed(x).chunk(2, dim=-1)
        x = x + self.back(F.gelu(gate) * up)
        return self.head(x + self.out(F.glu(self.glu(x))))


class TiedLanguageModel(nn.Module):
    """Logits are products with the embeddings: the stream moves on both, words on neither."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(11, 6), nn.Embedding(5, 6)
        self.up, self.down, self.norm = nn.Linear(6, 9), nn.Linear(9, 6), nn.LayerNorm(6)
        self.logits = nn.Linear(6, 11, bias=False)
        self.logits.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids) + self.places(torch.arange(ids.shape[1]))
        return self.logits(self.norm(x + self.down(F.gelu(self.up(x)))))


class AppliedTwice(nn.Module):
    """One layer applied twice: its inputs and outputs are the same units."""

    def __init__(self):
        super().__init__()
        self.stem, self.again, self.head = nn.Linear(5, 7), nn.Linear(7, 7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.again(F.relu(self.again(F.relu(self.stem(x)))))))


class TiedAutoencoder(nn.Module):
    """The decoder is the transposed encoder: hidden units of both are the same."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 7), nn.Linear(7, 4)
        self.bias, self.output = nn.Parameter(torch.randn(7)), nn.Parameter(torch.randn(5))

    def forward(self, x: Tensor) -> Tensor:
        code = F.relu(self.second(F.relu(self.first(x))))
        hidden = F.relu(code @ self.second.weight + self.bias)
        return hidden @ self.first.weight + self.output


class Branches(nn.Module):
    """``torch.cond``: both branches read and write the same units; units inside a branch are its own."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(5, 7), nn.Linear(6, 3)
        self.narrow, self.up, self.down = nn.Linear(7, 6), nn.Linear(7, 8), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cond(x.sum() > 0, self.one, self.two, (F.relu(self.stem(x)),))
        return self.head(x)

    def one(self, x: Tensor) -> Tensor:
        return F.relu(self.narrow(x))

    def two(self, x: Tensor) -> Tensor:
        return torch.tanh(self.down(F.relu(self.up(x))))


class Mixture(nn.Module):
    """Experts in stacked weights, mixed by a softmax: whole experts move, and hidden units inside each of them."""

    def __init__(self):
        super().__init__()
        self.stem, self.gates, self.head = nn.Linear(5, 6), nn.Linear(6, 4), nn.Linear(6, 3)
        self.up, self.bias = nn.Parameter(torch.randn(4, 6, 9)), nn.Parameter(torch.randn(4, 9))
        self.down = nn.Parameter(torch.randn(4, 9, 6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        hidden = F.relu(torch.einsum("nd,edh->neh", x, self.up) + self.bias)
        experts = torch.einsum("neh,ehd->ned", hidden, self.down)
        return self.head(x + (self.gates(x).softmax(dim=-1).unsqueeze(-1) * experts).sum(dim=1))


def mlp(norm: str) -> Network:
    model = f"mlp(12, 7, 5, 3, norm={norm})"
    return Network(model, lambda: networks.build(model), noise(2, 12), {(7,): 1, (5,): 1}, 2)


DENSE = [
    *(mlp(norm) for norm in ("none", "layer", "batch")),
    # The stream, and the hidden units of two MLPs in each layer.
    Network("mixer", Mixer, noise(2, 1, 8, 8), {(6,): 1, (5,): 1, (7,): 1, (8,): 1, (9,): 1}, 5),
    # The stream, and one group for each gate with its values.
    Network("gated mlp", Gated, noise(2, 5), {(6,): 1, (9,): 1, (10,): 1, (7,): 1}, 4),
    Network("tied language model", TiedLanguageModel, tokens((2, 5), vocabulary=11), {(6,): 1, (9,): 1}, 2),
    Network("layer applied twice", AppliedTwice, noise(2, 5), {(7,): 1}, 1),
    Network("tied autoencoder", TiedAutoencoder, noise(2, 5), {(7,): 1, (4,): 1}, 2),
    # The stream, the experts, and hidden units of each.
    Network("mixture of experts", Mixture, noise(2, 5), {(6,): 1, (4,): 1, (9, 4): 1}, 3, restarts=4),
    # Into both branches, out of both, and inside the second.
    Network("torch.cond", Branches, noise(2, 5), {(7,): 1, (6,): 1, (8,): 1}, 3),
]
