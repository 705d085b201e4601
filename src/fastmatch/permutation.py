"""Permutation: one index array for each group of a network, to apply, invert, compose, compare, save and load."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from torch import Tensor

from fastmatch.errors import AlignmentError, PermutationError, SymmetryError
from fastmatch.files import write_atomic
from fastmatch.symmetry import PermutationSpec

ALIGNMENT_FORMAT = 1
CONVENTION = "b_aligned takes unit p[i] of b to place i: new = old.index_select(axis, p)"


@dataclass(frozen=True, eq=False)
class Permutation:
    """One permutation of a network's units: ``b_aligned = permutation.apply(b)`` takes unit ``p[i]`` of b to place i.

    Parameters
    ----------
    spec
        The groups that the index arrays belong to.
    indices
        Group name -> int64 array of shape [sizes of its bases..., size of the group], permutations of 0 ... size - 1
        along the last axis. Groups that are left out stay in order.
    metadata
        Where it comes from (plain JSON data); kept in the alignment file.

    Raises
    ------
    PermutationError
        An array is not a permutation, or belongs to no group of the spec.
    """

    spec: PermutationSpec
    indices: Mapping[str, np.ndarray]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        identity = self.spec.identity()
        if unknown := [name for name in self.indices if name not in identity]:
            raise PermutationError(f"{unknown[0]!r} is no group of the network; the groups are {', '.join(identity)}")
        checked = {}
        for name, order in identity.items():
            array = np.array(self.indices.get(name, order))
            fits = array.dtype.kind in "iu" and array.shape == order.shape
            if not fits or not np.array_equal(np.sort(array, axis=-1), order):
                raise PermutationError(
                    f"group {name!r} needs permutations of 0 ... {order.shape[-1] - 1} in an array of shape "
                    f"{order.shape}, received {array!r:.80}"
                )
            checked[name] = array.astype(np.int64)
            checked[name].flags.writeable = False
        object.__setattr__(self, "indices", checked)

    @classmethod
    def identity(cls, spec: PermutationSpec) -> Permutation:
        """Return the permutation that moves nothing."""
        return cls(spec, {})

    @classmethod
    def random(cls, spec: PermutationSpec, seed: int) -> Permutation:
        """Return a uniformly random permutation of every group."""
        return cls(spec, spec.random(seed))

    def apply(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return ``state`` with its units moved, buffers included; the function of the network stays the same.

        Tensors that do not move are passed on, not copied.

        Raises
        ------
        PermutationError
            ``state`` has other tensors or shapes than the spec.
        """
        self.spec.check_state(state)
        return self.spec.permute(state, self.indices)

    def invert(self) -> Permutation:
        """Return the permutation that undoes this one: ``p.invert().apply(p.apply(w)) == w``."""
        return Permutation(self.spec, self.spec.invert(self.indices))

    def compose(self, then: Permutation) -> Permutation:
        """First this, then ``then``: ``p.compose(q).apply(w) == q.apply(p.apply(w))``."""
        self._same_groups(then)
        return Permutation(self.spec, self.spec.compose(self.indices, then.indices))

    def fixed_points(self, other: Permutation | None = None) -> dict[str, int]:
        """For each group, the number of places to which both permutations (the identity if None) take the same unit."""
        if other is not None:
            self._same_groups(other)
        return {
            name: int((index == (np.arange(index.shape[-1]) if other is None else other.indices[name])).sum())
            for name, index in self.indices.items()
        }

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Permutation) or self.indices.keys() != other.indices.keys():
            return False
        return all(np.array_equal(index, other.indices[name]) for name, index in self.indices.items())

    __hash__ = None  # type: ignore[assignment]

    def _same_groups(self, other: Permutation) -> None:
        mine, theirs = ({g.name: (g.base, p.spec.shape(g)) for g in p.spec.groups} for p in (self, other))
        if mine != theirs:
            raise PermutationError(
                "the two permutations belong to networks with different groups; align one architecture"
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an alignment file: index arrays, spec and its digest, convention and metadata, as safetensors.

        Raises
        ------
        OutputError
            The file could not be written; what stood there is untouched.
        """
        header = {
            "format": ALIGNMENT_FORMAT,
            "convention": CONVENTION,
            "spec": self.spec.to_json(),
            "spec_sha256": self.spec.digest,
            **self.metadata,
        }
        data = safetensors.numpy.save(dict(self.indices), metadata={"fastmatch": json.dumps(header)})
        write_atomic(path, lambda temporary: temporary.write_bytes(data))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Permutation:
        """Read an alignment file.

        Raises
        ------
        AlignmentError
            The file is missing, incomplete, not an alignment, of a newer format, or its spec was altered.
        """
        indices, header = _read(Path(path))
        try:
            if header["format"] > ALIGNMENT_FORMAT:
                raise AlignmentError(
                    f"{path}: alignment format {header['format']} is newer than {ALIGNMENT_FORMAT}; update"
                )
            if header["convention"] != CONVENTION:
                raise AlignmentError(
                    f"{path}: unknown convention {header['convention']!r:.60}; run `fastmatch align` again"
                )
            spec = _spec(path, header["spec"])
            if spec.digest != header["spec_sha256"]:
                raise AlignmentError(f"{path}: its spec does not match its digest; run `fastmatch align` again")
        except (KeyError, TypeError, RecursionError) as error:
            raise AlignmentError(f"{path}: malformed alignment ({error!r}); run `fastmatch align` again") from error
        if missing := [group.name for group in spec.groups if group.name not in indices]:
            raise AlignmentError(f"{path}: no array for group {missing[0]!r}; run `fastmatch align` again")
        own = ("format", "convention", "spec", "spec_sha256")
        try:
            return cls(spec, indices, {key: value for key, value in header.items() if key not in own})
        except PermutationError as error:
            raise AlignmentError(f"{path}: {error}; run `fastmatch align` again") from error


def _spec(path: str | os.PathLike[str], data: Any) -> PermutationSpec:
    try:
        return PermutationSpec.from_json(data)
    except SymmetryError as error:
        raise AlignmentError(f"{path}: {error}; run `fastmatch align` again") from error


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    if not path.is_file():
        raise AlignmentError(f"no alignment at {path}; write one with `fastmatch align a.pt b.pt`")
    try:
        with safetensors.safe_open(path, framework="numpy") as handle:
            header = json.loads((handle.metadata() or {})["fastmatch"])
            return {name: handle.get_tensor(name) for name in handle.keys()}, header  # noqa: SIM118
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError, RecursionError, OSError) as error:
        raise AlignmentError(f"{path} is not an alignment file; write one with `fastmatch align a.pt b.pt`") from error
