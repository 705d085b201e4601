"""Pairs of networks that Zhou et al. 2023 compare: spawned, independent, and independent ones that are matched."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

import fastmatch
from fastmatch.analysis import FeaturePair, Features
from fastmatch.training import Recipe
from studies import study
from studies.population import State, Task

MNIST = study.data_name()
INPUTS = 784 if MNIST == "mnist" else 64
IMAGES = f"in_channels=1, size={28 if MNIST == 'mnist' else 8}"
ALPHAS = 5


@dataclass(frozen=True)
class Setting:
    """Networks of one architecture.

    Two are spawned after ``common`` epochs of one run, 0 for common initial weights alone, two are independent, and the
    second of these is matched with the first by each of the ``methods``. ``examples`` of each split are compared.
    """

    name: str
    task: Task
    common: int | None
    methods: tuple[str, ...] = ()
    examples: int = 1_000

    def pairs(self) -> dict[str, tuple[State, State]]:
        """All pairs, those that should be linearly connected first."""
        found = {} if self.common is None else {"spawned": self._spawned()}
        a, b = self.task.train(0), self.task.train(1)
        for method in self.methods:
            found[f"{method} matching"] = a, self.matched(method, a, b)
        return found | {"independent": (a, b)}

    def _spawned(self) -> tuple[State, State]:
        if not self.common:
            return self.task.train(0, 0), self.task.train(0, 1)
        recipe = self.task.recipe
        parent = replace(self.task, recipe=replace(recipe, epochs=self.common)).train(0)
        rest = replace(self.task, recipe=replace(recipe, epochs=recipe.epochs - self.common))
        return rest.train(0, 10, parent), rest.train(0, 11, parent)

    def matched(self, method: str, a: State, b: State) -> State:
        """The second network after a method has matched it with the first; activations by their inner product."""
        examples = self.task.dataset.train.take(2_000)
        pair = fastmatch.Pair(self.task.spec(), a, b, self.task.module(), examples)
        similarity = "linear" if method == "activation" else None
        return fastmatch.match(pair, method, similarity=similarity).permutation.apply(b)

    def compare(self, a: State, b: State, alphas: int = ALPHAS) -> Features:
        """Features of a pair on test examples; statistics of BatchNorm from as many training examples."""
        data = self.task.dataset.take(self.examples)
        return fastmatch.analysis.features(self.task.module(), a, b, data, alphas=alphas)

    def barrier(self, a: State, b: State) -> float:
        """Barrier of the test error in per cent of the examples (linear definition)."""
        data = self.task.dataset.take(self.examples)
        curve = fastmatch.barrier(self.task.module(), a, b, data, alphas=ALPHAS).curves["unaligned"]["test"]
        return 100 * curve.error.linear


@lru_cache
def settings(size: str) -> tuple[Setting, ...]:
    """Networks of the paper at ``full`` size; at ``small`` narrow ones on MNIST and on the digits of scikit-learn.

    No augmentation: networks are trained on the examples as they are.
    """
    if size == "small":
        short = Recipe(epochs=6)
        mlp = Task(f"mlp({INPUTS}, 256, 256, 256, 10)", MNIST, short, limit=10_000)
        vgg = Task(f"vgg11(width=8, {IMAGES}, norm=layer)", MNIST, replace(short, epochs=5), limit=4_000)
        digits = Recipe(epochs=20, lr=0.05, optimizer="sgd", weight_decay=1e-4)
        resnet = Task("resnet20(width=1, in_channels=1, size=8, norm=batch)", "digits", digits)
        return (
            Setting(f"MLP, {MNIST}", mlp, 0, ("weight", "activation", "straight_through")),
            Setting(f"VGG-11, {MNIST}", vgg, 1),
            Setting("ResNet-20, digits", resnet, 2),
        )
    sgd = Recipe(optimizer="sgd", lr=0.1, weight_decay=1e-4, epochs=160, warmup=1.0)
    mlp = Recipe(epochs=60, schedule="constant")
    three, images = ("weight", "activation", "straight_through"), "cifar10"
    return (
        Setting("MLP, MNIST", Task("mlp(784, 512, 512, 512, 10)", "mnist", mlp), 0, three, 10_000),
        Setting("MLP, CIFAR-10", Task("mlp(3072, 512, 512, 512, 10)", images, mlp), None, three, 10_000),
        Setting("VGG-16, CIFAR-10", Task("vgg16(norm=batch)", images, replace(sgd, lr=0.05)), 5, (), 10_000),
        Setting("ResNet-20, CIFAR-10", Task("resnet20(width=1, norm=batch)", images, sgd), 5, (), 10_000),
        Setting("ResNet-20 (32x), CIFAR-10", Task("resnet20(width=32)", images, sgd), None, ("weight",), 10_000),
    )


def per_layer(pair: FeaturePair, quantity: str) -> list[float]:
    """One figure of every layer, NaN where there is none."""
    values = (getattr(layer, quantity) for layer in pair.layers)
    return [float("nan") if value is None else float(value) for value in values]


def at_alpha(pair: FeaturePair, quantity: str, place: int) -> np.ndarray:
    """One figure of every layer at one of the alphas."""
    return np.array([getattr(layer, quantity)[place] for layer in pair.layers])


def short_name(layer: str) -> str:
    """Name of a layer as pictures have room for."""
    return layer.replace("layer", "").replace("downsample.0", "down")


def short_names(pair: FeaturePair) -> list[str]:
    """Names of all layers."""
    return [short_name(layer.name) for layer in pair.layers]
