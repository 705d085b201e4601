"""How networks are run when many combinations of them are: which way, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from fastmatch.data import Split
from fastmatch.errors import OptionError, SymmetryError
from fastmatch.interpolation.forward import float_type, forward
from fastmatch.interpolation.lowered import Lowered
from fastmatch.symmetry import export_graph

Strategy = Literal["auto", "functional", "lowered"]
State = Mapping[str, Tensor]
_WORTH = 2e11  # Operations of all runs together above which an export of a second or more pays.
_SHARED = 256 << 20  # Bytes of outputs of the first layer that are kept for one split.
_CLOSE = 1e-4  # Of the largest logit: what another order of float32 sums may change.


class Chosen(NamedTuple):
    """The strategy that runs, and the reason in words."""

    name: Literal["functional", "lowered"]
    reason: str


class Runner:
    """One architecture, run with one combination of ``networks`` after the other.

    Parameters
    ----------
    lowered
        The network as a graph; ``module`` itself is called if None.
    """

    def __init__(self, module: nn.Module, networks: Sequence[State], chosen: Chosen, lowered: Lowered | None) -> None:
        self.chosen = chosen
        self._module = module
        self._networks = networks
        self._lowered = lowered

    def share(self, split: Split) -> Tensor | None:
        """Outputs of the first layer of all networks on a split, if it is linear and they are not too large."""
        if self._lowered is None or self._lowered.shared_size(self._networks, len(split)) > _SHARED:
            return None
        return self._lowered.share(self._networks, split.inputs.to(float_type(self._networks[0])))

    def run(self, state: State, row: Sequence[float], shared: Tensor | None) -> Callable[[Tensor, slice], Any]:
        """Return the network with weights ``state``, the combination ``row``: a function of inputs and their places."""
        if self._lowered is None:
            return lambda inputs, places: forward(self._module, state, inputs)
        lowered, dtype = self._lowered, float_type(state)
        lowered.load(state)
        if shared is None:
            return lambda inputs, places: lowered.logits(inputs.to(dtype))
        return lambda inputs, places: lowered.logits(inputs.to(dtype), _combined(shared[:, places], row))


def _combined(outputs: Tensor, row: Sequence[float]) -> Tensor:
    """Combination of outputs [networks, ...]; a coefficient of 0 leaves its network out."""
    terms = [(coefficient, output) for coefficient, output in zip(row, outputs, strict=True) if coefficient]
    total = torch.zeros_like(outputs[0]) if not terms else terms[0][1] * terms[0][0]
    for coefficient, output in terms[1:]:
        total.add_(output, alpha=coefficient)
    return total


def choose_runner(
    module: nn.Module, networks: Sequence[State], rows: int, splits: Sequence[Split], strategy: Strategy
) -> Runner:
    """Decide how to run ``rows`` combinations of ``networks`` on ``splits``.

    Exporting a network costs a second or more: it is lowered where the evaluation costs much more than that, by a count
    of operations, so that the same call is always run in the same way. What is lowered is compared with the module on
    real examples first.

    Raises
    ------
    OptionError
        ``strategy`` is unknown, or the network cannot be lowered as asked.
    """
    if strategy not in ("auto", "functional", "lowered"):
        raise OptionError(f"strategy {strategy!r} is unknown; choose auto, functional or lowered")
    examples = splits[0].inputs[:5]
    if strategy == "functional":
        return Runner(module, networks, Chosen("functional", "it was asked for"), None)
    if strategy == "auto" and (reason := _not_worth_it(module, networks[0], rows, splits)):
        return Runner(module, networks, Chosen("functional", reason), None)
    try:
        lowered = Lowered(export_graph(module, (examples[:2],)))
        _compare(module, lowered, networks[0], examples)
    except (SymmetryError, RuntimeError, ValueError) as error:
        if strategy == "lowered":
            raise OptionError(f"the network cannot be lowered ({error}); use strategy functional") from error
        return Runner(module, networks, Chosen("functional", f"it cannot be lowered: {error}"), None)
    asked = "it was asked for" if strategy == "lowered" else "the evaluation is long"
    return Runner(module, networks, Chosen("lowered", asked), lowered)


def _not_worth_it(module: nn.Module, state: State, rows: int, splits: Sequence[Split]) -> str | None:
    if splits[0].inputs.device.type != "cpu":
        return "the data are on a GPU"
    from torch.utils.flop_counter import FlopCounterMode  # imports triton

    with FlopCounterMode(display=False) as counter:
        forward(module, state, splits[0].inputs[:1])
    work = counter.get_total_flops() * rows * sum(map(len, splits))
    return "the evaluation is short" if work < _WORTH else None


def _compare(module: nn.Module, lowered: Lowered, state: State, inputs: Tensor) -> None:
    """Raise ValueError unless both give the same logits, in batches of two sizes."""
    lowered.load(state)
    for part in (inputs, inputs[:3]):
        expected = forward(module, state, part)
        found = lowered.logits(part.to(float_type(state)))
        if not isinstance(expected, Tensor) or found.shape != expected.shape:
            raise ValueError("its graph has other outputs")
        if not float((found - expected).abs().max()) <= _CLOSE * float(expected.abs().max()):
            raise ValueError("its graph gives other logits")
