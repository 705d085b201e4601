"""Iterative magnitude pruning: train, prune, rewind, train again."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fastmatch.data import DataSet, batch_count
from fastmatch.errors import CheckpointError, OptionError
from fastmatch.training.pruning import NOTHING, SCOPES, density, prunable, prune, twins
from fastmatch.training.recipe import Recipe
from fastmatch.training.trainer import Snapshot, TrainResult, evaluate, train

REWINDINGS = ("weights", "lr")
REWOUND = "rewind"


@dataclass(frozen=True, kw_only=True)
class Pruning:
    """Choices of iterative magnitude pruning, checked when they are made.

    Attributes
    ----------
    fraction : float
        Of the weights that remain, how many each level prunes: after n levels ``(1 - fraction) ** n`` are kept.
    levels : int
        How often. With 1, pruning is one-shot.
    rewind : int
        Step that every level but the dense one starts from.
    rewinding : str
        ``weights``: weights, statistics, learning rate and data go back to that step (Frankle et al. 2020). ``lr``: the
        weights stay those at the end of the last level; learning rate and data go back (Renda et al. 2020).
    scope : str
        ``global`` or ``layer``, see :func:`fastmatch.training.prune`.

    Raises
    ------
    OptionError
        A value is outside its range.
    """

    fraction: float = 0.2
    levels: int = 1
    rewind: int = 0
    rewinding: str = "weights"
    scope: str = "global"

    def __post_init__(self) -> None:
        """Check every value."""
        if not 0 < self.fraction < 1:
            raise OptionError(f"fraction to prune {self.fraction} is out of range; it must lie between 0 and 1")
        if self.levels < 1:
            raise OptionError(f"number of levels {self.levels} is out of range; it must be at least 1")
        if self.rewind < 0:
            raise OptionError(f"step to rewind to {self.rewind} is out of range; it must be 0 or more")
        for option, value, known in (("rewinding", self.rewinding, REWINDINGS), ("scope", self.scope, SCOPES)):
            if value not in known:
                raise OptionError(f"unknown {option} {value!r}; choose one of {', '.join(known)}")

    def density(self, level: int) -> float:
        """Fraction of prunable weights that level ``level`` keeps; level 0 is dense."""
        return (1 - self.fraction) ** level


@dataclass(frozen=True, eq=False)
class PrunedNetwork:
    """A network and its masks (None where it is dense), on the CPU, after ``step`` steps of the recipe."""

    state_dict: dict[str, Tensor]
    masks: dict[str, Tensor] | None
    step: int
    epoch: int


@dataclass(frozen=True, eq=False)
class Level:
    """One level at the end of its training: ``density`` is the fraction kept; losses in nats, accuracies fractions."""

    number: int
    density: float
    network: PrunedNetwork
    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float

    def to_json(self) -> dict[str, float]:
        """Plain data: all but the network."""
        return {name: getattr(self, name) for name in ("number", "density", *_FIGURES)}


_FIGURES = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


def level_name(number: int) -> str:
    """Key of a level among the networks that are known."""
    return f"level-{number:02d}"


def prune_iteratively(
    module: nn.Module,
    data: DataSet,
    recipe: Recipe,
    pruning: Pruning,
    *,
    known: MutableMapping[str, PrunedNetwork] | None = None,
    progress: Callable[[int, int], None] | None = None,
    device: str | torch.device = "cpu",
) -> list[Level]:
    """Train ``module`` from the weights it has; prune its smallest weights, rewind and train again, level by level.

    Every level is trained by ``recipe`` from its step ``pruning.rewind`` on, with the optimiser started afresh; masks
    are those of :func:`fastmatch.training.prune`, each inside the one before. ``module`` is left with the weights of
    the last level.

    Parameters
    ----------
    recipe
        Of the dense network; ``save_epochs`` and ``save_steps`` play no part.
    known
        Asked for ``"rewind"``, ``"level-00"``, ``"level-01"`` ... before they are trained, and given what was trained;
        :class:`fastmatch.training.PruningFolder` keeps them in files, so that an interrupted run goes on.
    progress
        Receives the number of steps done and of all steps, over all levels.

    Returns
    -------
    list of Level
        The dense network and the levels 1 to ``pruning.levels``.

    Raises
    ------
    CheckpointError
        A network that is known does not fit ``module``.
    DataError
        The data do not fit the network.
    OptionError
        Training diverged, there is nothing to prune, the last level would keep nothing, or the step to rewind to is not
        before the last.

    References
    ----------
    Sharma et al. 2024, appendix A (IMP); Frankle et al. 2020, algorithm 2.
    """
    total = recipe.epochs * batch_count(len(data.train), recipe.batch_size)
    if pruning.rewind >= total:
        raise OptionError(
            f"step to rewind to {pruning.rewind} is not before the last step {total}; choose up to {total - 1}"
        )
    _require_weights(module, pruning)
    run = _Run(module.to(device), data.to(device), recipe, pruning, {} if known is None else known, progress)
    levels = [run.level(0, None)]
    for number in range(1, pruning.levels + 1):
        levels.append(run.level(number, levels[-1].network))
    return levels


def _require_weights(module: nn.Module, pruning: Pruning) -> None:
    """Raise OptionError where there is nothing to prune, or the last level keeps nothing."""
    state = module.state_dict()
    tied = twins(state)
    sizes = [state[name].numel() for name in prunable(state) if name not in tied]
    if not sizes:
        raise OptionError(NOTHING)
    keep = pruning.density(pruning.levels)
    if not any(round(keep * size) for size in ([sum(sizes)] if pruning.scope == "global" else sizes)):
        raise OptionError(
            f"level {pruning.levels} would keep none of {sum(sizes)} weights; choose fewer levels or a smaller fraction"
        )


class _Run:
    """One run of iterative magnitude pruning: what its levels share."""

    def __init__(
        self,
        module: nn.Module,
        data: DataSet,
        recipe: Recipe,
        pruning: Pruning,
        known: MutableMapping[str, PrunedNetwork],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._module, self._data, self._pruning, self._known = module, data, pruning, known
        self._rewinds_weights = pruning.rewinding == "weights"
        # The dense network is on its way to the end when it passes the step that the others go back to.
        self._dense = replace(recipe, save_epochs=(), save_steps=(pruning.rewind,) if self._rewinds_weights else ())
        self._sparse = replace(recipe, save_epochs=(), save_steps=())
        self._tied = twins(module.state_dict())
        self._progress = progress
        self._steps = recipe.epochs * batch_count(len(data.train), recipe.batch_size)

    def level(self, number: int, previous: PrunedNetwork | None) -> Level:
        """Known before, or trained now."""
        name = level_name(number)
        if name in self._known and (number > 0 or not self._rewinds_weights or REWOUND in self._known):
            network = self._known[name]
            self._load(name, network)
            figures = *evaluate(self._module, self._data.train), *evaluate(self._module, self._data.test)
        else:
            network, result = self._train_dense() if previous is None else self._train_sparse(number, previous)
            figures = result.train_loss, result.train_accuracy, result.test_loss, result.test_accuracy
            self._known[name] = network
        self._tick(number, self._steps if number == 0 else self._steps - self._pruning.rewind)
        return Level(number, density(network.masks, self._tied) if network.masks else 1.0, network, *figures)

    def _load(self, name: str, network: PrunedNetwork) -> None:
        wanted, found = (
            {key: tensor.shape for key, tensor in state.items()}
            for state in (self._module.state_dict(), network.state_dict)
        )
        if odd := sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)):
            raise CheckpointError(
                f"{name!r}, known before, does not fit the network: {odd[0]!r} differs; remove it to train it again"
            )
        self._module.load_state_dict(network.state_dict)

    def _train_dense(self) -> tuple[PrunedNetwork, TrainResult]:
        return self._train(0, self._dense, None, 0)

    def _train_sparse(self, number: int, previous: PrunedNetwork) -> tuple[PrunedNetwork, TrainResult]:
        name = REWOUND if self._rewinds_weights else level_name(number - 1)
        start = self._known[REWOUND] if self._rewinds_weights else previous
        keep = self._pruning.density(number)
        masks = prune(previous.state_dict, keep, scope=self._pruning.scope, masks=previous.masks, tied=self._tied)
        self._load(name, start)
        return self._train(number, self._sparse, masks, self._pruning.rewind)

    def _train(
        self, number: int, recipe: Recipe, masks: dict[str, Tensor] | None, begin: int
    ) -> tuple[PrunedNetwork, TrainResult]:
        result = train(
            self._module,
            self._data,
            recipe,
            masks=masks,
            begin=begin,
            save=self._keep_rewound,
            progress=lambda done, _: self._tick(number, done),
            device=self._data.train.inputs.device,
        )
        state = {name: tensor.detach().to("cpu", copy=True) for name, tensor in self._module.state_dict().items()}
        return PrunedNetwork(state, masks, self._steps, recipe.epochs), result

    def _keep_rewound(self, snapshot: Snapshot) -> None:
        self._known[REWOUND] = PrunedNetwork(snapshot.state_dict, None, snapshot.step, snapshot.epoch)

    def _tick(self, number: int, done: int) -> None:
        if self._progress is not None:
            later = self._steps - self._pruning.rewind  # steps of every level but the dense one
            before = 0 if number == 0 else self._steps + (number - 1) * later
            self._progress(before + done, self._steps + self._pruning.levels * later)
