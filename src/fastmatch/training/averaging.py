"""Averages of networks along a training run."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from fastmatch.errors import ModelError, OptionError


def running_averages(states: Iterable[Mapping[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    """Average of the first network, of the first two, and so on: stochastic weight averaging, once an epoch.

    Sums are kept in float64 and rounded once for each average. What is not floating (counters) is that of the last
    network. Running statistics of BatchNorm are averaged like weights, which is not what the average network would
    measure: evaluate it with statistics reset (``bn="reset"``).

    Parameters
    ----------
    states
        State dicts of one architecture, such as those that :func:`train` saves with a constant learning rate; one is
        held at a time.

    Raises
    ------
    ModelError
        A network has other tensors or shapes than the first.

    References
    ----------
    Izmailov et al. 2018, algorithm 1; Kalaivanan 2023, sections 3.4 and 4.3.
    """
    sums: dict[str, Tensor] = {}
    first: dict[str, tuple[torch.Size, bool]] = {}
    for number, state in enumerate(states):
        form = {name: (tensor.shape, tensor.is_floating_point()) for name, tensor in state.items()}
        first = first or form
        if form != first:
            raise ModelError(f"network {number} has other tensors than the first; average networks of one architecture")
        for name, (_, floating) in form.items():
            if floating:
                sums[name] = state[name].to(torch.float64, copy=True) + sums.get(name, 0.0)
        yield {name: _like(tensor, sums, name, number + 1) for name, tensor in state.items()}


def _like(tensor: Tensor, sums: Mapping[str, Tensor], name: str, count: int) -> Tensor:
    return (sums[name] / count).to(tensor.dtype) if name in sums else tensor.clone()


def average(states: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Average of all networks; see :func:`running_averages`.

    Raises
    ------
    OptionError
        There is no network.
    ModelError
        A network has other tensors or shapes than the first.
    """
    last = deque(running_averages(states), maxlen=1)
    if not last:
        raise OptionError("there is no network to average; give at least one")
    return last[0]
