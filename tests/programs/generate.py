"""From decisions to a program."""

import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import nn

from tests.programs import (  # noqa: F401
    attention,
    contraction,
    convolution,
    elementwise,
    norms,
    order,
    pieces,
    recurrent,
    unsupported,
    views,
)
from tests.programs.builder import Builder
from tests.programs.readout import begin, end
from tests.programs.registry import STEPS

LENGTHS = (3, 2, 4, 5, 6, 8)
LEAVES = 4
TRIES = 60


@dataclass(frozen=True)
class Program:
    """Source that defines ``module`` and ``inputs``."""

    source: str

    def build(self):
        """Return module and inputs, with the same numbers each time."""
        scope = {"torch": torch, "nn": nn, "F": F}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            exec(self.source, scope)
        return scope["module"].eval(), scope["inputs"]

    def __repr__(self):
        return f"\n{self.source}"


def generate(choose):
    """Make a program out of decisions: ``choose(n)`` returns a number below n."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        b = Builder(choose)
        while not b.attempt(begin):
            pass
        length, tries = b.choose(*LENGTHS), 0
        while tries < TRIES and (length > 0 or not b.leaves):
            length -= bool(b.attempt(b.choose(*STEPS)))
            tries += 1
        b.leaves = b.leaves[-LEAVES:]
        results = []
        while not results:
            results = b.attempt(end)
        return Program(_source(b, results))


def _source(b, results):
    lines = [
        *(f"{name} = {expression}" for name, expression in b.inputs.items()),
        f"inputs = ({', '.join(b.inputs)},)",
        "",
        "class Network(nn.Module):",
        "    def __init__(self):",
        "        super().__init__()",
        *(f"        {line}" for line in b.members.values()),
        "",
        f"    def forward(self, {', '.join(b.inputs)}):",
        *(f"        {line}" for line in b.lines),
        f"        return {', '.join(results)}",
        "",
        "module = Network()",
    ]
    return "\n".join(lines)


def program_of_seed(seed):
    """Return the program of a number."""
    return generate(random.Random(seed).randrange)


@st.composite
def programs(draw):
    """Strategy of all programs; fewer and plainer decisions are simpler."""
    return generate(lambda count: draw(st.sampled_from(range(count))))
