"""Masks of pruned networks: which weights are kept, by the name of their tensor.

A mask is stored beside the weights, not read off their zeros: a weight that training leaves at 0 is not pruned.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

Masks = Mapping[str, Tensor]

PT_ENTRY = "fastmatch_masks"
SAFETENSORS_PREFIX = "fastmatch.mask:"


def mask_problem(masks: Masks, state: Mapping[str, Tensor]) -> str | None:
    """Say why ``masks`` are none for the tensors of ``state``; None where they fit.

    Masks are bool tensors, True where a weight is kept, each of the name and the shape of a tensor of the network.
    """
    for name, mask in masks.items():
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            return f"the mask of {name!r:.80} is {getattr(mask, 'dtype', type(mask).__name__)}, not torch.bool"
        if mask.layout != torch.strided or mask.is_meta:
            where = "on the meta device" if mask.is_meta else mask.layout
            return f"the mask of {name!r:.80} is {where}, not a dense tensor"
        if not isinstance(state.get(name), Tensor):
            return f"there is a mask of {name!r:.80}, which the network does not have"
        if mask.shape != state[name].shape:
            return f"the mask of {name!r} has shape {tuple(mask.shape)}, its weights {tuple(state[name].shape)}"
    return None


def unmasked(masks: Masks, state: Mapping[str, Tensor]) -> str | None:
    """Name of the first tensor with a weight outside its mask that is not 0."""
    return next((name for name, mask in masks.items() if bool(state[name].masked_select(~mask).any())), None)
