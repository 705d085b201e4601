"""Operations recorded while a network runs: for networks that cannot be exported."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functionalize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from fastmatch.errors import SymmetryError
from fastmatch.symmetry.graph import Graph, Source, call, eval_mode, without_fused_layers


def record_graph(module: nn.Module, inputs: Sequence[Tensor]) -> Graph:
    """Run ``module`` once in evaluation mode and return the operations it performed.

    This follows branches that depend on data, as far as the one taken with ``inputs``. Values that leave torch and come
    back (through numpy or Python numbers) are not followed, and operations inside fused layers are not seen.

    Raises
    ------
    SymmetryError
        The network fails on ``inputs``.
    """
    state = {name: tensor.detach() for name, tensor in module.state_dict().items()}
    recorder = _Recorder()
    for name, tensor in state.items():
        recorder.add_source(Source("state", name), tensor)
    for place, tensor in enumerate(inputs):
        recorder.add_source(Source("input", str(place)), tensor)
    try:
        with eval_mode(module), torch.no_grad(), without_fused_layers(), recorder:
            result = functionalize(lambda state, inputs: call(module, state, inputs))(state, tuple(inputs))
    except Exception as error:  # whatever the user's network raises
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SymmetryError(f"{type(module).__name__} does not run on its example inputs: {reason}") from error
    return recorder.finish([leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)])


class _Recorder(TorchDispatchMode):
    """Writes every operation into a graph; holds on to all values, since a tensor is known by its identity."""

    def __init__(self) -> None:
        super().__init__()
        self._graph = fx.Graph()
        self._sources: list[Source] = []
        self._last_source: fx.Node | None = None
        self._nodes: dict[int, fx.Node] = {}
        self._values: list[Tensor] = []
        self._sharing: Counter[int] = Counter()

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
            self._sharing[_storage(value)] += 1
        self._nodes[id(value)] = node

    def _node(self, value: Tensor) -> fx.Node:
        if id(value) not in self._nodes:
            self.add_source(Source("constant", f"value_{len(self._sources)}", value), value)
        return self._nodes[id(value)]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        arguments = tree_map_only(Tensor, self._node, (args, kwargs))
        target = self._out_of_place(func, args)
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
        if not func._schema.is_mutable or not name.endswith("_") or self._sharing[_storage(args[0])] > 1:
            return func
        return getattr(getattr(torch.ops.aten, name[:-1], None), func._overloadname, func)

    def finish(self, outputs: list[Tensor]) -> Graph:
        self._graph.output(tuple(self._nodes[id(value)] for value in outputs if id(value) in self._nodes))
        return Graph(fx.GraphModule(nn.Module(), self._graph), tuple(self._sources), "run")


def _storage(value: Tensor) -> int:
    return value.untyped_storage()._cdata
