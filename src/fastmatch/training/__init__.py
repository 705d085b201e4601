"""A small trainer: from a recipe and a seed to a network and its snapshots, dense or pruned."""

from fastmatch.training.averaging import average, running_averages
from fastmatch.training.folder import PruningFolder
from fastmatch.training.imp import REWINDINGS, Level, PrunedNetwork, Pruning, prune_iteratively
from fastmatch.training.initialisation import initialise
from fastmatch.training.pruning import SCOPES, apply_masks, density, prunable, prune, transport, twins
from fastmatch.training.recipe import INITS, OPTIMIZERS, SCHEDULES, Recipe
from fastmatch.training.trainer import Snapshot, TrainResult, evaluate, train

__all__ = [
    "INITS",
    "OPTIMIZERS",
    "REWINDINGS",
    "SCHEDULES",
    "SCOPES",
    "Level",
    "PrunedNetwork",
    "Pruning",
    "PruningFolder",
    "Recipe",
    "Snapshot",
    "TrainResult",
    "apply_masks",
    "average",
    "density",
    "evaluate",
    "initialise",
    "prunable",
    "prune",
    "prune_iteratively",
    "running_averages",
    "train",
    "transport",
    "twins",
]
