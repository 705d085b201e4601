"""Read and write checkpoints: .pt, .safetensors and .pt2. Nothing is ever unpickled that could run code."""

from __future__ import annotations

import io
import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from torch.export import ExportedProgram

from fastmatch.checkpoints.card import Card
from fastmatch.checkpoints.masks import PT_ENTRY, SAFETENSORS_PREFIX, Masks, mask_problem, unmasked
from fastmatch.checkpoints.program import load_program
from fastmatch.errors import CheckpointError
from fastmatch.files import sha256, write_atomic

_WRITABLE = (".pt", ".safetensors")
_DTYPES = (
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool),
)


@dataclass(frozen=True, eq=False)
class StoredCheckpoint:
    """Content of a checkpoint file: tensors on the CPU, the card if it has one, the program if it is a .pt2.

    ``masks`` of a pruned network are True where a weight is kept, by the names of the tensors that have one.
    """

    path: Path
    state_dict: dict[str, Tensor]
    card: Card | None
    program: ExportedProgram | None
    sha256: str
    masks: dict[str, Tensor] | None = None


def check_suffix(path: str | os.PathLike[str]) -> None:
    """Raise CheckpointError unless checkpoints can be written to files named like ``path``."""
    if Path(path).suffix not in _WRITABLE:
        raise CheckpointError(
            f"cannot write a checkpoint to {os.fspath(path)}; name a file that ends in .pt or .safetensors"
        )


def read(path: str | os.PathLike[str]) -> StoredCheckpoint:
    """Read a checkpoint, checking everything before anything is used.

    Parameters
    ----------
    path
        ``.pt`` (a state dict, or ``{"state_dict": ..., "fastmatch": card, "fastmatch_masks": masks}``, where card and
        masks may be missing), ``.safetensors`` (card in the header, masks as tensors ``fastmatch.mask:NAME``) or
        ``.pt2`` (a ``torch.export`` program).

    Raises
    ------
    CheckpointError
        The file is missing, empty, truncated, of another kind, holds code, no tensors, or NaN or infinite weights, or
        masks that do not fit its weights.
    """
    path = Path(path)
    _check_file(path)
    readers = {".pt": _read_pt, ".pth": _read_pt, ".safetensors": _read_safetensors, ".pt2": _read_pt2}
    if path.suffix not in readers:
        raise CheckpointError(f"{path}: unknown kind of checkpoint {path.suffix!r}; use .pt, .safetensors or .pt2")
    state, card, program, masks = readers[path.suffix](path)
    _check_state(path, state)
    if masks is not None:
        _check_masks(path, masks, state)
    return StoredCheckpoint(path, state, card, program, sha256(path), masks)


def write(
    path: str | os.PathLike[str],
    state_dict: Mapping[str, Tensor],
    card: Card | None = None,
    masks: Masks | None = None,
) -> None:
    """Write a state dict, its card and its masks, whole or not at all. Tied and strided tensors are stored one by one.

    Raises
    ------
    CheckpointError
        The suffix is neither .pt nor .safetensors, or the masks do not fit the weights.
    OutputError
        The file could not be written; what stood there is untouched.
    """
    check_suffix(path)
    state, kept = _on_cpu(state_dict), _on_cpu(masks or {})
    if masks is not None:
        _check_masks(Path(path), kept, state)
    if Path(path).suffix == ".safetensors":
        header = {"fastmatch": json.dumps(card.to_json())} if card else None
        data = safetensors.torch.save(
            state | {SAFETENSORS_PREFIX + name: mask for name, mask in kept.items()}, metadata=header
        )
    else:
        content: dict[str, Any] = {"state_dict": state} if card or masks else state
        content |= {"fastmatch": card.to_json()} if card else {}
        content |= {PT_ENTRY: kept} if masks else {}
        buffer = io.BytesIO()  # given a path, torch would put the temporary file's random name into the archive
        torch.save(content, buffer)
        data = buffer.getvalue()
    write_atomic(path, lambda temporary: temporary.write_bytes(data))


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; name a checkpoint file in it")
    if not path.exists():
        raise CheckpointError(f"no checkpoint at {path}; check the path")
    try:
        if path.stat().st_size == 0:
            raise CheckpointError(f"{path} is empty; it was probably cut off while being written, make it again")
        with path.open("rb"):
            pass
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}; check its permissions") from error


def _read_pt(path: Path) -> tuple[dict[str, Tensor], Card | None, None, dict[str, Tensor] | None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch finds odd about a file is an error below, or of no consequence
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not zipfile.is_zipfile(path) and path.open("rb").read(1) != b"\x80":
            raise CheckpointError(f"{path} is not a PyTorch checkpoint, or it is truncated; save it again") from error
        raise CheckpointError(
            f"{path} holds code or objects besides tensors, which fastmatch never runs; save a plain state dict: "
            "torch.save(module.state_dict(), path)"
        ) from error
    except Exception as error:  # damaged files make torch fail in every way there is
        raise CheckpointError(f"{path} is truncated or not a PyTorch checkpoint; save it again") from error
    card, masks = None, None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        masks = content.get(PT_ENTRY)
        if masks is not None and not isinstance(masks, dict):
            raise CheckpointError(f"{path}: its masks are a {type(masks).__name__}, not a dict; write it again")
        card = Card.from_json(content["fastmatch"], str(path)) if content.get("fastmatch") is not None else None
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a state dict; save module.state_dict()")
    return dict(content), card, None, masks or None


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], Card | None, None, dict[str, Tensor] | None]:
    try:
        with safetensors.safe_open(path, framework="pt") as handle:
            header = handle.metadata() or {}
            state = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
        data = json.loads(header["fastmatch"]) if "fastmatch" in header else None
    except (safetensors.SafetensorError, ValueError, OSError) as error:
        raise CheckpointError(f"{path} is truncated or not a safetensors file; save it again") from error
    if isinstance(data, dict) and "convention" in data:
        raise CheckpointError(f"{path} is an alignment, not a checkpoint; name the checkpoints a.pt and b.pt")
    stored = [name for name in state if name.startswith(SAFETENSORS_PREFIX)]
    masks = {name.removeprefix(SAFETENSORS_PREFIX): state.pop(name) for name in stored}
    return state, Card.from_json(data, str(path)) if data is not None else None, None, masks or None


def _read_pt2(path: Path) -> tuple[dict[str, Tensor], None, ExportedProgram, None]:
    program = load_program(path)
    return {name: tensor.detach() for name, tensor in program.state_dict.items()}, None, program, None


def _check_masks(path: Path, masks: Masks, state: Mapping[str, Tensor]) -> None:
    if problem := mask_problem(masks, state):
        raise CheckpointError(f"{path}: {problem}; write it again, or remove its masks")
    if name := unmasked(masks, state):
        raise CheckpointError(f"{path}: {name!r} has weights outside its mask that are not 0; set them to 0")


def _check_state(path: Path, state: dict[str, Tensor]) -> None:
    if not state:
        raise CheckpointError(f"{path} holds no tensors; save module.state_dict() of a network with parameters")
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise CheckpointError(
                f"{path}: {name!r:.60} is a {type(tensor).__name__}, not a tensor; save a plain state dict"
            )
        if tensor.dtype not in _DTYPES or tensor.layout != torch.strided or tensor.device.type != "cpu":
            raise CheckpointError(
                f"{path}: {name!r} is {tensor.dtype} ({tensor.layout}, {tensor.device}); save it as dense float32"
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"{path}: {name!r} holds NaN or infinite weights; use a checkpoint from before training diverged"
            )
