"""Permutations among the plain data that a call goes on with."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from typing import Any

import numpy as np

from fastmatch.matching import Match
from fastmatch.permutation import Permutation
from fastmatch.symmetry import PermutationSpec


def remembered(
    known: MutableMapping[str, Any], key: str, spec: PermutationSpec, match: Callable[[], Match]
) -> Permutation:
    """The permutation known by ``key``, else the one that ``match`` finds, which is put in."""
    if key not in known:
        known[key] = {group: index.tolist() for group, index in match().permutation.indices.items()}
    return Permutation(spec, {group: np.array(index) for group, index in known[key].items()})
