"""Image data in ``.npz`` archives: ``mnist.npz`` and ``cifar10.npz`` in a data folder, or any file of that layout."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fastmatch.data.assemble import assemble
from fastmatch.data.split import DataSet
from fastmatch.errors import DataError

KEYS = ("train_images", "train_labels", "test_images", "test_labels")
_UNREADABLE = (OSError, ValueError, EOFError, AttributeError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error)


def load_named_archive(name: str, data_dir: str | None) -> DataSet:
    """Load ``<name>.npz`` from ``data_dir``, or else from the folder in the environment variable ``FASTMATCH_DATA``.

    Raises
    ------
    DataError
        Neither is given, the file is not there, or it is not what :func:`load_archive` reads.
    """
    folder = data_dir or os.environ.get("FASTMATCH_DATA")
    if not folder:
        raise DataError(f"{name} needs {name}.npz; name its folder with --data-dir or FASTMATCH_DATA")
    path = Path(folder) / f"{name}.npz"
    if not path.is_file():
        raise DataError(f"no {name}.npz in {folder}; name its folder with --data-dir or FASTMATCH_DATA")
    return load_archive(name, path)


def load_archive(name: str, path: Path) -> DataSet:
    """Load an archive with the arrays ``train_images``, ``train_labels``, ``test_images`` and ``test_labels``.

    Images of shape (N, H, W) or (N, H, W, C) become float32 (N, C, H, W), normalised per channel; vectors of shape
    (N, D) are taken as they are. Nothing is unpickled.

    Raises
    ------
    DataError
        The file is missing, unreadable or lacks an array, or an array has the wrong shape or type.
    """
    train_images, train_labels, test_images, test_labels = _read(path)
    train, test = _channels_first(train_images, path), _channels_first(test_images, path)
    return assemble(name, (train, train_labels), (test, test_labels), normalise=train.ndim == 4)


def _read(path: Path) -> list[np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [key for key in KEYS if key not in archive]
            if missing:
                raise DataError(f"{path} has no {', '.join(missing)}; it needs the arrays {', '.join(KEYS)}")
            return [archive[key] for key in KEYS]
    except FileNotFoundError as error:
        raise DataError(f"no data file {path}; check the path") from error
    except _UNREADABLE as error:
        raise DataError(f"cannot read {path}; it must be an .npz archive of plain numeric arrays") from error


def _channels_first(images: np.ndarray, path: Path) -> Tensor:
    if images.dtype.kind not in "uif":
        raise DataError(f"{path} has images of type {images.dtype}; save integers or floats")
    if images.ndim not in (2, 3, 4):
        raise DataError(f"{path} has images of shape {images.shape}; save them as (N, H, W), (N, H, W, C) or (N, D)")
    tensor = torch.from_numpy(images.astype(images.dtype.newbyteorder("="), copy=False))
    if tensor.ndim == 4:
        return tensor.permute(0, 3, 1, 2)
    return tensor.unsqueeze(1) if tensor.ndim == 3 else tensor
