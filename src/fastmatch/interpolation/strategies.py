"""How networks are run when many combinations of them are: which way, and why."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from fastmatch.data import batch_count
from fastmatch.devices import full_float32
from fastmatch.errors import OptionError, SymmetryError
from fastmatch.interpolation.batchnorm import reset_statistics
from fastmatch.interpolation.evaluation import Chosen, Precision
from fastmatch.interpolation.forward import forward
from fastmatch.interpolation.lowered import Lowered, State
from fastmatch.interpolation.repair import Repair
from fastmatch.symmetry import Graph, export_graph, float_type

Strategy = Literal["auto", "functional", "lowered"]
_WORTH = 2e11  # Operations of all runs together above which an export of a second or more pays.
_CLOSE = 1e-4  # Of the largest logit: what another order of float32 sums may change.
_ROUGHLY = 0.3  # The same for half types: only a graph that means something else is further off.


class Runner:
    """One architecture, to be run with one set of weights after the other.

    Parameters
    ----------
    lowered
        The network as a graph; ``module`` itself is called if None.
    quick
        The graph in lower precision.
    repair
        Corrections of pre-activations, with which the weights to load are extended.
    """

    def __init__(
        self,
        module: nn.Module,
        chosen: Chosen,
        lowered: Lowered | None = None,
        quick: Lowered | None = None,
        repair: Repair | None = None,
    ) -> None:
        self.chosen = chosen
        self.repair = repair
        self.precision: Precision = "highest" if quick is None else "fast"
        self.lowered = lowered
        self._quick = quick
        self._module = module
        self._state: State = {}

    def load(self, state: State) -> None:
        """Take the weights for the runs to come."""
        self._state = state
        for form in (self.lowered, self._quick):
            if form is not None:
                form.load(state)

    def unload(self) -> None:
        """Let go of the weights."""
        self._state = {}
        for form in (self.lowered, self._quick):
            if form is not None:
                form.unload()

    def exact(self, inputs: Tensor, first: Tensor | None) -> Any:
        """Output for a batch; ``first`` is that of the first linear layer if it is known."""
        if self.lowered is None:
            return forward(self._module, self._state, inputs)
        return self.lowered.logits(inputs.to(float_type(self._state)), first)

    def quick(self, inputs: Tensor, first: Tensor | None) -> Any:
        """:meth:`exact` in lower precision."""
        assert self._quick is not None
        return self._quick.logits(inputs.to(float_type(self._state)), first)

    def settle(self, state: State, inputs: Tensor, batch: int) -> Any:
        """Output for ``inputs`` of weights that are not loaded, after :func:`reset_statistics` on them."""
        if self.lowered is None:
            return reset_statistics(self._module, state, inputs)
        with full_float32():
            batches = inputs.to(float_type(state)).tensor_split(batch_count(len(inputs), batch))
            return torch.cat(self.lowered.settle(state, batches))


def choose_runner(
    module: nn.Module,
    state: State,
    examples: Tensor,
    work: float,
    strategy: Strategy,
    precision: Precision,
    *,
    corrected: bool = False,
) -> Runner:
    """Decide how to run ``module``.

    Exporting a network costs a second or more: it is lowered where the evaluation costs much more than that, by a count
    of operations, so that the same call is always run in the same way. What is lowered is compared with the module on
    real examples first.

    Parameters
    ----------
    state
        Weights of the module, for a trial.
    examples
        A few inputs.
    work
        Operations of all runs together.
    corrected
        Whether pre-activations are corrected (:class:`Repair`), for which the network must be lowered.

    Raises
    ------
    OptionError
        ``strategy`` or ``precision`` is unknown, or the network cannot be lowered as asked.
    """
    _check_options(strategy, precision, corrected)
    if strategy == "functional":
        return Runner(module, Chosen("functional", "it was asked for"))
    if strategy == "auto" and not corrected and (reason := _not_worth_it(examples, work)):
        return Runner(module, Chosen("functional", reason))
    repair = None
    try:
        graph = export_graph(module, (examples[:2],))
        if corrected:
            repair = Repair(graph)
            graph, state = repair.graph, repair.neutral(state)
        lowered = Lowered(graph)
        _compare(module, lowered, state, examples, _CLOSE)
    except (SymmetryError, RuntimeError, ValueError) as error:
        if strategy == "lowered" or corrected:
            raise _refusal(error, corrected) from error
        return Runner(module, Chosen("functional", f"it cannot be lowered: {error}"))
    reason = "it was asked for" if strategy == "lowered" else "the evaluation is long"
    reason = "bn repair needs a graph" if corrected else reason
    quick = None
    if precision == "fast":
        quick, obstacle = _quick(module, graph, state, examples)
        reason += f"; not in precision fast: {obstacle}" if obstacle else ""
    return Runner(module, Chosen("lowered", reason), lowered, quick, repair)


def _check_options(strategy: Strategy, precision: Precision, corrected: bool) -> None:
    if strategy not in ("auto", "functional", "lowered"):
        raise OptionError(f"strategy {strategy!r} is unknown; choose auto, functional or lowered")
    if precision not in ("highest", "fast"):
        raise OptionError(f"precision {precision!r} is unknown; choose highest or fast")
    if strategy == "functional" and (precision == "fast" or corrected):
        option = "bn repair" if corrected else "precision fast"
        raise OptionError(f"{option} needs a lowered network; leave strategy functional out")


def _refusal(error: Exception, corrected: bool) -> OptionError:
    if not corrected:
        return OptionError(f"the network cannot be lowered ({error}); use strategy functional")
    reason = str(error).partition("; trace a run")[0]  # what helps tracing does not help here
    return OptionError(f"bn repair needs a lowered network, and this one cannot be ({reason}); use bn reset or keep")


def _not_worth_it(examples: Tensor, work: float) -> str | None:
    if examples.device.type != "cpu":
        return "the data are on a GPU"
    return "the evaluation is short" if work < _WORTH else None


def _quick(module: nn.Module, graph: Graph, state: State, examples: Tensor) -> tuple[Lowered | None, str | None]:
    """The network in bfloat16, or why there is none."""
    if examples.device.type != "cpu":
        return None, "the data are on a GPU"
    if float_type(state) != torch.float32:
        return None, f"the weights are {float_type(state)}"
    if not has_bfloat16():
        return None, "this processor has no instructions for bfloat16"
    quick = Lowered(graph, torch.bfloat16)
    try:
        _compare(module, quick, state, examples, _ROUGHLY)
    except (RuntimeError, ValueError) as error:
        return None, " ".join(str(error).split())
    return quick, None


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 numbers itself."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _compare(module: nn.Module, lowered: Lowered, state: State, inputs: Tensor, close: float) -> None:
    """Raise ValueError unless both give the same logits, in batches of two sizes."""
    lowered.load(state)
    own = {name: state[name] for name in module.state_dict()}
    for part in (inputs, inputs[:3]):
        expected = forward(module, own, part)
        found = lowered.logits(part.to(float_type(state)))
        if not isinstance(expected, Tensor) or found.shape != expected.shape:
            raise ValueError("its graph has other outputs")
        if not float((found - expected).abs().max()) <= close * float(expected.abs().max()):
            raise ValueError("its graph gives other logits")
    lowered.unload()
