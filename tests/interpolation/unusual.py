"""The table of networks out of the ordinary: shape of an example, and a factory."""

import torch
from torch import nn
from torch.nn import functional as F

FLAT, ROWS_OF_PIXELS, IMAGE = (16,), (8, 8), (3, 8, 8)


class Net(nn.Module):
    """Layers by name, and what is done with them."""

    def __init__(self, run, **layers):
        super().__init__()
        self.layers, self._run = nn.ModuleDict(layers), run

    def forward(self, inputs):
        return self._run(self.layers, inputs)


def conv(given=3, units=6, **options):
    return nn.Conv2d(given, units, 3, **{"padding": 1, **options})


def pooled(values):
    return values.mean((2, 3))


def sum_of_convolutions(p, x):
    first, second = p.n(p.a(x)), p.m(p.b(x))
    return p.h(pooled((first + second).relu()) + pooled(first))


def relu_needed_twice(p, x):
    first = p.a(x).relu()
    second = (p.b(first).relu() + first).relu()
    return p.h(pooled((second + first).relu()) + pooled(second))


def in_place(p, x):
    first = p.a(x).relu_()
    second = p.b(first)
    second += first
    return p.h(pooled(second.relu_()))


def changes_its_inputs(p, x):
    return p.h(p.a(x.mul_(0.5).add_(0.1)).relu())


def twice_the_same_layer():
    layer = nn.Linear(16, 16)
    return Net(lambda p, x: p.h(p.b(p.a(x).relu()).relu()), a=layer, b=layer, h=nn.Linear(16, 5))


def twice_the_same_norm():
    norm = nn.BatchNorm1d(12)
    return Net(lambda p, x: p.h(p.m(p.a(x)).relu()), a=nn.Linear(16, 12), n=norm, m=norm, h=nn.Linear(12, 5))


NETWORKS = {
    "first layer without bias": (
        FLAT,
        lambda: nn.Sequential(nn.Linear(16, 12, bias=False), nn.ReLU(), nn.Linear(12, 5)),
    ),
    "no hidden layer": (FLAT, lambda: nn.Linear(16, 5)),
    "one class": (FLAT, lambda: nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 1))),
    "layer of two names": (FLAT, twice_the_same_layer),
    "norm of two names": (FLAT, twice_the_same_norm),
    "first layer used twice": (
        FLAT,
        lambda: Net(lambda p, x: p.h(p.a(p.a(x).relu()).relu() + p.a(x)), a=nn.Linear(16, 16), h=nn.Linear(16, 5)),
    ),
    "inputs changed in place": (FLAT, lambda: Net(changes_its_inputs, a=nn.Linear(16, 12), h=nn.Linear(12, 5))),
    "layer on rows": (
        ROWS_OF_PIXELS,
        lambda: Net(lambda p, x: p.h(p.a(x).relu().mean(1)), a=nn.Linear(8, 12), h=nn.Linear(12, 5)),
    ),
    "rows of all examples on one axis": (
        ROWS_OF_PIXELS,
        lambda: Net(
            lambda p, x: p.h(p.a(x.reshape(-1, 8)).relu().reshape(-1, 96)), a=nn.Linear(8, 12), h=nn.Linear(96, 5)
        ),
    ),
    "norm over another axis than the units": (
        (8, 16),
        lambda: Net(
            lambda p, x: p.h(p.n(p.a(2 * x)).relu().mean(2)), a=nn.Linear(16, 8), n=nn.BatchNorm1d(8), h=nn.Linear(8, 5)
        ),
    ),
    "sum of convolutions": (
        IMAGE,
        lambda: Net(
            sum_of_convolutions, a=conv(), b=conv(), n=nn.BatchNorm2d(6), m=nn.BatchNorm2d(6), h=nn.Linear(6, 5)
        ),
    ),
    "relu needed twice": (IMAGE, lambda: Net(relu_needed_twice, a=conv(), b=conv(6), h=nn.Linear(6, 5))),
    "operations in place": (IMAGE, lambda: Net(in_place, a=conv(), b=conv(6), h=nn.Linear(6, 5))),
    "scaled sum": (
        IMAGE,
        lambda: Net(
            lambda p, x: p.h(pooled(torch.add(p.a(x), p.b(x), alpha=2.5).relu() - p.b(x))),
            a=conv(),
            b=conv(),
            h=nn.Linear(6, 5),
        ),
    ),
    "broadcast sum": (
        IMAGE,
        lambda: Net(lambda p, x: p.h(pooled((p.b(x) + p.a(x)).relu())), a=conv(), b=conv(units=1), h=nn.Linear(6, 5)),
    ),
    "groups, dilation, other nonlinearities": (
        IMAGE,
        lambda: Net(
            lambda p, x: p.h(pooled(F.gelu(p.b(F.relu6(p.a(x)))))),
            a=conv(padding_mode="reflect"),
            b=conv(6, groups=3, dilation=2),
            h=nn.Linear(6, 5),
        ),
    ),
    "transposed convolution": (
        IMAGE,
        lambda: Net(
            lambda p, x: p.h(pooled(p.n(p.a(x)).relu())),
            a=nn.ConvTranspose2d(3, 6, 3),
            n=nn.BatchNorm2d(6),
            h=nn.Linear(6, 5),
        ),
    ),
    "convolution of lines": (
        (3, 16),
        lambda: Net(
            lambda p, x: p.h(p.n(p.a(x)).relu().mean(2)), a=nn.Conv1d(3, 6, 3), n=nn.BatchNorm1d(6), h=nn.Linear(6, 5)
        ),
    ),
    "statistics of InstanceNorm, which stay": (
        IMAGE,
        lambda: Net(
            lambda p, x: p.h(pooled(p.m(p.b(p.n(p.a(x)).relu())))),
            a=conv(),
            n=nn.InstanceNorm2d(6, track_running_stats=True),
            b=conv(6),
            m=nn.BatchNorm2d(6),
            h=nn.Linear(6, 5),
        ),
    ),
    "dropout": (FLAT, lambda: nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Dropout(0.5), nn.Linear(12, 5))),
}


class Branch(nn.Module):
    """Cannot be exported: values decide what runs."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, inputs):
        return self.layer(inputs.flatten(1)) if inputs.sum() > -1e9 else inputs
