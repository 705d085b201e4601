"""The card: what a checkpoint says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from fastmatch.errors import CheckpointError
from fastmatch.strings import is_factory

CARD_FORMAT = 1


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
        known = {item.name for item in fields(cls)}
        if not isinstance(data, dict) or not isinstance(data.get("format"), int) or not data.keys() <= known:
            raise CheckpointError(
                f"{where}: malformed card; write the checkpoint again or remove its 'fastmatch' entry"
            )
        if data["format"] > CARD_FORMAT:
            raise CheckpointError(
                f"{where}: card format {data['format']} is newer than {CARD_FORMAT}; update fastmatch"
            )
        if not isinstance(data.get("extra", {}), dict):
            raise CheckpointError(f"{where}: malformed card: 'extra' is no mapping; write the checkpoint again")
        for name, kind in (
            ("model", str),
            ("data", str),
            ("step", int),
            ("epoch", int),
            ("init_seed", int),
            ("order_seed", int),
        ):
            if not isinstance(data.get(name), kind | None):
                raise CheckpointError(
                    f"{where}: malformed card: {name} is {data[name]!r:.40}; write the checkpoint again"
                )
        for name in ("model", "data"):
            if data.get(name) is not None and is_factory(data[name]):
                raise CheckpointError(
                    f"{where}: its card names code ({name} {data[name]!r}), which a file may not make fastmatch run; "
                    f"if you trust it, remove the card and pass --{name} yourself"
                )
        return cls(**data)
