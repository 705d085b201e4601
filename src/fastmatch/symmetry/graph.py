"""A network as a graph of ATen operations: exported once, run with any weights and any batch size."""

from __future__ import annotations

import inspect
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.export import Dim, ExportedProgram, export
from torch.export.graph_signature import InputKind, InputSpec
from torch.func import functional_call

from fastmatch.devices import full_float32, move_operations
from fastmatch.errors import SymmetryError

# Mark of values that an operation in place changes through a view of them, in the meta data of their nodes.
CHANGED = "changed in place through a view"

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
    """Run ``module`` with the weights and buffers of ``state`` in place of its own, in float32 where they are that."""
    # Every name is given, tied ones too, so there is nothing left for functional_call to tie. Conditions would be
    # compiled for one run, which fails where operations are watched.
    with torch.compiler.set_stance("force_eager"), full_float32():
        return functional_call(module, _without_aliases(module, state), tuple(inputs), tie_weights=False)


def _without_aliases(module: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One name of each entry: a submodule known by two would not get its own weights back."""
    paths = {path for path, _ in module.named_modules(remove_duplicate=False)}
    aliases = paths.difference(path for path, _ in module.named_modules())
    return {name: tensor for name, tensor in state.items() if name.rpartition(".")[0] not in aliases}


@dataclass(frozen=True)
class Source:
    """What a placeholder stands for: an entry of the state dict, an input in its turn, or a constant with its value."""

    kind: Literal["state", "input", "constant"]
    name: str
    value: Any = None


@dataclass(frozen=True)
class Graph:
    """ATen operations of a network.

    Attributes
    ----------
    module
        The operations, whose placeholders take the values that ``sources`` names, in the same order.
    method
        ``"export"``, or ``"run"`` for the operations that one run performed.
    """

    module: fx.GraphModule
    sources: tuple[Source, ...]
    method: Literal["export", "run"]

    def placeholders(self) -> Iterator[tuple[fx.Node, Source]]:
        """Placeholders of the graph with what each stands for, in order."""
        nodes = [node for node in self.module.graph.nodes if node.op == "placeholder"]
        return zip(nodes, self.sources, strict=True)

    def to(self, device: torch.device) -> Graph:
        """The same operations on ``device``; as in ``nn.Module.to``, the module itself changes."""
        move_operations(self.module, device)
        values = (source.value for source in self.sources)
        moved = (value.to(device) if isinstance(value, Tensor) else value for value in values)
        sources = (replace(source, value=value) for source, value in zip(self.sources, moved, strict=True))
        return replace(self, sources=tuple(sources))


def export_graph(module: nn.Module, inputs: Sequence[Tensor]) -> Graph:
    """Export ``module`` in evaluation mode and decompose it to core ATen operations.

    The first axis of every input is left dynamic where the network allows it.

    Raises
    ------
    SymmetryError
        ``torch.export`` cannot follow the network.
    """
    try:
        with eval_mode(module), _quiet(), torch.no_grad(), without_fused_layers():
            shapes = tuple({0: Dim.AUTO} if tensor.dim() else None for tensor in inputs)
            program = export(module, tuple(inputs), dynamic_shapes=_per_argument(module, shapes), strict=False)
            table = torch.export.default_decompositions()
            for name in _KEPT:
                table.pop(getattr(torch.ops.aten, name).default, None)
            program = program.run_decompositions(table)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SymmetryError(
            f"torch.export cannot follow {type(module).__name__}: {reason}; trace a run instead (--tracing run)"
        ) from error
    sources = tuple(_source(spec, program) for spec in program.graph_signature.input_specs)
    return Graph(program.graph_module, sources, "export")


def export_at_home(module: nn.Module, example: Tensor) -> Graph:
    """Export a network of one input where its weights are, to run where ``example`` is.

    Raises
    ------
    SymmetryError
        As :func:`export_graph`.
    """
    home = home_of(module, example.device)
    graph = export_graph(module, (example.to(home),))
    return graph if home == example.device else graph.to(example.device)


def home_of(module: nn.Module, otherwise: torch.device) -> torch.device:
    """Where the weights of a network are, if it has any."""
    return next((tensor.device for tensor in module.state_dict().values()), otherwise)


def _source(spec: InputSpec, program: ExportedProgram) -> Source:
    name = str(spec.target)
    if spec.kind == InputKind.USER_INPUT:
        return Source("input", name)
    if spec.kind == InputKind.PARAMETER or (spec.kind == InputKind.BUFFER and spec.persistent is not False):
        return Source("state", name)
    return Source("constant", name, program.constants.get(name))


@contextmanager
def without_fused_layers() -> Iterator[None]:
    """Let attention and recurrent layers run operation by operation: the inside of a fused one is not seen."""
    attention, recurrent = torch.backends.mha.get_fastpath_enabled(), torch._C._get_mkldnn_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    torch.backends.mkldnn.set_flags(_enabled=False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(attention)
        torch.backends.mkldnn.set_flags(_enabled=recurrent)


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings and no dumps of graphs on the way to an error, which says what is needed in one line."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _per_argument(module: nn.Module, shapes: tuple[Any, ...]) -> Any:
    # The arguments of forward(*args) count as one, which holds them all.
    kinds = [parameter.kind for parameter in inspect.signature(module.forward).parameters.values()]
    return (shapes,) if kinds and kinds[0] is inspect.Parameter.VAR_POSITIONAL else shapes


def shape_of(node: fx.Node) -> list[int]:
    """Sizes of a node's (first) tensor value; a dynamic size counts as what it was in the example.

    A size that depends on values is not known and counts as 1; nothing with such an axis has more than pinned labels.
    """
    value = node.meta["val"]
    tensor = value if isinstance(value, torch.Tensor) else value[0]
    return [size if isinstance(size, int) else int(size.node.hint or 1) for size in tensor.shape]


def tied_names(state: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Names of the tensors that are one tensor, for each of its names, in the order of ``state``.

    Copies of a network, and files, do not tell: ask ``module.state_dict(keep_vars=True)``.
    """
    groups: dict[tuple[Any, ...], list[str]] = {}
    tensors = {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}  # no extra state
    for name, tensor in tensors.items():
        own = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride()) if tensor.data_ptr() else (id(tensor),)
        groups.setdefault(own, []).append(name)
    return {name: group for group in groups.values() for name in group}


