"""Match: what a matching method found, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastmatch.permutation import Permutation


@dataclass(frozen=True)
class GroupMatch:
    """Figures of one group; objectives are the summed similarities of its units, float64, before and after matching."""

    name: str
    size: int
    objective_before: float
    objective_after: float
    fixed_points: int
    dead_units: int


@dataclass(frozen=True)
class Match:
    """A permutation with the evidence for it.

    Attributes
    ----------
    objective_before, objective_after
        The method's objective, float64, under the identity and under ``permutation``.
    sweeps
        Passes over all groups (1 for methods without iteration).
    status
        ``"converged"`` or ``"sweep limit"``.
    restarts
        Final objective of every start, in order; the best one is kept.
    examples
        Number of examples whose activations were compared; 0 for weight matching.
    seconds
        Wall time.
    """

    permutation: Permutation
    method: str
    seed: int
    objective_before: float
    objective_after: float
    groups: tuple[GroupMatch, ...]
    sweeps: int
    status: str
    restarts: tuple[float, ...]
    examples: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain data, without the permutation."""
        data = {name: value for name, value in vars(self).items() if name != "permutation"}
        return {**data, "restarts": list(self.restarts), "groups": [vars(group) for group in self.groups]}
