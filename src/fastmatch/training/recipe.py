"""How a network is trained: every choice in one record."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fastmatch.errors import OptionError

OPTIMIZERS = ("sgd", "adam", "adamw", "rmsprop", "adagrad")
SCHEDULES = ("constant", "cosine", "onecycle")
INITS = ("default", "kaiming_normal", "kaiming_uniform")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Choices of one training run, checked when they are made.

    Attributes
    ----------
    optimizer : str
        One of ``sgd``, ``adam``, ``adamw``, ``rmsprop``, ``adagrad``.
    lr : float
        Learning rate; the largest one where the schedule changes it.
    momentum : float
        Of ``sgd`` and ``rmsprop``; the others have none.
    weight_decay : float
        Decoupled for ``adamw``, an L2 penalty for the others; on all parameters.
    schedule : str
        One of ``constant``, ``cosine``, ``onecycle``; see :func:`fastmatch.training.schedules.learning_rate`.
    warmup : float
        Epochs over which the learning rate first rises.
    epochs : int
        Passes over the training split.
    batch_size : int
        Examples per step; an epoch is cut into batches as even as possible, none dropped.
    init : str
        One of ``default``, ``kaiming_normal``, ``kaiming_uniform``; used by ``initialise``.
    init_seed : int
        Of the initial weights alone.
    order_seed : int
        Of the order of the data, and of dropout where the network has it.
    save_epochs, save_steps : tuple of int
        After how many epochs and steps a snapshot is taken; 0 is the network before training.

    Raises
    ------
    OptionError
        A value is outside its range.
    """

    optimizer: str = "adam"
    lr: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "cosine"
    warmup: float = 0.0
    epochs: int = 10
    batch_size: int = 128
    init: str = "default"
    init_seed: int = 0
    order_seed: int = 0
    save_epochs: tuple[int, ...] = ()
    save_steps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check every value."""
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        _one_of("schedule", self.schedule, SCHEDULES)
        _one_of("init", self.init, INITS)
        _require(0 < self.lr < math.inf, f"learning rate {self.lr}", "a finite number above 0")
        _require(0 <= self.momentum < 1, f"momentum {self.momentum}", "at least 0 and below 1")
        _require(0 <= self.weight_decay < math.inf, f"weight decay {self.weight_decay}", "a finite number, 0 or more")
        _require(self.epochs >= 1, f"number of epochs {self.epochs}", "at least 1")
        _require(0 <= self.warmup <= self.epochs, f"warm-up {self.warmup}", f"between 0 and the {self.epochs} epochs")
        _require(self.batch_size >= 2, f"batch size {self.batch_size}", "at least 2")
        for epoch in self.save_epochs:
            _require(0 <= epoch <= self.epochs, f"epoch to save {epoch}", f"between 0 and {self.epochs}")
        for step in self.save_steps:
            _require(step >= 0, f"step to save {step}", "0 or more")


def _one_of(option: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise OptionError(f"unknown {option} {value!r}; choose one of {', '.join(known)}")


def _require(holds: bool, what: str, rule: str) -> None:
    if not holds:
        raise OptionError(f"{what} is out of range; it must be {rule}")
