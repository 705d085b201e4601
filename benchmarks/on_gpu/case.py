"""What is compared on a GPU: a problem, the kernel in several forms, other ways to the same answer, and targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastmatch.kernels import Precision

TOLERANCE: dict[Precision, float] = {"highest": 1e-6, "high": 1e-5, "fast": 1e-3}
_FAST_OF_HALVES = 1e-2
COMPARABLE = 10  # Alternatives count that are off by up to so many times what the kernel may be.
Call = Callable[[Any], Any]


class Sizes(NamedTuple):
    """How large the cases are; tests take small ones."""

    models: Mapping[str, str]  # Model strings by what the table calls them.
    halves: tuple[str, ...]  # Of the models, those that are compared in bfloat16 too.
    examples: int
    stages: tuple[tuple[int, int], ...]  # Channels and side of the activations.
    far: tuple[int, int]  # Of the activations whose means are 1000 times their deviations.
    parameters: Mapping[str, int]  # Of a network as the evaluation packs them, in multiples of 8.
    combinations: tuple[int, ...]
    logits: tuple[tuple[int, int, int], ...]  # Networks, examples, classes.
    features: tuple[int, ...]
    matched: tuple[str, int]  # Model and examples of the activation matching.


FULL = Sizes(
    models={
        "ResNet-20 x4": "resnet20(width=4)",
        "VGG-16": "vgg16()",
        "ResNet-20 x32": "resnet20(width=32)",
    },
    halves=("ResNet-20 x4",),
    examples=1000,
    stages=((16, 32), (32, 16), (64, 8), (64, 32), (128, 16), (256, 8), (512, 4), (512, 2), (512, 1)),
    far=(64, 16),
    parameters={"ResNet-20 x4": 4_327_760, "VGG-16": 15_245_136, "100 M": 100_000_000},
    combinations=(1, 25),
    logits=((25, 10_000, 10), (1, 10_000, 10), (25, 50_000, 1000)),
    features=(1000, 64, 32, 32),
    matched=("resnet20(width=4, norm=batch)", 50_000),
)


class Target(NamedTuple):
    """At least so much of a figure of the table; ``"bound"`` is the fraction of what a call is bound by."""

    figure: str
    least: float
    least_of_products: float = 0.0  # Instead, where matrix products are the bound.


@dataclass(frozen=True)
class Kernel:
    """One form of a kernel."""

    run: Call
    tolerance: float
    precision: Precision = "highest"
    targets: tuple[Target, ...] = ()
    comparable: float | None = None

    @property
    def counts(self) -> float:
        """Error up to which an alternative counts."""
        return COMPARABLE * self.tolerance if self.comparable is None else self.comparable


@dataclass(frozen=True)
class Alternative:
    """One way to the same answer without the kernel.

    With ``tf32`` torch may round the factors of products. Worth compiling is what could take fewer passes then.
    """

    run: Call
    tf32: bool = False
    worth_compiling: bool = False


@dataclass(frozen=True)
class Case:
    """A problem and all that is timed on it.

    Attributes
    ----------
    make
        Inputs for a device and a seed.
    exact
        What :attr:`read` should have given, computed in float64.
    read
        Tensors to compare, of the inputs and what a call returned.
    moved, operations
        Bytes that must pass through memory at least, and floating-point operations of matrix products.
    """

    family: str
    name: str
    make: Callable[[torch.device, int], Any]
    exact: Callable[[Any], Sequence[Tensor]]
    kernels: Mapping[str, Kernel]
    alternatives: Mapping[str, Alternative]
    moved: int
    operations: int = 0
    read: Callable[[Any, Any], Sequence[Tensor]] = lambda inputs, result: [result]
    fields: Mapping[str, object] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.family} {self.name}"

    def error(self, call: Call, inputs: Any, exact: Sequence[Tensor]) -> float:
        """Largest relative error (Frobenius norm) of what one call gives; infinite where it is not finite."""
        found = self.read(inputs, call(inputs))
        return max(relative_error(value, wanted) for value, wanted in zip(found, exact, strict=True))


def relative_error(found: Tensor, exact: Tensor) -> float:
    if found.shape != exact.shape or not found.isfinite().all():
        return float("inf")
    wanted = exact.double()
    norm = float(torch.linalg.vector_norm(wanted))
    return float(torch.linalg.vector_norm(found.double() - wanted)) / (norm or 1.0)


def tolerance(precision: Precision, dtype: torch.dtype) -> float:
    """What the relative error may be."""
    return _FAST_OF_HALVES if precision == "fast" and dtype.itemsize < 4 else TOLERANCE[precision]


def short(dtype: torch.dtype) -> str:
    return {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}[dtype]
