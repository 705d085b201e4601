"""The certificate: a permuted network computes the same function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from fastmatch.errors import CertificateError, SymmetryError
from fastmatch.symmetry.graph import call, eval_mode
from fastmatch.symmetry.spec import PermutationSpec

_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


@dataclass(frozen=True)
class Certificate:
    """Largest difference of a network's outputs before and after a permutation of its units.

    Attributes
    ----------
    max_abs
        Largest absolute difference over all examples and outputs.
    max_rel
        ``max_abs`` over the largest absolute output.
    tolerance
        Largest ``max_rel`` that counts as rounding.
    examples
        Number of examples compared.
    dtype
        Type the outputs were computed in.
    """

    max_abs: float
    max_rel: float
    tolerance: float
    examples: int
    dtype: str

    @property
    def passed(self) -> bool:
        """True where the difference is rounding; NaN never is."""
        return self.max_rel <= self.tolerance

    def require(self, what: str) -> Certificate:
        """Return self, or raise CertificateError saying that ``what`` changed the function."""
        if not self.passed:
            raise CertificateError(
                f"{what} changes the outputs of the network by {self.max_rel:.2e} relative (tolerance "
                f"{self.tolerance:.0e}, {self.examples} examples): the spec "
                "does not fit this network; nothing was written"
            )
        return self

    def to_json(self) -> dict[str, Any]:
        """Plain data, with ``passed``."""
        return {**asdict(self), "passed": self.passed}


def certify(
    spec: PermutationSpec,
    module: nn.Module,
    state: Mapping[str, Tensor],
    indices: Mapping[str, np.ndarray],
    inputs: Sequence[Tensor],
) -> Certificate:
    """Compare the outputs of ``module`` with weights ``state`` before and after permuting its units.

    Runs in evaluation mode and float64 (weights, buffers and inputs); a network that computes in float32 inside is held
    to a float32 tolerance. Neither module nor weights are changed.

    Parameters
    ----------
    indices
        One index array for each group that moves.
    inputs
        Arguments of ``module``, batch axis first.

    Raises
    ------
    SymmetryError
        The network returns no tensors.
    """
    before, coarsest = _outputs(module, _double(state), inputs)
    after, _ = _outputs(module, _double(spec.permute(state, indices)), inputs)
    if not any(old.numel() for old in before):
        raise SymmetryError(f"{type(module).__name__} returns no tensor to compare; certify a network with outputs")
    # Stacked, because torch's maximum keeps NaN and Python's does not.
    difference = float(torch.stack([(new - old).abs().max() for old, new in zip(before, after, strict=True)]).max())
    scale = float(torch.stack([old.abs().max() for old in before]).max())
    return Certificate(
        max_abs=difference,
        max_rel=difference / scale if scale > 0 else difference,
        tolerance=_TOLERANCE.get(coarsest, 1e-2),
        examples=len(inputs[0]),
        dtype=str(coarsest).removeprefix("torch."),
    )


def certify_spec(spec: PermutationSpec, module: nn.Module, inputs: Sequence[Tensor], seed: int = 0) -> Certificate:
    """Certify every group of ``spec`` at once, by random permutations of slightly noised weights.

    The noise breaks coincidences (gains of one, biases of zero) that would hide a tensor left behind.
    """
    generator = torch.Generator().manual_seed(seed)
    state = {
        name: tensor + 0.1 * torch.rand(tensor.shape, generator=generator, dtype=torch.float64).to(tensor.device)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in module.state_dict().items()
    }
    return certify(spec, module, state, spec.random(seed), inputs)


def _double(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies, since a network may change its buffers while it runs."""
    return {
        name: tensor.to(torch.float64, copy=True) if tensor.is_floating_point() else tensor.clone()
        for name, tensor in state.items()
    }


def _outputs(
    module: nn.Module, state: Mapping[str, Tensor], inputs: Sequence[Tensor]
) -> tuple[list[Tensor], torch.dtype]:
    """All output tensors in double precision, and the coarsest floating type among them."""
    arguments = tuple(tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs)
    with torch.no_grad(), eval_mode(module):
        result = call(module, state, arguments)
    leaves = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor) and leaf.numel()]
    floats = [leaf.dtype for leaf in leaves if leaf.is_floating_point()]
    coarsest = min(floats, key=lambda dtype: torch.finfo(dtype).bits, default=torch.float64)
    return [leaf.to(torch.complex128 if leaf.is_complex() else torch.float64) for leaf in leaves], coarsest
