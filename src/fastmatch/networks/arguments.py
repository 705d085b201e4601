"""What the arguments of the built-in networks have in common: ranges and norm layers."""

from __future__ import annotations

from torch import nn

from fastmatch.errors import ModelError

NORMS = ("none", "layer", "batch")


def require_at_least(minimum: int, **values: int) -> None:
    """Raise `ModelError` for the first value below ``minimum``."""
    for name, value in values.items():
        if value < minimum:
            raise ModelError(f"{name} is {value} in the model string; it must be at least {minimum}")


def norm_1d(norm: str, units: int) -> nn.Module:
    """Norm layer for activations [N, units]: ``none``, ``layer`` (LayerNorm) or ``batch``."""
    require_norm(norm)
    return {"none": nn.Identity, "layer": nn.LayerNorm, "batch": nn.BatchNorm1d}[norm](units)


def norm_2d(norm: str, channels: int) -> nn.Module:
    """Norm layer for activations [N, channels, H, W].

    ``layer`` is a GroupNorm with one group, as in the PyTorch ports of Git Re-Basin: one mean and variance per example.
    """
    require_norm(norm)
    if norm == "layer":
        return nn.GroupNorm(1, channels)
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.Identity()


def require_norm(norm: str) -> None:
    """Raise `ModelError` unless ``norm`` is one of `NORMS`."""
    if norm not in NORMS:
        raise ModelError(f"norm is {norm!r} in the model string; it must be one of {', '.join(NORMS)}")
