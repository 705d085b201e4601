"""A small trainer: the data stay on the device, each step indexes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastmatch.checkpoints import Masks, mask_problem
from fastmatch.data import DataSet, Split, batch_count, check_fit
from fastmatch.devices import full_float32
from fastmatch.errors import OptionError
from fastmatch.training.recipe import Recipe
from fastmatch.training.schedules import learning_rate
from fastmatch.training.seeding import seeded

_EVALUATION_BATCH = 512


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A network during training: ``state_dict`` holds copies on the CPU, ``epoch`` counts the finished ones."""

    step: int
    epoch: int
    state_dict: dict[str, Tensor]


@dataclass(frozen=True)
class TrainResult:
    """Final figures: losses are mean cross-entropies in nats, accuracies fractions; seconds are of training alone.

    ``steps`` are those that were taken, without those skipped; ``epochs`` those of the recipe.
    """

    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float
    steps: int
    epochs: int
    seconds: float


def train(
    module: nn.Module,
    data: DataSet,
    recipe: Recipe,
    *,
    masks: Masks | None = None,
    begin: int = 0,
    save: Callable[[Snapshot], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    device: str | torch.device = "cpu",
) -> TrainResult:
    """Train ``module`` in place from the weights it has, and leave it on ``device`` in eval mode.

    The same recipe, data and weights give the same result bit for bit on one machine. ``recipe.init`` and
    ``recipe.init_seed`` play no part: ``initialise`` is their place.

    Parameters
    ----------
    module : nn.Module
        Maps inputs (N, ...) to logits (N, classes).
    data : DataSet
        Trained on ``data.train``; both splits are evaluated at the end.
    recipe : Recipe
        Everything else that decides the result.
    masks : mapping, optional
        Bool tensors by the names of parameters: weights where they are False are set to 0 and stay exactly 0.
    begin : int
        Number of steps to skip: data and learning rates are those of the later steps of ``recipe``, from weights that
        are rewound to that step, say. The optimiser starts afresh.
    save : callable, optional
        Receives a snapshot after each of ``recipe.save_steps`` and ``recipe.save_epochs``.
    progress : callable, optional
        Receives the number of steps done and of all steps, after each step.
    device : str or torch.device
        Where to train.

    Raises
    ------
    DataError
        The data do not fit the network.
    OptionError
        Training diverged, a step to save is not among those taken, ``begin`` leaves none, or a mask does not fit.
    """
    device = torch.device(device)
    steps_per_epoch = batch_count(len(data.train), recipe.batch_size)
    total = recipe.epochs * steps_per_epoch
    if not 0 <= begin < total:
        raise OptionError(f"training cannot begin after step {begin} of {total}; choose 0 to {total - 1}")
    due = _steps_to_save(recipe, steps_per_epoch, begin)
    data = data.to(device)
    check_fit(module.to(device).eval(), data)
    optimizer, pruned = _optimizer(recipe, module), _Pruned(module, masks or {})
    start = time.perf_counter()
    losses: list[Tensor] = []
    with seeded(recipe.order_seed, device), full_float32():
        _snapshot(module, begin, steps_per_epoch, due, save)
        module.train()
        for step, (inputs, labels) in enumerate(_shuffled_batches(data.train, recipe, begin), start=begin + 1):
            _set_learning_rate(optimizer, learning_rate(recipe, step - 1, steps_per_epoch))
            losses.append(_step(module, optimizer, pruned, inputs, labels))
            if step in due or step % steps_per_epoch == 0:  # reading losses makes the program wait for a GPU
                _check_finite(losses, step)
                losses.clear()
            _snapshot(module, step, steps_per_epoch, due, save)
            if progress is not None:
                progress(step - begin, total - begin)
    seconds = time.perf_counter() - start
    figures = (*evaluate(module, data.train), *evaluate(module, data.test))
    _check_finite([torch.tensor(sum(figures))], total)
    return TrainResult(*figures, total - begin, recipe.epochs, seconds)


def evaluate(module: nn.Module, split: Split) -> tuple[float, float]:
    """Mean cross-entropy (nats, summed in float64) and accuracy of ``module``, which is left in eval mode."""
    module.eval()
    loss = torch.zeros((), dtype=torch.float64, device=split.inputs.device)
    correct = torch.zeros((), dtype=torch.int64, device=split.inputs.device)
    with torch.no_grad(), full_float32():
        for inputs, labels in split.batches(_EVALUATION_BATCH):
            logits = module(inputs)
            loss += F.cross_entropy(logits.double(), labels, reduction="sum")
            correct += (logits.argmax(1) == labels).sum()
    return loss.item() / len(split), correct.item() / len(split)


def _steps_to_save(recipe: Recipe, steps_per_epoch: int, begin: int) -> frozenset[int]:
    total = recipe.epochs * steps_per_epoch
    for step in recipe.save_steps:
        if step > total:
            raise OptionError(f"step to save {step} lies beyond the last step {total}; choose one up to {total}")
    due = frozenset(recipe.save_steps) | {epoch * steps_per_epoch for epoch in recipe.save_epochs}
    if skipped := [step for step in due if step < begin]:
        raise OptionError(f"step to save {min(skipped)} lies before step {begin}, where training begins")
    return due


def _shuffled_batches(split: Split, recipe: Recipe, begin: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(recipe.order_seed)
    count = batch_count(len(split), recipe.batch_size)
    for epoch in range(recipe.epochs):
        order = torch.randperm(len(split), generator=generator).to(split.labels.device)
        for index in order.tensor_split(count)[max(begin - epoch * count, 0) :]:
            yield split.inputs[index], split.labels[index]


class _Pruned:
    """Keeps the weights outside their masks at 0, whatever momentum and weight decay the optimiser has."""

    def __init__(self, module: nn.Module, masks: Masks) -> None:
        parameters = dict(module.named_parameters(remove_duplicate=False))
        if problem := mask_problem(masks, parameters):
            raise OptionError(f"{problem}; use masks of this network")
        self._weights = [(parameters[name], ~mask.to(parameters[name].device)) for name, mask in masks.items()]
        self.clear_weights()

    @torch.no_grad()
    def clear_weights(self) -> None:
        for weight, pruned in self._weights:
            weight.masked_fill_(pruned, 0)

    def clear_gradients(self) -> None:
        for weight, pruned in self._weights:
            if weight.grad is not None:
                weight.grad.masked_fill_(pruned, 0)


def _step(
    module: nn.Module, optimizer: torch.optim.Optimizer, pruned: _Pruned, inputs: Tensor, labels: Tensor
) -> Tensor:
    loss = F.cross_entropy(module(inputs), labels)
    optimizer.zero_grad()
    loss.backward()
    pruned.clear_gradients()
    optimizer.step()
    pruned.clear_weights()
    return loss.detach()


def _check_finite(losses: Sequence[Tensor], last: int) -> None:
    """Raise OptionError where one of the losses, the last of them of step ``last``, is not finite."""
    finite = torch.stack(list(losses)).isfinite().tolist()
    if not all(finite):
        step = last - len(finite) + 1 + finite.index(False)
        raise OptionError(f"training diverged at step {step}; lower the learning rate (--lr)")


def _optimizer(recipe: Recipe, module: nn.Module) -> torch.optim.Optimizer:
    parameters, decay, momentum = list(module.parameters()), recipe.weight_decay, recipe.momentum
    match recipe.optimizer:
        case "sgd":
            return torch.optim.SGD(parameters, recipe.lr, momentum=momentum, weight_decay=decay, fused=True)
        case "adam":
            return torch.optim.Adam(parameters, recipe.lr, weight_decay=decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(parameters, recipe.lr, weight_decay=decay, fused=True)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, recipe.lr, momentum=momentum, weight_decay=decay)
        case _:
            return torch.optim.Adagrad(parameters, recipe.lr, weight_decay=decay)


def _set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def _snapshot(
    module: nn.Module, step: int, steps_per_epoch: int, due: frozenset[int], save: Callable[[Snapshot], None] | None
) -> None:
    if save is not None and step in due:
        state = {name: value.detach().to("cpu", copy=True) for name, value in module.state_dict().items()}
        save(Snapshot(step, step // steps_per_epoch, state))
