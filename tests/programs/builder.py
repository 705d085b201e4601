"""A random program under construction: source lines, each run as it is written, so that shapes and scales are known."""

import math

import torch
import torch.nn.functional as F
from torch import nn

SIZES = (2, 3, 4, 6, 8, 12)
BATCH = 3
LARGEST = 600  # elements of a value, for each example


class Unfit(Exception):
    """A step that the values at hand do not allow, or whose result is of no use."""


class Builder:
    """Writes one program. Every decision is ``choose(options)``; the first option is the plainest.

    Values are tensors with the batch axis first. A value that no step has used is a leaf: the readout takes it up.
    """

    def __init__(self, choose):
        self._choose = choose
        self._state = nn.Module()
        self._scope = {"torch": torch, "nn": nn, "F": F, "self": self._state}
        self.inputs, self.members, self.lines = {}, {}, []
        self.values, self.leaves = [], []
        self._picked = []

    def choose(self, *options):
        """Return one of the options."""
        return options[self._choose(len(options))]

    def rarely(self, odds=4):
        """Return True once in ``odds`` times."""
        return self._choose(odds) == odds - 1

    def size(self):
        """Return one of the sizes of an axis."""
        return self.choose(*SIZES)

    def divisor(self, size):
        """Return a proper divisor of ``size``, which must not be prime."""
        return self.choose(*self.require([number for number in range(2, size) if size % number == 0]))

    def require(self, condition):
        """Return ``condition``; where it does not hold, the step ends here."""
        if not condition:
            raise Unfit
        return condition

    def value(self, fits=lambda shape: True, least=2, most=5):
        """Name of a value of ``least`` to ``most`` axes whose shape fits; recent ones and leaves are more likely."""
        recent = [name for name in reversed(self.values) if least <= len(self.shape(name)) <= most]
        options = self.require([name for name in recent if fits(self.shape(name))][:5])
        name = self.choose(*(name for name in options if name in self.leaves), *options)
        self._picked.append(name)
        return name

    def axis(self, name, fits=lambda size: size > 1):
        """Return a non-batch axis of a value whose size fits; the last is the plainest."""
        shape = self.shape(name)
        return self.choose(*self.require([place for place in range(len(shape) - 1, 0, -1) if fits(shape[place])]))

    def shape(self, name):
        """Return the shape of a value, batch axis included, or of a parameter."""
        return tuple(eval(name, self._scope).shape)

    def emit(self, expression, count=1):
        """Write a line; return the name of its value, or a list of names where there are ``count`` in a tuple."""
        names = [f"v{len(self._scope) + place}" for place in range(count)]
        line = f"{', '.join(names)} = {expression}"
        exec(line, self._scope)
        self.lines.append(line)
        return names[0] if count == 1 else names

    def change(self, statement):
        """Write a line that changes a value in place."""
        exec(statement, self._scope)
        self.lines.append(statement)

    def add_input(self, expression):
        """Declare an argument of the program."""
        name = "xyz"[len(self.inputs)]
        self.inputs[name] = expression
        self._scope[name] = eval(expression, self._scope)
        return name

    def member(self, kind, expression):
        """Declare a parameter (kind p), buffer (b), constant (c) or module (m); return how the program calls it."""
        name = f"{kind}{sum(key[0] == kind for key in self.members)}"
        line = f"self.register_buffer({name!r}, {expression})" if kind == "b" else f"self.{name} = {expression}"
        exec(line, self._scope)
        self.members[name] = line
        return f"self.{name}"

    def fresh(self, *shape):
        """Return a new parameter."""
        return self.member("p", f"nn.Parameter(torch.randn{_text(shape)})")

    def parameter(self, *shape):
        """Return an expression for a parameter of this shape: new, or one that the program already has, seen anew."""
        if self.rarely(3):
            options = [text for name, value in self._state.named_parameters() for text in _again(name, value, shape)]
            if options:
                return self.choose(*options)
        return self.fresh(*shape)

    def alias(self):
        """Give a parameter a second name in the state dict."""
        names = self.require([name for name in self.members if name[0] == "p"])
        return self.member("p", f"self.{self.choose(*names)}")

    def positive(self, *shape):
        """Return a new buffer of positive numbers."""
        return self.member("b", f"torch.rand{_text(shape)} + 0.5")

    def constant(self, *shape):
        """Return numbers that are no weights, often the same along some axes."""
        kind = self.choose("full", "uniform", "b", "ramp", "c")
        if kind == "full":
            return f"torch.full({_text(shape)}, 0.7)"
        if kind == "ramp":
            return f"torch.linspace(-1, 1, {math.prod(shape)}).reshape({_text(shape)})"
        if kind == "uniform":
            thin = tuple(self.choose(1, size) for size in shape)
            return self.member("c", f"torch.randn{_text(thin)}.expand({_text(shape)})")
        return self.member(kind, f"torch.randn{_text(shape)}")

    def attempt(self, step):
        """Run a step, keep its results as values and return them; where it does not fit, undo it and return nothing."""
        before = len(self.lines), dict(self.inputs), dict(self.members), torch.get_rng_state()
        self._picked = []
        try:
            results = [self._settle(name) for name in step(self)]
        except Unfit:
            del self.lines[before[0] :]
            for name in self.members.keys() - before[2].keys():
                delattr(self._state, name)
            _, self.inputs, self.members, generator = before
            torch.set_rng_state(generator)
            return []
        self.leaves = [name for name in self.leaves if name not in self._picked] + results
        self.values += results
        return results

    def _settle(self, name):
        """Keep the scale of a value near one."""
        value = self._scope[name].detach()
        self.require(value.dim() >= 1 and len(value) == BATCH and value.numel() <= LARGEST * BATCH)
        scale = float(value.std())
        self.require(math.isfinite(scale) and scale > 1e-3)
        if 0.25 < scale < 4:
            return name
        return self.emit(f"{name} * {2.0 ** -round(math.log2(scale))}")

    def __str__(self):
        return "\n".join((*self.members.values(), *self.lines))


def _text(shape):
    return f"({', '.join(map(str, shape))}{',' * (len(shape) == 1)})"


def _again(name, value, shape):
    """Ways to see a parameter as a tensor of this shape."""
    own = tuple(value.shape)
    if own == shape:
        yield f"self.{name}"
    for first in range(len(own)):
        for second in range(first + 1, len(own)):
            swapped = list(own)
            swapped[first], swapped[second] = own[second], own[first]
            if tuple(swapped) == shape:
                yield f"self.{name}.transpose({first}, {second})"
    if math.prod(own) == math.prod(shape) and own != shape:
        yield f"self.{name}.reshape{_text(shape)}"
    if len(own) == len(shape) and own[1:] == shape[1:] and own[0] > shape[0]:
        yield f"self.{name}[:{shape[0]}]"
        yield f"self.{name}[-{shape[0]}:]"
    if len(own) == len(shape) and own[1:] == shape[1:] and 2 * own[0] == shape[0]:
        yield f"torch.cat([self.{name}, self.{name}])"
        yield f"torch.cat([self.{name}, self.{name}.flip(0)])"
    if len(own) < len(shape) and own == shape[len(shape) - len(own) :]:
        yield f"self.{name}.expand{_text(shape)}"
    if own[1:] == shape:
        yield f"self.{name}[0]"
        yield f"self.{name}.mean(0)"
    if (2, *own) == shape:
        yield f"torch.stack([self.{name}, -self.{name}])"
