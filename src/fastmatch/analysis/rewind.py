"""Networks with some layers from another time of training, to ask which layers an alignment takes its cue from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

from torch import Tensor, nn

from fastmatch.errors import OptionError
from fastmatch.symmetry import export_graph, tied_names

Kind = Literal["bottom-up", "top-down", "put-in", "leave-out"]


def layers(module: nn.Module, inputs: Sequence[Tensor]) -> tuple[tuple[str, ...], ...]:
    """Tensors of each layer of a network, layers in the order in which it runs them, whatever they are called.

    A layer begins with a submodule that has a parameter of two axes or more (a convolution, a linear layer) and ends
    before the next: normalisations and what else has vectors alone belong to the layer before them, or to the first.
    All names of a tied tensor belong to the layer that uses it first.

    Parameters
    ----------
    inputs
        Example inputs, batch axis first, at least two examples.

    Raises
    ------
    SymmetryError
        ``torch.export`` cannot follow the network.
    """
    names_of, used = tied_names(module.state_dict(keep_vars=True)), _first_use(module, inputs)
    turn = {name: min(used.get(other, math.inf) for other in others) for name, others in names_of.items()}
    matrices = {name for name, tensor in module.named_parameters(remove_duplicate=False) if tensor.dim() > 1}
    modules: dict[str, list[str]] = {}
    for name in sorted(turn, key=turn.__getitem__):
        modules.setdefault(names_of[name][0].rpartition(".")[0], []).append(name)
    found: list[list[str]] = []
    for names in modules.values():
        if not found or not (matrices.isdisjoint(names) or matrices.isdisjoint(found[-1])):
            found.append([])
        found[-1] += names
    return tuple(map(tuple, found))


def _first_use(module: nn.Module, inputs: Sequence[Tensor]) -> dict[str, int]:
    """Place in the graph of the first operation on each tensor of the state dict that is used."""
    graph = export_graph(module, inputs)
    order = {node: place for place, node in enumerate(graph.module.graph.nodes)}
    return {
        source.name: min(order[user] for user in node.users)
        for node, source in graph.placeholders()
        if source.kind == "state" and node.users
    }


def rewound_layers(count: int, layer: int, kind: Kind) -> list[int]:
    """Numbers of the layers to rewind (Sharma et al. 2024, appendix H.3).

    Parameters
    ----------
    count
        Number of layers.
    layer
        Layer that is meant, from 0; ``count`` itself is allowed as the end of ``"bottom-up"`` and ``"top-down"``.
    kind
        ``"bottom-up"``: the layers before it; ``"top-down"``: it and those after it; ``"put-in"``: it alone;
        ``"leave-out"``: all but it.

    Raises
    ------
    OptionError
        There is no such layer, or the kind is unknown.
    """
    if kind not in get_args(Kind):
        raise OptionError(f"kind {kind!r} is unknown; choose {', '.join(get_args(Kind))}")
    last = count if kind in ("bottom-up", "top-down") else count - 1
    if not 0 <= layer <= last:
        raise OptionError(f"there is no layer {layer} of {count} for {kind}; choose 0 to {last}")
    chosen = {
        "bottom-up": range(layer),
        "top-down": range(layer, count),
        "put-in": [layer],
        "leave-out": [number for number in range(count) if number != layer],
    }
    return list(chosen[kind])


def rewind(
    late: Mapping[str, Tensor],
    early: Mapping[str, Tensor],
    parts: Sequence[Iterable[str]],
    chosen: Iterable[int],
) -> dict[str, Tensor]:
    """The late network with the tensors of some layers from the early one; nothing is copied.

    Two networks rewound alike and matched give a permutation as from the early networks for these layers and as from
    the late ones for the others.

    Parameters
    ----------
    late, early
        State dicts of one architecture.
    parts
        Tensors of every layer, as from :func:`layers`.
    chosen
        Numbers of the layers to rewind.

    Raises
    ------
    OptionError
        There is no such layer.
    """
    chosen = list(chosen)
    if unknown := [number for number in chosen if not 0 <= number < len(parts)]:
        raise OptionError(f"there is no layer {unknown[0]} of {len(parts)}, which are numbered from 0")
    names = {name for number in chosen for name in parts[number]}
    return {name: early[name] if name in names else tensor for name, tensor in late.items()}
