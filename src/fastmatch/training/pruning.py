"""Masks: which weights of a network are kept, by magnitude or at random, and how they move to another network."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from fastmatch.checkpoints import Masks, mask_problem
from fastmatch.errors import OptionError, PermutationError
from fastmatch.permutation import Permutation
from fastmatch.symmetry import tied_names

CRITERIA = ("magnitude", "random")
SCOPES = ("global", "layer")


_WEIGHT = re.compile(r"weight|in_proj_weight|[qkv]_proj_weight|weight_(ih|hh|hr)(_.*)?")
NOTHING = "the network has no weights to prune: no weight of a layer has two axes or more"


def prunable(state: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that pruning may touch: weights of linear, convolution, embedding and other layers.

    These are the floating-point tensors with two axes or more that layers of torch call ``weight``; attention
    ``in_proj_weight``, or ``q_proj_weight`` and so on; recurrent layers ``weight_ih_l0``, ``weight_hh_l0`` and so on.
    Biases, norms and statistics are never pruned: a weight whose bias has its shape scales, as that of a norm over
    several axes. Only such a norm without bias cannot be told by names and shapes.
    """
    return [
        name
        for name, tensor in state.items()
        if tensor.ndim >= 2 and tensor.is_floating_point() and _is_weight(name, tensor, state)
    ]


def _is_weight(name: str, tensor: Tensor, state: Mapping[str, Tensor]) -> bool:
    layer, _, last = name.rpartition(".")
    bias = state.get(f"{layer}.bias" if layer else "bias")
    return _WEIGHT.fullmatch(last) is not None and (bias is None or bias.shape != tensor.shape)


def twins(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Tied weights: the prunable tensors that are another one before them, in the same memory, by their names.

    Copies of a network, and files, do not tell: ask ``module.state_dict()``.
    """
    names = prunable(state)
    groups = tied_names({name: state[name] for name in names})
    return {name: groups[name][0] for name in names if groups[name][0] != name}


def prune(
    state: Mapping[str, Tensor],
    density: float,
    *,
    criterion: str = "magnitude",
    scope: str = "global",
    masks: Masks | None = None,
    seed: int = 0,
    tied: Mapping[str, str] | None = None,
) -> dict[str, Tensor]:
    """Masks that keep ``round(density * n)`` of the n :func:`prunable` weights, halves rounded to even.

    Tied weights count once, and get one mask.

    Parameters
    ----------
    state
        The weights. They are not changed: see :func:`apply_masks`.
    density
        Fraction of weights to keep, over 0 and at most 1.
    criterion
        ``"magnitude"`` keeps the largest absolute values, and of equal ones those that stand first; ``"random"`` draws
        from ``seed``.
    scope
        ``"global"`` compares all weights with each other, ``"layer"`` those of one tensor, of which each then keeps its
        own ``round(density * n)``.
    masks
        What earlier pruning kept: the rest stays pruned, so that the masks returned lie inside these.

    tied
        What :func:`twins` says of the network; by default, of ``state``.

    Returns
    -------
    dict
        A bool tensor for each prunable tensor, on its device, True where a weight is kept.

    Raises
    ------
    OptionError
        An option is out of range, there is nothing to prune, or ``masks`` do not fit or keep fewer weights already.

    References
    ----------
    Sharma et al. 2024, appendix A, step 2; Frankle and Carbin 2019.
    """
    _check(state, density, criterion, scope, masks)
    tied = twins(state) if tied is None else tied
    names = [name for name in prunable(state) if name not in tied]
    generator = torch.Generator().manual_seed(seed)
    scores = {
        name: state[name].detach().abs().double()
        if criterion == "magnitude"
        else torch.rand(state[name].shape, generator=generator, dtype=torch.float64).to(state[name].device)
        for name in names
    }
    for name, mask in (masks or {}).items():
        first = tied.get(name, name)
        scores[first] = scores[first].masked_fill(~mask.to(scores[first].device), -1.0)  # below every magnitude
    groups = [names] if scope == "global" else [[name] for name in names]
    found = {name: mask for group in groups for name, mask in _largest(group, scores, density).items()}
    return found | {name: found[first].clone() for name, first in tied.items()}


def _largest(names: list[str], scores: Mapping[str, Tensor], density: float) -> dict[str, Tensor]:
    flat = torch.cat([scores[name].flatten() for name in names])
    keep = round(density * len(flat))
    kept = torch.zeros_like(flat, dtype=torch.bool)
    kept[flat.sort(descending=True, stable=True).indices[:keep]] = True
    if bool((flat[kept] < 0).any()):
        where = names[0] if len(names) == 1 else "the network"
        raise OptionError(f"the masks keep fewer than {keep} weights of {where} already; choose a smaller density")
    sizes = [scores[name].numel() for name in names]
    return {name: part.reshape(scores[name].shape) for name, part in zip(names, kept.split(sizes), strict=True)}


def _check(state: Mapping[str, Tensor], density: float, criterion: str, scope: str, masks: Masks | None) -> None:
    if not 0 < density <= 1:
        raise OptionError(f"density {density} is out of range; it must be over 0 and at most 1")
    for option, value, known in (("criterion", criterion, CRITERIA), ("scope", scope, SCOPES)):
        if value not in known:
            raise OptionError(f"unknown {option} {value!r}; choose one of {', '.join(known)}")
    names = prunable(state)
    if not names:
        raise OptionError(NOTHING)
    if masks is None:
        return
    if problem := mask_problem(masks, state):
        raise OptionError(f"{problem}; use masks of this network")
    if masks.keys() != set(names):
        odd = min(masks.keys() ^ set(names))
        raise OptionError(f"{odd!r} is masked but not prunable, or the reverse; use masks that `prune` made")


def apply_masks(masks: Masks, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``state`` with the weights outside ``masks`` set to 0; other tensors are passed on, not copied.

    Raises
    ------
    OptionError
        A mask does not fit.
    """
    if problem := mask_problem(masks, state):
        raise OptionError(f"{problem}; use masks of this network")
    return {
        name: tensor.masked_fill(~masks[name].to(tensor.device), 0) if name in masks else tensor
        for name, tensor in state.items()
    }


def density(masks: Masks, tied: Mapping[str, str] | None = None) -> float:
    """Fraction of the masked tensors' weights that are kept; those that :func:`twins` names as ``tied`` count once."""
    counted = [mask for name, mask in masks.items() if name not in (tied or {})]
    return sum(int(mask.sum()) for mask in counted) / sum(mask.numel() for mask in counted)


def transport(masks: Masks, permutation: Permutation) -> dict[str, Tensor]:
    """``masks`` with the units moved as ``permutation.apply`` moves those of a network.

    Where ``p.apply(b)`` lines up with a, as in an alignment of a and b, masks of b become masks for a by
    ``transport(masks, p)``, and masks of a become masks for b by ``transport(masks, p.invert())``.

    Raises
    ------
    PermutationError
        A mask does not fit the network of the permutation.

    References
    ----------
    Sharma et al. 2024, section 5.2 and appendix F, step 4.
    """
    for name, mask in masks.items():
        layout = permutation.spec.tensors.get(name)
        if layout is None or tuple(mask.shape) != layout.shape:
            raise PermutationError(
                f"the mask of {name!r}, of shape {tuple(mask.shape)}, does not fit the network of the alignment; "
                "use masks and an alignment of one architecture and width"
            )
    return permutation.spec.permute(masks, permutation.indices)
