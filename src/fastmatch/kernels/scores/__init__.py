"""Scores: cross-entropy and 0-1 error of logits, summed over examples and one by one."""

from __future__ import annotations

from torch import Tensor

from fastmatch.kernels.dispatch import Implementation, choose
from fastmatch.kernels.scores import reference
from fastmatch.kernels.scores.result import Scores

__all__ = ["Scores", "scores"]


def scores(
    logits: Tensor, labels: Tensor, *, per_example: bool = False, implementation: Implementation = "auto"
) -> Scores:
    """Cross-entropy (nats) and 0-1 error of one or many networks on the same examples.

    Everything is computed and added up in float64, so that a confident network's loss keeps its digits. Ties between
    logits go to the smaller class; an example with a NaN among its logits is wrong and its loss is NaN.

    Parameters
    ----------
    logits
        Shape [..., examples, classes], any strides, float32, float16 or bfloat16 (the reference: any floating type).
    labels
        Shape [examples], int64, in [0, classes). Nothing else is looked up: on a GPU such an example is wrong and its
        loss is NaN, the reference raises.
    per_example
        Whether to return the values of every example too.
    implementation
        See :func:`fastmatch.kernels.choose`.

    Raises
    ------
    ValueError
        The shapes or the devices do not fit.
    OptionError
        ``implementation`` is unknown or cannot run.
    """
    if logits.dim() < 2 or labels.shape != logits.shape[-2:-1]:
        raise ValueError(f"logits {tuple(logits.shape)} need labels [examples], received {tuple(labels.shape)}")
    if labels.device != logits.device:
        raise ValueError(f"logits on {logits.device} need labels there, received them on {labels.device}")
    if choose([logits], implementation).implementation == "gpu":
        from fastmatch.kernels.scores import gpu

        return gpu.scores(logits, labels, per_example)
    return reference.scores(logits, labels, per_example)
