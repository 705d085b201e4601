"""The certificate: a permuted network computes the same function."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

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
        Largest difference relative to the output itself or, for outputs near zero, to a small one of its tensor.
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
    reference = _Reference(module, state, inputs)

    def difference(moved: Indices) -> tuple[float, float]:
        return reference.difference(spec.permute(state, moved))

    found = difference(indices)
    failed: tuple[str, ...] = ()
    if not found[1] <= reference.tolerance:
        failed = tuple(
            f"group {group.name!r} ({_axes(group)})"
            for group in spec.groups
            if group.name in indices and not difference({group.name: indices[group.name]})[1] <= reference.tolerance
        )
    return reference.certificate(found, failed)


def same_function(
    module: nn.Module,
    before: Mapping[str, Tensor],
    after: Mapping[str, Tensor],
    inputs: Sequence[Tensor],
    *,
    other: nn.Module | None = None,
) -> Certificate:
    """Compare the outputs of ``module`` with two sets of weights, computed as in :func:`certify`.

    Parameters
    ----------
    other
        The network that ``after`` belongs to, such as a wider one; ``module`` if None.

    Raises
    ------
    SymmetryError
        The network returns no tensors.
    """
    reference = _Reference(module, before, inputs)
    return reference.certificate(reference.difference(after, other))


class _Reference:
    """Outputs of a network that others must have, to rounding."""

    def __init__(self, module: nn.Module, state: Mapping[str, Tensor], inputs: Sequence[Tensor]) -> None:
        self._module, self._inputs = module, inputs
        self._before, self._coarsest = _outputs(module, state, inputs)
        if not any(old.numel() for old in self._before):
            raise SymmetryError(f"{type(module).__name__} returns no tensor to compare; certify a network with outputs")
        self.tolerance = _TOLERANCE.get(self._coarsest, 1e-2)
        nudged, _ = _outputs(module, _nudge(_double(state)), inputs)
        pairs = zip(self._before, nudged, strict=True)
        self._floors = [100 * _largest_gap(old, new) / self.tolerance for old, new in pairs]

    def difference(self, state: Mapping[str, Tensor], module: nn.Module | None = None) -> tuple[float, float]:
        """Largest absolute and relative difference of the outputs with ``state``, of another module if given."""
        after, _ = _outputs(module or self._module, state, self._inputs)
        return _difference(self._before, after, self._floors)

    def certificate(self, difference: tuple[float, float], failed: tuple[str, ...] = ()) -> Certificate:
        """What was found, with how."""
        max_abs, max_rel = difference
        return Certificate(
            max_abs=max_abs,
            max_rel=max_rel,
            tolerance=self.tolerance,
            examples=next((len(tensor) for tensor in self._inputs if tensor.dim()), 1),
            dtype=str(self._coarsest).removeprefix("torch."),
            failed=failed,
        )


def _axes(group: Group) -> str:
    places = [str(place) for place in group.occurrences]
    return ", ".join(places[:6]) + (f" and {len(places) - 6} more" if len(places) > 6 else "")


def _nudge(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights changed by rounding alone: outputs that cancel to nothing show by how much rounding moves them."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: tensor * (1 + 2.0**-50 * torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor))
        if tensor.is_floating_point()
        else tensor
        for name, tensor in state.items()
    }


def _largest_gap(old: Tensor, new: Tensor) -> float:
    gap = (new - old).abs() if old.shape == new.shape else old.new_zeros(1)
    return float(gap[gap.isfinite()].max()) if gap.isfinite().any() else 0.0


def _difference(before: Sequence[Tensor], after: Sequence[Tensor], floors: Sequence[float]) -> tuple[float, float]:
    """Largest absolute and relative difference; infinite where shapes differ."""
    if [old.shape for old in before] != [new.shape for new in after]:
        return math.inf, math.inf
    absolute, relative = [], []
    for old, new, floor in zip(before, after, floors, strict=True):
        gap = torch.where(new == old, 0.0, (new - old).abs())  # equal infinities are equal
        absolute.append(gap.max())
        relative.append((gap / old.abs().clamp(min=max(_small(old), floor))).max())
    # Stacked, because torch's maximum keeps NaN and Python's does not.
    return float(torch.stack(absolute).max()), float(torch.stack(relative).max())


def _small(tensor: Tensor) -> float:
    """Size that a tenth of the entries other than zero and infinity stay below.

    Differences are taken relative to it or, where that is larger, to the entry itself: scores masked by -1e9 must not
    hide those that are not.
    """
    sizes = tensor[tensor.isfinite() & (tensor != 0)].abs()
    return float(sizes.kthvalue(1 + len(sizes) // 10).values) if len(sizes) else 1.0


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
    noised: dict[tuple[Any, ...], Tensor] = {}
    state: dict[str, Tensor] = {}
    for name, tensor in module.state_dict().items():
        if isinstance(tensor, Tensor) and tensor.is_floating_point():
            noise = 0.1 * torch.rand(tensor.shape, generator=generator, dtype=torch.float64).to(tensor)
            # Tied weights get one noise.
            tensor = noised.setdefault((tensor.data_ptr() or name, tensor.shape, tensor.stride()), tensor + noise)
        state[name] = tensor
    return certify(spec, module, state, spec.random(seed), inputs)


def _double(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies, since a network may change its buffers while it runs."""
    return {name: _copy(tensor) for name, tensor in state.items() if isinstance(tensor, Tensor)}


def _copy(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float64, copy=True) if tensor.is_floating_point() else tensor.clone()


class _Lifted(TorchDispatchMode):
    """Computes in double precision what a network would cast down, make or hold in a lower precision."""

    supports_higher_order_operators = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if not isinstance(func, torch._ops.OpOverload):
            return func(*args, **kwargs)  # a condition, whose branches come back here
        if func.overloadpacket is torch.ops.aten._assert_tensor_metadata:
            return None
        if isinstance(kwargs.get("dtype"), torch.dtype) and kwargs["dtype"].is_floating_point:
            kwargs["dtype"] = torch.float64
        if not func._schema.is_mutable:  # an operation in place must reach its own tensor
            args, kwargs = tree_map_only(Tensor, _wide, (args, kwargs))
        return func(*args, **kwargs)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _plain_outputs(module: nn.Module, state: Mapping[str, Tensor], inputs: Sequence[Tensor]) -> Any:
    """In double precision without lifting, else as the network is: some operations exist in one precision only."""
    try:
        return call(module, _double(state), tuple(map(_copy, inputs)))
    except RuntimeError:
        pass
    try:
        own = {name: tensor.clone() for name, tensor in state.items() if isinstance(tensor, Tensor)}
        return call(module, own, tuple(tensor.clone() for tensor in inputs))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise SymmetryError(f"{type(module).__name__} does not run on these inputs: {reason}") from error


def _outputs(
    module: nn.Module, state: Mapping[str, Tensor], inputs: Sequence[Tensor]
) -> tuple[list[Tensor], torch.dtype]:
    """All output tensors in double precision, and the coarsest floating type among them."""
    with torch.no_grad(), eval_mode(module), without_fused_layers():
        try:
            with _Lifted():
                result = call(module, _double(state), tuple(map(_copy, inputs)))
        except RuntimeError:
            result = _plain_outputs(module, state, inputs)
    leaves = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor) and leaf.numel()]
    floats = [leaf.dtype for leaf in leaves if leaf.is_floating_point()]
    coarsest = min(floats, key=lambda dtype: torch.finfo(dtype).bits, default=torch.float64)
    return [leaf.to(torch.complex128 if leaf.is_complex() else torch.float64) for leaf in leaves], coarsest