def float_type(state: Mapping[str, Tensor]) -> torch.dtype:
    """Type of the weights, in which a network takes its inputs."""
    return next((tensor.dtype for tensor in state.values() if tensor.is_floating_point()), torch.float32)


def wide(tensor: Tensor) -> Tensor:
    """The tensor in float32, or as it is if it is wider or not floating: what networks are added up and learned in."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32)) if tensor.is_floating_point() else tensor


class GraphRunner(fx.Interpreter):
    """Runs a graph with given weights and hands chosen intermediate values to the caller.

    Parameters
    ----------
    graph
        Result of :func:`export_graph`.
    taps
        Names of the nodes whose values are wanted.
    """

    def __init__(self, graph: Graph, taps: Sequence[str]) -> None:
        super().__init__(graph.module)
        self._sources = graph.sources
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
        self._values = {}
        self.outputs(state, inputs)
        tapped, self._values = self._values, {}
        return tapped

    def outputs(self, state: Mapping[str, Tensor], inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        """Outputs of the graph for one batch on the graph's device."""
        with torch.no_grad(), full_float32():
            return self.run(*self.arguments(state, inputs))

    def arguments(self, state: Mapping[str, Tensor], inputs: Sequence[Tensor]) -> list[Any]:
        """Values of the placeholders, in order."""
        remaining = iter(inputs)
        values = {"input": lambda _: next(remaining), "state": lambda source: state[source.name]}
        return [values.get(source.kind, lambda source: source.value)(source) for source in self._sources]
