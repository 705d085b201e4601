from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastmatch.data import DataSet, Split, load_data
from fastmatch.errors import DataError, OptionError
from fastmatch.training import OPTIMIZERS, Recipe, Snapshot, TrainResult, evaluate, initialise, train


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return load_data("digits")


@pytest.fixture(scope="module")
def small() -> DataSet:
    return load_data("digits", limit=101)


def network(dropout: float = 0.0) -> nn.Module:
    def build() -> nn.Module:
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(dropout), nn.Linear(32, 10)
        )

    return initialise(build)


def weights(module: nn.Module) -> Tensor:
    return torch.cat([value.detach().double().flatten() for value in module.state_dict().values()])


def trained(data: DataSet, recipe: Recipe, dropout: float = 0.0) -> tuple[Tensor, TrainResult]:
    module = network(dropout)
    result = train(module, data, recipe)
    return weights(module), result


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_learns_the_digits(digits: DataSet, optimizer: str) -> None:
    lr = {"sgd": 0.05, "adagrad": 0.05, "rmsprop": 3e-3}.get(optimizer, 0.01)
    _, result = trained(digits, Recipe(optimizer=optimizer, lr=lr, epochs=6, batch_size=64))
    assert result.test_accuracy > 0.9
    assert result.train_loss < 0.2
    assert (result.steps, result.epochs) == (6 * 23, 6)


@pytest.mark.parametrize("schedule", ["constant", "onecycle"])
def test_every_schedule_learns_the_digits(digits: DataSet, schedule: str) -> None:
    _, result = trained(digits, Recipe(lr=3e-3, epochs=6, batch_size=64, schedule=schedule, warmup=1.0))
    assert result.test_accuracy > 0.9


@pytest.mark.parametrize(
    ("name", "reference", "options"),
    [
        ("sgd", torch.optim.SGD, {"momentum": 0.7}),
        ("adam", torch.optim.Adam, {}),
        ("adamw", torch.optim.AdamW, {}),
        ("rmsprop", torch.optim.RMSprop, {"momentum": 0.7}),
        ("adagrad", torch.optim.Adagrad, {}),
    ],
)
def test_one_step_on_the_whole_data_is_that_of_the_named_optimizer(
    small: DataSet, name: str, reference: type, options: dict[str, float]
) -> None:
    module = network().double()
    split = Split(small.train.inputs.double(), small.train.labels)
    data = replace(small, train=split, test=split)
    expected = copy.deepcopy(module)
    optimizer = reference(expected.parameters(), lr=0.01, weight_decay=0.1, **options)
    for _ in range(2):
        optimizer.zero_grad()
        F.cross_entropy(expected(data.train.inputs), data.train.labels).backward()
        optimizer.step()
    recipe = Recipe(
        optimizer=name, lr=0.01, momentum=0.7, weight_decay=0.1, schedule="constant", epochs=2, batch_size=1000
    )
    train(module, data, recipe)
    torch.testing.assert_close(weights(module), weights(expected), rtol=1e-6, atol=1e-9)


def test_the_learning_rate_follows_the_schedule(small: DataSet) -> None:
    recipe = Recipe(optimizer="sgd", momentum=0.0, lr=0.1, epochs=1, batch_size=16, save_steps=(0, 1))
    lengths = {}
    for schedule in ("constant", "onecycle"):
        snapshots: list[Snapshot] = []
        train(network(), small, replace(recipe, schedule=schedule), save=snapshots.append)
        before, after = (snapshot.state_dict["1.weight"] for snapshot in snapshots)
        lengths[schedule] = (after - before).norm().item()
    assert lengths["onecycle"] / lengths["constant"] == pytest.approx(1 / 25, rel=1e-3)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_one_seed_gives_one_result_bit_for_bit(small: DataSet, dropout: float) -> None:
    recipe = Recipe(epochs=2, batch_size=16, order_seed=3)
    first, figures = trained(small, recipe, dropout)
    torch.manual_seed(99)
    again, figures_again = trained(small, recipe, dropout)
    assert torch.equal(first, again)
    assert figures.test_loss == figures_again.test_loss


def test_another_order_seed_gives_another_network_and_the_init_seed_none(small: DataSet) -> None:
    first, _ = trained(small, Recipe(epochs=1, batch_size=16, order_seed=1))
    assert not torch.equal(first, trained(small, Recipe(epochs=1, batch_size=16, order_seed=2))[0])
    assert torch.equal(first, trained(small, Recipe(epochs=1, batch_size=16, order_seed=1, init_seed=5))[0])


