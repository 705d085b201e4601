"""A network as a graph of ATen operations: exported once, run with any weights and any batch size."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram, export
from torch.export.graph_signature import InputKind, InputSpec
from torch.func import functional_call

from fastmatch.errors import SymmetryError

# Kept whole: their rules see more structure than those of what they decompose into.
_KEPT = ("linear", "matmul", "scaled_dot_product_attention")


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Switch every submodule to evaluation and back to what it was.

    The flags are set directly, because exported programs refuse ``train()`` and ``eval()``.
    """
    modes = [(child, child.training) for child in module.modules()]
    for child, _ in modes:
        child.training = False
    try:
        yield
    finally:
        for child, mode in modes:
            child.training = mode


def call(module: nn.Module, state: Mapping[str, Tensor], inputs: Sequence[Tensor]) -> Any:
    """Run ``module`` with the weights and buffers of ``state`` in place of its own."""
    # Every name is given, tied ones too, so there is nothing left for functional_call to tie.
    return functional_call(module, dict(state), tuple(inputs), tie_weights=False)


def export_graph(module: nn.Module, inputs: Sequence[Tensor]) -> ExportedProgram:
    """Export ``module`` in evaluation mode and decompose it to core ATen operations.

    The first axis of every input is left dynamic where the network allows it.

    Raises
    ------
    SymmetryError
        ``torch.export`` cannot follow the network.
    """
    try:
        with eval_mode(module), _quiet(), torch.no_grad():
            shapes = tuple({0: Dim.AUTO} if tensor.dim() else None for tensor in inputs)
            program = export(module, tuple(inputs), dynamic_shapes=_per_argument(module, shapes), strict=False)
            table = torch.export.default_decompositions()
            for name in _KEPT:
                table.pop(getattr(torch.ops.aten, name).default, None)
            return program.run_decompositions(table)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SymmetryError(f"torch.export cannot follow {type(module).__name__}: {reason}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings and no dumps of graphs on the way to an error, which says what is needed in one line."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _per_argument(module: nn.Module, shapes: tuple[Any, ...]) -> Any:
    # The arguments of forward(*args) count as one, which holds them all.
    kinds = [parameter.kind for parameter in inspect.signature(module.forward).parameters.values()]
    return (shapes,) if kinds and kinds[0] is inspect.Parameter.VAR_POSITIONAL else shapes


def input_specs(program: ExportedProgram) -> Iterator[tuple[fx.Node, InputSpec]]:
    """Placeholders of the graph with what each stands for, in order."""
    nodes = [node for node in program.graph.nodes if node.op == "placeholder"]
    return zip(nodes, program.graph_signature.input_specs, strict=True)


def is_state(spec: InputSpec) -> bool:
    """True for entries of the state dict: parameters and persistent buffers."""
    return spec.kind == InputKind.PARAMETER or (spec.kind == InputKind.BUFFER and spec.persistent is not False)


def shape_of(node: fx.Node) -> list[int]:
    """Sizes of a node's (first) tensor value; a dynamic size counts as what it was in the example.

    A size that depends on values is not known and counts as 1; nothing with such an axis has more than pinned labels.
    """
    value = node.meta["val"]
    tensor = value if isinstance(value, torch.Tensor) else value[0]
    return [size if isinstance(size, int) else int(size.node.hint or 1) for size in tensor.shape]


class GraphRunner(fx.Interpreter):
    """Runs an exported graph with given weights and hands chosen intermediate values to the caller.

    Parameters
    ----------
    program
        Result of :func:`export_graph`.
    taps
        Names of the nodes whose values are wanted.
    """

    def __init__(self, program: ExportedProgram, taps: Sequence[str]) -> None:
        super().__init__(program.graph_module)
        self._program = program
        self._taps = frozenset(taps)
        self._values: dict[str, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node, keeping its value if it is tapped."""
        value = super().run_node(n)
        if n.name in self._taps:
            self._values[n.name] = value
        return value

    def activations(self, state: Mapping[str, Tensor], inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        """Values of the tapped nodes for one batch."""
        remaining = iter(inputs)
        arguments = [self._value(spec, state, lambda: next(remaining)) for _, spec in input_specs(self._program)]
        self._values = {}
        with torch.no_grad():
            self.run(*arguments)
        values, self._values = self._values, {}
        return values

    def _value(self, spec: InputSpec, state: Mapping[str, Tensor], next_input: Callable[[], Tensor]) -> Any:
        if spec.kind == InputKind.USER_INPUT:
            return next_input()
        if is_state(spec):
            return state[str(spec.target)]
        return self._program.constants[str(spec.target)]
