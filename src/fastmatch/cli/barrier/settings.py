"""Options that all forms of ``fastmatch barrier`` share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch


@dataclass(frozen=True)
class Settings:
    """As they stand on the command line."""

    bn: Literal["reset", "keep", "repair"]
    precision: Literal["highest", "fast"]
    memory: float | None
    model: str | None
    data: str | None
    data_dir: str | None
    limit: int
    device: torch.device
    json_path: str | None
    csv_path: str | None
    plot: str | None

    @property
    def targets(self) -> tuple[str | None, str | None, str | None]:
        """Files to write."""
        return self.json_path, self.csv_path, self.plot
