"""The networks of Kalaivanan 2023, section 3.2, that several studies share; not a study itself."""

from __future__ import annotations

from fastmatch import training
from studies.population import Task

WIDTHS = (2, 4, 8, 16, 32, 64, 128, 256, 512)


def moons(width: int, epochs: int = 100, **recipe: object) -> Task:
    """Two-layer networks on 512 moons: AdamW, batches of 256, cosine annealing.

    The thesis leaves open learning rate (here 0.05, which comes close to its losses), weight decay (1e-4), the noise of
    the moons (0.1) and the number of test examples (512). Its networks have one output with a sigmoid; these have two
    with a softmax, which express the same functions.
    """
    chosen = {"optimizer": "adamw", "lr": 0.05, "weight_decay": 1e-4, "batch_size": 256, "epochs": epochs, **recipe}
    return Task(f"mlp(2, {width}, 2)", "moons", training.Recipe(**chosen))


def images(data: str, width: int, epochs: int, limit: int | None, **recipe: object) -> Task:
    """Four-layer networks with LayerNorm on MNIST (or digits): AdamW, batches of 256, one cycle of the learning rate.

    The thesis leaves open the learning rate (here 0.01) and the weight decay (here 0.01).
    """
    pixels = {"mnist": 784, "cifar10": 3072}.get(data, 64)
    defaults = {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.01, "schedule": "onecycle", "batch_size": 256}
    chosen = {**defaults, "epochs": epochs, **recipe}
    model = f"mlp({pixels}, {width}, {width}, {width}, 10, norm=layer)"
    return Task(model, data, training.Recipe(**chosen), limit=limit)
