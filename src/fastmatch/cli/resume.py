"""Result files that a later run of the same command goes on with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from fastmatch.cli.output import finite, provenance, write_json
from fastmatch.errors import OutputError

_DECISIVE = ("fastmatch", "torch", "device", "precision")  # of the provenance: figures may depend on them


class Entries(MutableMapping[str, Any]):
    """Figures by key, written whole after every one that is set; in memory alone where ``path`` is None.

    Public functions that take long ask such a mapping for what is known before they compute it, and put in what they
    find. :meth:`finish` writes the result beside the entries, so that the file can still be extended.

    Parameters
    ----------
    path
        File to extend, or to write where there is none.
    command
        That the file is a result of.
    options
        Plain data that the figures depend on, digests of networks and data among them.
    device, precision
        Where, and in which precision, figures are asked for.

    Raises
    ------
    OutputError
        There is a file that is no such result, or one of other options.
    """

    def __init__(
        self, path: str | None, command: str, options: Mapping[str, Any], device: str, precision: str = "highest"
    ) -> None:
        self._path, self._command, self._options = path, command, dict(options)
        self._device, self._precision = device, precision
        self._entries: dict[str, Any] = {} if path is None or not Path(path).exists() else self._read(path)

    def __getitem__(self, key: str) -> Any:
        """Figures of a key."""
        return self._entries[key]

    def __setitem__(self, key: str, value: Any) -> None:
        """Keep figures, and write the file anew."""
        self._entries[key] = finite(value)  # as they will be read back
        self.finish({})

    def __delitem__(self, key: str) -> None:
        """Forget figures."""
        del self._entries[key]

    def __iter__(self) -> Iterator[str]:
        """Keys in the order in which they were found."""
        return iter(self._entries)

    def __len__(self) -> int:
        """Number of keys."""
        return len(self._entries)

    def finish(self, result: Mapping[str, Any], seed: int | None = None) -> None:
        """Write ``result`` beside the entries."""
        own = {"of": self._command, "options": self._options, "entries_sha256": _digest(self._entries)}
        document = {**own, **result, "entries": self._entries}
        write_json(self._path, document, seed=seed, device=self._device, precision=self._precision)

    def _read(self, path: str) -> dict[str, Any]:
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise self._foreign(path) from error
        parts = ("options", "entries", "provenance")
        if not isinstance(document, dict) or document.get("of") != self._command:
            raise self._foreign(path)
        if not all(isinstance(document.get(part), dict) for part in parts):
            raise self._foreign(path)
        if document.get("entries_sha256") != _digest(document["entries"]):
            raise OutputError(f"{path} was changed since it was written; it stays as it is: name a new file")
        require_same(path, document, self._options, self._device, self._precision)
        entries: dict[str, Any] = document["entries"]
        return entries

    def _foreign(self, path: str) -> OutputError:
        return OutputError(f"{path} is not a result of `fastmatch {self._command}`; it stays as it is: name a new file")


def _digest(entries: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()


def require_same(
    path: str, document: Mapping[str, Any], options: Mapping[str, Any], device: str, precision: str
) -> None:
    """Refuse a result file made with other options, versions, device or precision.

    Raises
    ------
    OutputError
        Names the first that differs.
    """
    now = provenance(None, device, precision)
    expected = finite(dict(options)) | {name: now[name] for name in _DECISIVE}
    found = document["options"] | {name: document["provenance"].get(name) for name in _DECISIVE}
    for name in expected | found:
        if found.get(name) != expected.get(name):
            raise OutputError(
                f"{path} was made with {name} {found.get(name)}, not {expected.get(name)}; "
                "use what it was made with, or name a new file"
            )
