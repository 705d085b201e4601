"""Transformers: torch's own and by hand.

A layer of attention has four groups of its own: whole heads; inside each head the coordinates of queries with keys, and
those of values with the output projection; and the hidden units of its MLP. The residual stream is shared.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.network import Network, noise, tokens


class Encoder(nn.Module):
    """torch's encoder between linear layers."""

    def __init__(self, norm_first: bool, layers: int = 2):
        super().__init__()
        layer = nn.TransformerEncoderLayer(12, 3, 10, batch_first=True, norm_first=norm_first)
        self.stem, self.head = nn.Linear(5, 12), nn.Linear(12, 3)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.stem(x)).mean(dim=1))


class CausalEncoder(nn.Module):
    """One layer with a causal mask, sequence first."""

    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(11, 12), nn.Linear(12, 11)
        self.layer = nn.TransformerEncoderLayer(12, 3, 10, activation="gelu")

    def forward(self, ids: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        return self.head(self.layer(self.words(ids).transpose(0, 1), mask).transpose(0, 1))


class Decoder(nn.Module):
    """torch's decoder layer: attention to itself and to a memory."""

    def __init__(self):
        super().__init__()
        self.words, self.memory, self.head = nn.Embedding(11, 12), nn.Linear(5, 12), nn.Linear(12, 11)
        self.layer = nn.TransformerDecoderLayer(12, 3, 10, batch_first=True)

    def forward(self, ids: Tensor, memory: Tensor) -> Tensor:
        return self.head(self.layer(self.words(ids), self.memory(memory)))


class Attention(nn.Module):
    """Attention with packed queries, keys and values, by one of two formulas."""

    def __init__(self, width: int, heads: int, fused: bool):
        super().__init__()
        self.heads, self.fused = heads, fused
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, count, width = x.shape
        qkv = self.qkv(x).reshape(batch, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        if self.fused:
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            mixed = (q @ k.transpose(-2, -1) * (width // self.heads) ** -0.5).softmax(dim=-1) @ v
        return self.out(mixed.transpose(1, 2).reshape(batch, count, width))


class Rotary(nn.Module):
    """Attention with rotary positions as products of complex numbers: coordinates of queries and keys stay."""

    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(11, 12), nn.Linear(12, 11)
        self.q, self.k, self.v, self.out = (nn.Linear(12, 12) for _ in range(4))
        angles = torch.outer(torch.arange(5.0), torch.tensor([1.0, 0.1]))
        self.register_buffer("rotations", torch.polar(torch.ones_like(angles), angles), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.words(ids)
        q, k, v = (layer(x).unflatten(-1, (3, 4)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(self.rotate(q), self.rotate(k), v, is_causal=True)
        return self.head(x + self.out(mixed.transpose(1, 2).flatten(2)))

    def rotate(self, x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(x.unflatten(-1, (2, 2)).contiguous())
        return torch.view_as_real(pairs * self.rotations).flatten(-2)


class VisionTransformer(nn.Module):
    """ViT: patches, a class token, learned positions, two layers of different shape."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(1, 12, 4, stride=4)
        self.token, self.places = nn.Parameter(torch.randn(1, 1, 12)), nn.Parameter(torch.randn(1, 5, 12))
        self.attention = nn.ModuleList([Attention(12, 3, fused=True), Attention(12, 2, fused=False)])
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(12), nn.Linear(12, hidden), nn.GELU(), nn.Linear(hidden, 12))
            for hidden in (10, 11)
        )
        self.norms = nn.ModuleList([nn.LayerNorm(12), nn.LayerNorm(12)])
        self.norm, self.head = nn.LayerNorm(12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.places
        for norm, attention, mlp in zip(self.norms, self.attention, self.mlp, strict=True):
            x = x + attention(norm(x))
            x = x + mlp(x)
        return self.head(self.norm(x)[:, 0])


IDS = tokens((2, 5), vocabulary=11)
# One stream of 12; two layers of three heads with four coordinates and ten hidden units.
ENCODER = {(12,): 1, (3,): 2, (4, 3): 4, (10,): 2}
ATTENTION = [
    Network("encoder, norm first", lambda: Encoder(norm_first=True), noise(2, 4, 5), ENCODER, 9),
    Network("encoder, norm last", lambda: Encoder(norm_first=False), noise(2, 4, 5), ENCODER, 9),
    Network(
        "causal encoder", CausalEncoder, tokens((2, 5), vocabulary=11), {(12,): 1, (3,): 1, (4, 3): 2, (10,): 1}, 5
    ),
    # Two attentions, one MLP. One packed weight reads stream and memory on one axis, which makes them one group.
    Network(
        "decoder",
        Decoder,
        lambda: (*IDS(), *noise(2, 4, 5)()),
        {(12,): 1, (3,): 2, (4, 3): 4, (10,): 1},
        8,
    ),
    # One stream; three heads of four coordinates, then two heads of six.
    Network(
        "vision transformer",
        VisionTransformer,
        noise(2, 1, 8, 8),
        {(12,): 1, (3,): 1, (4, 3): 2, (10,): 1, (2,): 1, (6, 2): 2, (11,): 1},
        9,
    ),
    # One stream; three heads, four coordinates of values in each.
    Network("rotary attention", Rotary, IDS, {(12,): 1, (3,): 1, (4, 3): 1}, 3),
]
