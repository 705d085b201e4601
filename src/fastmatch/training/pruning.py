"""Masks: which weights of a network are kept, by magnitude or at random, and how they move to another network."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fastmatch.checkpoints import Masks, mask_problem
from fastmatch.errors import OptionError, PermutationError
from fastmatch.permutation import Permutation

CRITERIA = ("magnitude", "random")
SCOPES = ("global", "layer")


def prunable(state: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that pruning may touch: weights of linear, convolution and embedding layers.

    These are the floating-point tensors with two axes or more whose name ends in ``weight``; biases, norms and
    statistics are never pruned.
    """
    return [
        name
        for name, tensor in state.items()
        if tensor.ndim >= 2 and tensor.is_floating_point() and name.rpartition(".")[2] == "weight"
    ]


def prune(
    state: Mapping[str, Tensor],
    density: float,
    *,
    criterion: str = "magnitude",
    scope: str = "global",
    masks: Masks | None = None,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Masks that keep ``round(density * n)`` of the n :func:`prunable` weights, halves rounded to even.

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
    names = prunable(state)
    generator = torch.Generator().manual_seed(seed)
    scores = {
        name: state[name].detach().abs().double()
        if criterion == "magnitude"
        else torch.rand(state[name].shape, generator=generator, dtype=torch.float64).to(state[name].device)
        for name in names
    }
    for name, mask in (masks or {}).items():
        scores[name] = scores[name].masked_fill(~mask.to(scores[name].device), -1.0)  # below every magnitude
    groups = [names] if scope == "global" else [[name] for name in names]
    return {name: mask for group in groups for name, mask in _largest(group, scores, density).items()}


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
        raise OptionError("the network has no weights to prune: no tensor of two axes or more named 'weight'")
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


def density(masks: Masks) -> float:
    """Fraction of the masked tensors' weights that are kept."""
    return sum(int(mask.sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())


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
