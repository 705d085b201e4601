"""The card: what a checkpoint says of itself."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from fastmatch.errors import CheckpointError

CARD_FORMAT = 1
# A name, with arguments or without: no path and no "module:function".
_BUILT_IN = re.compile(r"\w+\s*(\([^:/\\]*\))?", re.ASCII)
_KINDS = {
    **dict.fromkeys(("model", "data"), str),
    **dict.fromkeys(("format", "step", "epoch", "init_seed", "order_seed"), int),
    "extra": dict,
}


@dataclass(frozen=True, kw_only=True)
class Card:
    """Plain data about a checkpoint: which network, trained on what, how far.

    ``model`` and ``data`` may only name built-in networks and data: a card never makes its reader run code.
    """

    model: str | None = None
    data: str | None = None
    step: int | None = None
    epoch: int | None = None
    init_seed: int | None = None
    order_seed: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    format: int = CARD_FORMAT

    def at(self, step: int, epoch: int) -> Card:
        """The same card at another point of training."""
        return replace(self, step=step, epoch=epoch)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any, where: str) -> Card:
        """Check and rebuild a card; CheckpointError where it is malformed, of a newer format, or names code."""
        if not isinstance(data, dict) or type(data.get("format")) is not int or not data.keys() <= _KINDS.keys():
            raise CheckpointError(
                f"{where}: malformed card; write the checkpoint again or remove its 'fastmatch' entry"
            )
        if data["format"] > CARD_FORMAT:
            raise CheckpointError(
                f"{where}: card format {data['format']} is newer than {CARD_FORMAT}; update fastmatch"
            )
        for name, value in data.items():
            if not _is_plain(value, _KINDS[name]):
                raise CheckpointError(
                    f"{where}: malformed card: {name} is a {type(value).__name__}; write the checkpoint again"
                )
        for name in ("model", "data"):
            if data.get(name) is not None and not _BUILT_IN.fullmatch(data[name]):
                raise CheckpointError(
                    f"{where}: its card names code or a file ({name} {data[name]!r:.60}), which a card may not make "
                    f"fastmatch open; if you trust it, remove the card and pass --{name} yourself"
                )
        return cls(**data)


def _is_plain(value: Any, kind: type) -> bool:
    """True for a value of exactly that type, plain to its depths; all but mappings may be None."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return type(value) is kind or (value is None and kind is not dict)