def test_each_epoch_sees_every_example_once_in_a_new_order(small: DataSet) -> None:
    module, seen = network(), []
    module.register_forward_pre_hook(lambda _, args: seen.append(args[0]) if module.training else None)
    train(module, small, Recipe(epochs=2, batch_size=20))
    assert [len(batch) for batch in seen] == [17, 17, 17, 17, 17, 16] * 2
    first, second = torch.cat(seen[:6]).flatten(1), torch.cat(seen[6:]).flatten(1)
    assert not torch.equal(first, second)
    whole = small.train.inputs.flatten(1)
    for epoch in (first, second):
        assert torch.equal(torch.unique(epoch, dim=0), torch.unique(whole, dim=0))
        torch.testing.assert_close(epoch.sum(0), whole.sum(0), rtol=1e-4, atol=1e-3)


def test_training_leaves_random_state_data_and_cudnn_settings_alone_and_the_network_in_eval_mode(
    small: DataSet,
) -> None:
    module, before, inputs = network(0.5), torch.get_rng_state(), small.train.inputs.clone()
    settings = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    train(module, small, Recipe(epochs=1))
    assert not module.training
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(small.train.inputs, inputs)
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == settings


def test_snapshots_come_at_the_chosen_steps_and_epochs_once_each(small: DataSet) -> None:
    module, snapshots = network(), list[Snapshot]()
    start = copy.deepcopy(module.state_dict())
    recipe = Recipe(epochs=3, batch_size=20, save_epochs=(0, 1, 3), save_steps=(4, 6))
    train(module, small, recipe, save=snapshots.append)
    assert [(snapshot.step, snapshot.epoch) for snapshot in snapshots] == [(0, 0), (4, 0), (6, 1), (18, 3)]
    for snapshot, state in ((snapshots[0], start), (snapshots[-1], module.state_dict())):
        torch.testing.assert_close(snapshot.state_dict, dict(state), rtol=0, atol=0)
    assert not torch.equal(snapshots[1].state_dict["1.weight"], snapshots[2].state_dict["1.weight"])


def test_saving_does_not_change_the_result(small: DataSet) -> None:
    plain, _ = trained(small, Recipe(epochs=2, batch_size=20))
    module = network()
    train(module, small, Recipe(epochs=2, batch_size=20, save_steps=(1, 2, 3)), save=lambda _: None)
    assert torch.equal(weights(module), plain)


def test_progress_counts_steps(small: DataSet) -> None:
    calls: list[tuple[int, int]] = []
    train(network(), small, Recipe(epochs=2, batch_size=50), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(step, 6) for step in range(1, 7)]


def test_spawning_starts_from_the_given_weights(digits: DataSet) -> None:
    module = network()
    train(module, digits, Recipe(lr=3e-3, epochs=5))
    before = evaluate(module, digits.train)[0]
    result = train(module, digits, Recipe(lr=1e-4, epochs=1, order_seed=1))
    assert result.train_loss < before


def test_reported_figures_are_those_of_the_whole_splits(small: DataSet) -> None:
    module = network()
    result = train(module, small, Recipe(epochs=1))
    with torch.no_grad():
        logits = module(small.test.inputs).double()
    assert result.test_loss == pytest.approx(F.cross_entropy(logits, small.test.labels).item(), rel=1e-6)
    assert result.test_accuracy == (logits.argmax(1) == small.test.labels).double().mean().item()
    assert (result.train_loss, result.train_accuracy) == evaluate(module, small.train)


def test_divergence_names_the_step_and_the_way_out(small: DataSet) -> None:
    recipe = Recipe(optimizer="sgd", lr=1e30, schedule="constant", epochs=3, batch_size=16)
    module = initialise(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Linear(32, 10)))
    with pytest.raises(OptionError, match=r"training diverged at step \d+; lower the learning rate \(--lr\)"):
        train(module, small, recipe)


def test_the_step_of_a_divergence_is_the_first_one_however_often_losses_are_read(small: DataSet) -> None:
    messages = set()
    for steps in ((), tuple(range(22))):
        recipe = Recipe(optimizer="sgd", lr=30, schedule="constant", epochs=3, batch_size=16, save_steps=steps)
        module = initialise(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Linear(32, 10)))
        with pytest.raises(OptionError) as error:
            train(module, small, recipe, save=lambda snapshot: None)
        messages.add(str(error.value))
    assert len(messages) == 1, messages


def test_divergence_in_the_last_step_is_noticed_too(small: DataSet) -> None:
    recipe = Recipe(optimizer="sgd", lr=1e38, schedule="constant", epochs=1, batch_size=1000)
    module = initialise(lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Linear(32, 10)))
    with pytest.raises(OptionError, match="training diverged at step 1;"):
        train(module, small, recipe)


def test_a_step_beyond_the_last_cannot_be_saved(small: DataSet) -> None:
    with pytest.raises(OptionError, match="step to save 7 lies beyond the last step 6"):
        train(network(), small, Recipe(epochs=2, batch_size=50, save_steps=(7,)))


def test_data_that_do_not_fit_are_refused_before_training() -> None:
    with pytest.raises(DataError, match="which the network does not take"):
        train(network(), load_data("moons"), Recipe(epochs=1))
