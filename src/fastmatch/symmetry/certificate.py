"""The certificate: a permuted network computes the same function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fastmatch.errors import CertificateError, SymmetryError
from fastmatch.symmetry.graph import call, eval_mode, without_fused_layers
from fastmatch.symmetry.layout import Indices
from fastmatch.symmetry.spec import Group, PermutationSpec

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
    failed
        Groups that change the function on their own, each with its axes; empty where the certificate passed.
    """

    max_abs: float
    max_rel: float
    tolerance: float
    examples: int
    dtype: str
    failed: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """True where the difference is rounding; NaN never is."""
        return self.max_rel <= self.tolerance

    def require(self, what: str) -> Certificate:
        """Return self, or raise CertificateError saying that ``what`` changed the function."""
        if not self.passed:
            guilty = "; ".join(self.failed) or "no single group does, some together do"
            raise CertificateError(
                f"{what} changes the outputs of the network by {self.max_rel:.2e} relative (tolerance "
                f"{self.tolerance:.0e}, {self.examples} examples): the spec does not fit this network; at fault: "
                f"{guilty:.600}; correct or freeze that; nothing was written"
            )
        return self

    def to_json(self) -> dict[str, Any]:
        """Plain data, with ``passed``."""
        return {**asdict(self), "passed": self.passed}


def certify(
    spec: PermutationSpec,
    module: nn.Module,
    state: Mapping[str, Tensor],
    indices: Indices,
    inputs: Sequence[Tensor],
) -> Certificate:
    """Compare the outputs of ``module`` with weights ``state`` before and after permuting its units.

    Runs in evaluation mode and float64 (weights, buffers and inputs); casts to a lower precision inside the network are
    lifted, and a network that does not run so is held to the tolerance of its coarsest type. Where the outputs differ,
    every group is tried on its own. Neither module nor weights are changed.

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
    before, coarsest = _outputs(module, state, inputs)
    if not any(old.numel() for old in before):
        raise SymmetryError(f"{type(module).__name__} returns no tensor to compare; certify a network with outputs")
    scale = _largest(before)

    def difference(moved: Indices) -> float:
        after, _ = _outputs(module, spec.permute(state, moved), inputs)
        return _largest([new - old for old, new in zip(before, after, strict=True)])

    tolerance = _TOLERANCE.get(coarsest, 1e-2)
    limit = tolerance * scale if scale > 0 else tolerance
    max_abs = difference(indices)
    failed: tuple[str, ...] = ()
    if not max_abs <= limit:
        failed = tuple(
            f"group {group.name!r} ({_axes(group)})"
            for group in spec.groups
            if group.name in indices and not difference({group.name: indices[group.name]}) <= limit
        )
    return Certificate(
        max_abs=max_abs,
        max_rel=max_abs / scale if scale > 0 else max_abs,
        tolerance=tolerance,
        examples=len(inputs[0]),
        dtype=str(coarsest).removeprefix("torch."),
        failed=failed,
    )


def _axes(group: Group) -> str:
    places = [str(place) for place in group.occurrences]
    return ", ".join(places[:6]) + (f" and {len(places) - 6} more" if len(places) > 6 else "")


def _largest(tensors: Sequence[Tensor]) -> float:
    # Stacked, because torch's maximum keeps NaN and Python's does not.
    return float(torch.stack([tensor.abs().max().double() for tensor in tensors]).max())


def certify_spec(spec: PermutationSpec, module: nn.Module, inputs: Sequence[Tensor], seed: int = 0) -> Certificate:
    """Certify every group of ``spec`` at once, by random permutations of slightly noised weights.

    The noise breaks coincidences (gains of one, biases of zero) that would hide a tensor left behind.

    Raises
    ------
    PermutationError
        The spec is not of this network.
    """
    spec.check_state(module.state_dict(), type(module).__name__)
    generator = torch.Generator().manual_seed(seed)
    noised: dict[int, Tensor] = {}
    state: dict[str, Tensor] = {}
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            # Tied weights get one noise.
            key = tensor.data_ptr() if tensor.numel() else -len(state) - 1
            noise = 0.1 * torch.rand(tensor.shape, generator=generator, dtype=torch.float64).to(tensor.device)
            tensor = noised.setdefault(key, tensor + noise) if tensor.is_contiguous() else tensor + noise
        state[name] = tensor
    return certify(spec, module, state, spec.random(seed), inputs)


def _double(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies, since a network may change its buffers while it runs."""
    return {
        name: tensor.to(torch.float64, copy=True) if tensor.is_floating_point() else tensor.clone()
        for name, tensor in state.items()
    }


class _Lifted(TorchDispatchMode):
    """Computes in double precision what a network would cast down, or make in a lower precision."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func.overloadpacket is torch.ops.aten._assert_tensor_metadata:
            return None
        if isinstance(kwargs.get("dtype"), torch.dtype) and kwargs["dtype"].is_floating_point:
            kwargs["dtype"] = torch.float64
        return func(*args, **kwargs)


def _outputs(
    module: nn.Module, state: Mapping[str, Tensor], inputs: Sequence[Tensor]
) -> tuple[list[Tensor], torch.dtype]:
    """All output tensors in double precision, and the coarsest floating type among them."""
    arguments = tuple(tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs)
    with torch.no_grad(), eval_mode(module), without_fused_layers():
        try:
            with _Lifted():
                result = call(module, _double(state), arguments)
        except RuntimeError:
            result = call(module, _double(state), arguments)
    leaves = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor) and leaf.numel()]
    floats = [leaf.dtype for leaf in leaves if leaf.is_floating_point()]
    coarsest = min(floats, key=lambda dtype: torch.finfo(dtype).bits, default=torch.float64)
    return [leaf.to(torch.complex128 if leaf.is_complex() else torch.float64) for leaf in leaves], coarsest
