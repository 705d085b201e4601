"""Operations recorded while a network runs: for networks that cannot be exported."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functionalize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from fastmatch.errors import SymmetryError
from fastmatch.symmetry.graph import CHANGED, Graph, GraphRunner, Source, call, eval_mode, without_fused_layers

_NOISES = (1e-2, 1e-3, 1e-4)


def record_graph(module: nn.Module, inputs: Sequence[Tensor]) -> Graph:
    """Run ``module`` once in evaluation mode and return the operations it performed.

    This follows branches that depend on data, as far as the one taken with ``inputs``. The record is run again with
    slightly other weights: where that is not what the network computes, values left torch on the way (through numpy or
    Python numbers), and the record is refused.

    Raises
    ------
    SymmetryError
        The network fails on ``inputs``, or its values leave torch.
    """
    state = {name: value.detach() for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    recorder = _Recorder()
    arguments = _copies(state), tuple(tensor.clone() for tensor in inputs)
    for name, tensor in arguments[0].items():
        recorder.add_source(Source("state", name), tensor)
    for place, tensor in enumerate(arguments[1]):
        recorder.add_source(Source("input", str(place)), tensor)
    try:
        with eval_mode(module), torch.no_grad(), without_fused_layers(), recorder:
            result = functionalize(lambda state, inputs: call(module, state, inputs))(*arguments)
    except Exception as error:  # whatever the user's network raises
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SymmetryError(f"{type(module).__name__} does not run on its example inputs: {reason}") from error
    graph = recorder.finish([leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)])
    if graph is None or not any(_replays(graph, module, state, inputs, noise) for noise in _NOISES):
        raise SymmetryError(
            f"values of {type(module).__name__} leave torch while it runs (through numpy or Python numbers) and cannot "
            "be followed; write a spec by hand and give it with --spec"
        )
    return graph


def _copies(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in state.items()}


def _replays(
    graph: Graph, module: nn.Module, state: Mapping[str, Tensor], inputs: Sequence[Tensor], noise: float
) -> bool:
    """Whether the record computes what the network does, with other weights that take the same branches."""
    generator = torch.Generator().manual_seed(0)
    other = {
        name: tensor * (1 + noise * torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype).to(tensor))
        if tensor.is_floating_point()
        else tensor
        for name, tensor in state.items()
    }
    with eval_mode(module), torch.no_grad(), without_fused_layers():
        try:
            result = call(module, _copies(other), [tensor.clone() for tensor in inputs])
            found = GraphRunner(graph, []).outputs(_copies(other), [tensor.clone() for tensor in inputs])
        except RuntimeError:
            return False
    expected = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
    return len(found) == len(expected) and all(
        new.shape == old.shape
        and torch.allclose(new, old, rtol=0.01 * noise, atol=0.01 * noise * _size(old), equal_nan=True)
        for old, new in zip(expected, found, strict=True)
    )


def _size(tensor: Tensor) -> float:
    return float(tensor.abs().double().median()) if tensor.numel() else 0.0


class _Recorder(TorchDispatchMode):
    """Writes every operation into a graph; holds on to all values, since a tensor is known by its identity."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self._graph = fx.Graph()
        self._sources: list[Source] = []
        self._last_source: fx.Node | None = None
        self._nodes: dict[int, fx.Node] = {}
        self._values: list[Tensor] = []
        self._sharing: dict[int, list[fx.Node]] = {}
        self._changed: set[int] = set()

    def add_source(self, source: Source, value: Tensor) -> None:
        anchor = self._last_source if self._last_source is not None else self._graph._root
        with self._graph.inserting_after(anchor):
            node = self._graph.placeholder(f"source_{len(self._sources)}")
        self._last_source = node
        self._sources.append(source)
        self._bind(value, node)

    def _bind(self, value: Tensor, node: fx.Node) -> None:
        node.meta["val"] = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
        if id(value) not in self._nodes:
            self._values.append(value)
            self._sharing.setdefault(_storage(value), []).append(node)
        if _storage(value) in self._changed:
            node.meta[CHANGED] = True
        self._nodes[id(value)] = node

    def _node(self, value: Tensor) -> fx.Node:
        if id(value) not in self._nodes:
            self.add_source(Source("constant", f"value_{len(self._sources)}", value), value)
        return self._nodes[id(value)]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not isinstance(func, torch._ops.OpOverload):
            return func(*args, **kwargs)  # a condition, whose branch comes back here
        arguments = tree_map_only(Tensor, self._node, (args, kwargs))
        target = self._out_of_place(func, args)
        if target._schema.is_mutable:
            self._mark_changed(args)
        result = func(*args, **kwargs)
        node = self._graph.call_function(target, *arguments)
        if isinstance(result, Tensor):
            self._bind(result, node)
        elif isinstance(result, list | tuple):
            node.meta["val"] = list(result)
            for place, value in enumerate(result):
                if isinstance(value, Tensor):
                    self._bind(value, self._graph.call_function(operator.getitem, (node, place)))
        return result

    def _out_of_place(self, func: Any, args: Any) -> Any:
        """Twin of an operation in place that leaves the tensor alone: as good where nothing else sees the change."""
        name = func.overloadpacket.__name__
        if not func._schema.is_mutable or not name.endswith("_") or len(self._sharing[_storage(args[0])]) > 1:
            return func
        return getattr(getattr(torch.ops.aten, name[:-1], None), func._overloadname, func)

    def _mark_changed(self, args: Any) -> None:
        """Mark what shares memory with what an operation may write to: labels cannot tell the one from the other."""
        for value in tree_leaves(args):
            if isinstance(value, Tensor):
                self._changed.add(_storage(value))
                for node in self._sharing[_storage(value)]:
                    node.meta[CHANGED] = True

    def finish(self, outputs: list[Tensor]) -> Graph | None:
        """Return the graph, or None where an output was not computed by what was recorded."""
        if any(id(value) not in self._nodes for value in outputs):
            return None
        self._graph.output(tuple(self._nodes[id(value)] for value in outputs))
        return Graph(fx.GraphModule(nn.Module(), self._graph), tuple(self._sources), "run")


def _storage(value: Tensor) -> int:
    return value.untyped_storage()._cdata
