"""A small trainer: from a recipe and a seed to a network and its snapshots."""

from fastmatch.training.averaging import average, running_averages
from fastmatch.training.initialisation import initialise
from fastmatch.training.recipe import INITS, OPTIMIZERS, SCHEDULES, Recipe
from fastmatch.training.trainer import Snapshot, TrainResult, evaluate, train

__all__ = [
    "INITS",
    "OPTIMIZERS",
    "SCHEDULES",
    "Recipe",
    "Snapshot",
    "TrainResult",
    "average",
    "evaluate",
    "initialise",
    "running_averages",
    "train",
]
