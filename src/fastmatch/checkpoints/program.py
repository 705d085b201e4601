"""Load ``torch.export`` programs (.pt2) without giving them a chance to run code.

An archive can carry pickles (sample inputs, custom objects, unusual weights), compiled libraries, and JSON that its
loader turns into code (see :mod:`fastmatch.checkpoints.screen`). Two readers can also disagree about what a zip file
holds. So torch never sees the file itself: it gets a new archive with only the members that were checked.
"""

from __future__ import annotations

import io
import json
import logging
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from fastmatch.checkpoints.screen import Unsafe, screen
from fastmatch.errors import CheckpointError

_PLAIN = (".data/version", "archive_format", "archive_version", "byteorder")
_GRAPH = "models/model.json"
_INPUTS = "data/sample_inputs/model.pt"
_PAYLOADS = {"data/weights/": "model_weights_config.json", "data/constants/": "model_constants_config.json"}


def load_program(path: Path) -> ExportedProgram:
    """Load a .pt2 file.

    Raises
    ------
    CheckpointError
        The file is truncated, not a program, of an old format, or holds anything that could run code.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            screened = _screened(archive)
        with _strict_and_quiet():
            return torch.export.load(screened)
    except Unsafe as error:
        raise CheckpointError(
            f"{path} holds code ({error}), which fastmatch never runs; export the network without it"
        ) from error
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise CheckpointError(f"{path} is truncated or not a torch.export program; save it again") from error
    except Exception as error:  # malformed members make the loader fail in every way there is
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path} is not a torch.export program that torch {torch.__version__} can load ({reason}); export it again"
        ) from error


def _screened(archive: zipfile.ZipFile) -> io.BytesIO:
    """A new archive of the members a program needs, each checked."""
    root = archive.namelist()[0].partition("/")[0]
    content = {name: archive.read(f"{root}/{name}") for name in (*_PLAIN, _INPUTS)}
    _check_pickle(content[_INPUTS])
    content[_GRAPH] = _dump(screen(archive.read(f"{root}/{_GRAPH}")))
    for folder, config in _PAYLOADS.items():
        entries = screen(archive.read(f"{root}/{folder}{config}"))
        content[folder + config] = _dump(entries)
        for name in _payloads(entries):
            content[folder + name] = archive.read(f"{root}/{folder}{name}")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as copy:
        for name, data in content.items():
            copy.writestr(f"program/{name}", data)
    buffer.seek(0)
    return buffer


def _dump(value: Any) -> bytes:
    return json.dumps(value).encode()


def _payloads(entries: Any) -> set[str]:
    """Names of the raw tensors that a config lists."""
    for entry in entries["config"].values():
        if entry["use_pickle"] is not False or not re.fullmatch(r"(weight|tensor)_[0-9]+", entry["path_name"]):
            raise Unsafe(f"the pickled object {entry['path_name']}")
    return {entry["path_name"] for entry in entries["config"].values()}


def _check_pickle(data: bytes) -> None:
    try:
        torch.load(io.BytesIO(data), weights_only=True)
    except pickle.UnpicklingError as error:
        raise Unsafe(_INPUTS) from error


@contextmanager
def _strict_and_quiet() -> Iterator[None]:
    """Every ``torch.load`` inside refuses code, whatever it asks for; no traceback is logged on the way to an error."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    logger = logging.getLogger("torch.export")
    disabled = logger.disabled
    os.environ[name], logger.disabled = "1", True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = disabled
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
