"""Checkpoints on disk: formats, cards, and how to read them safely."""

from fastmatch.checkpoints.card import CARD_FORMAT, Card
from fastmatch.checkpoints.masks import Masks, mask_problem
from fastmatch.checkpoints.store import StoredCheckpoint, check_suffix, read, write
from fastmatch.checkpoints.stream import Stream

__all__ = [
    "CARD_FORMAT",
    "Card",
    "Masks",
    "StoredCheckpoint",
    "Stream",
    "check_suffix",
    "mask_problem",
    "read",
    "write",
]
