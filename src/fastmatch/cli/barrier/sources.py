"""Networks that ``fastmatch barrier`` reads: checkpoints, and what alignment files say about theirs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors

import fastmatch
from fastmatch import files
from fastmatch.errors import ModelError


@dataclass(frozen=True, eq=False)
class Alignment:
    """An alignment file with its checkpoints, their digests checked; ``data`` is None where it is the user's code."""

    permutation: fastmatch.Permutation
    a: fastmatch.Checkpoint
    b: fastmatch.Checkpoint
    data: str | None
    seed: int | None


@dataclass(frozen=True, eq=False)
class Source:
    """A network named on the command line: a checkpoint, or an alignment, which stands for its b, units permuted.

    ``files`` are those read; ``sha256`` is the digest of the file named.
    """

    name: str
    network: fastmatch.Checkpoint
    data: str | None
    files: tuple[Path, ...]
    sha256: str

    @property
    def title(self) -> str:
        """Name without its folder."""
        return Path(self.name).name

    def to_json(self) -> dict[str, str]:
        """Plain data: name and digest."""
        return {"path": self.name, "sha256": self.sha256}


def read_alignment(path: str, model: str | None) -> Alignment:
    """Read an alignment file and the checkpoints that it names.

    Raises
    ------
    AlignmentError
        It is none, does not name its checkpoints, or these have changed since.
    """
    permutation = _load(path)
    origin = permutation.metadata
    first, second = (_checkpoint(origin, path, side, model) for side in ("a", "b"))
    data = origin.get("data")
    builtin = data if data and fastmatch.is_builtin_data(data) else None
    return Alignment(permutation, first, second, builtin, origin["match"]["seed"])


def _load(path: str) -> fastmatch.Permutation:
    """What `fastmatch align` wrote, its form checked."""
    permutation = fastmatch.Permutation.load(path)
    side = {"path": str, "sha256": str}
    form = {"a": side, "b": side, "model": str, "data": str | None, "match": {"seed": int | None}}
    if not has_form(permutation.metadata, form):
        raise fastmatch.AlignmentError(f"{path} does not name its checkpoints; run `fastmatch align` again")
    return permutation


def has_form(value: Any, form: Any) -> bool:
    """Whether plain data have the keys and types of ``form``; what they hold besides does not matter."""
    if isinstance(form, dict):
        return isinstance(value, Mapping) and all(has_form(value.get(key), part) for key, part in form.items())
    return isinstance(value, form)


def _path(origin: Mapping[str, Any], alignment: str, side: str) -> Path:
    """Where a checkpoint of an alignment lies; paths are relative to the file itself, not to a link to it."""
    file = Path(alignment)
    return Path((file.resolve() if file.is_symlink() else file).parent / origin[side]["path"])


def _checkpoint(origin: Mapping[str, Any], alignment: str, side: str, model: str | None) -> fastmatch.Checkpoint:
    path = _path(origin, alignment, side)
    named = origin["model"]
    network = fastmatch.load(path, model or (named if fastmatch.networks.is_builtin(named) else None))
    if network.sha256 != origin[side]["sha256"]:
        raise fastmatch.AlignmentError(
            f"{path} has changed since {alignment} was made; run `fastmatch align` again on the checkpoints you mean"
        )
    return network


def read_source(path: str | Path, model: str | None, name: str | None = None) -> Source:
    """Read a checkpoint, or the permuted b of an alignment; ``name`` is what to call it, the path by default."""
    name = str(path) if name is None else name
    if not _is_alignment(path):
        network = fastmatch.load(path, model)
        return Source(name, network, None, (network.path,), network.sha256)
    found = read_alignment(str(path), model)
    permuted = replace(found.b, state_dict=found.permutation.apply(found.b.state_dict))
    return Source(name, permuted, found.data, (Path(path), found.a.path, found.b.path), files.sha256(path))


def files_of(path: Path) -> tuple[Path, ...]:
    """Files that stand for a network, without reading its weights: a checkpoint, or an alignment and its two.

    Raises
    ------
    AlignmentError
        It is an alignment that does not name its checkpoints.
    """
    if not _is_alignment(path):
        return (path,)
    origin = _load(str(path)).metadata
    return (path, *(_path(origin, str(path), side) for side in ("a", "b")))


def _is_alignment(path: str | Path) -> bool:
    try:
        with safetensors.safe_open(path, framework="numpy") as handle:
            header = json.loads((handle.metadata() or {}).get("fastmatch", "{}"))
    except (safetensors.SafetensorError, ValueError, RecursionError, OSError):
        return False
    return isinstance(header, dict) and "convention" in header


def check_same(sources: Sequence[Source]) -> None:
    """Raise ModelError unless all networks have the tensors of the first."""
    wanted, *others = ({name: t.shape for name, t in source.network.state_dict.items()} for source in sources)
    for source, found in zip(sources[1:], others, strict=True):
        if differing := sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)):
            raise ModelError(
                f"{source.name} does not fit {sources[0].name}: {differing[0]!r} is missing, unknown or of another "
                "shape; give networks of one architecture and width (fastmatch.analysis.pad widens one by units that "
                "do nothing)"
            )
