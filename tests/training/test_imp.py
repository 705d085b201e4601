from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from fastmatch.checkpoints import Card, read, write
from fastmatch.data import DataSet
from fastmatch.errors import CheckpointError, OptionError, OutputError
from fastmatch.training import (
    PrunedNetwork,
    Pruning,
    PruningFolder,
    Recipe,
    apply_masks,
    initialise,
    prune,
    prune_iteratively,
    train,
)

MODEL = "mlp(64, 16, 12, 10, norm=batch)"
RECIPE = Recipe(lr=0.01, epochs=2)
PRUNING = Pruning(fraction=0.4, levels=3, rewind=5)


def same(left, right) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def run(data: DataSet, pruning: Pruning = PRUNING, known=None, **options):
    return prune_iteratively(initialise(MODEL), data, RECIPE, pruning, known=known, **options)


def test_levels_keep_their_exact_share_each_inside_the_one_before(digits: DataSet) -> None:
    levels = run(digits)
    size = 64 * 16 + 16 * 12 + 12 * 10
    assert [level.number for level in levels] == [0, 1, 2, 3]
    assert levels[0].network.masks is None
    assert levels[0].density == 1.0
    for level in levels[1:]:
        masks, previous = level.network.masks, levels[level.number - 1].network
        assert sum(int(mask.sum()) for mask in masks.values()) == round(0.6**level.number * size)
        assert level.density == round(0.6**level.number * size) / size
        assert all(not bool(level.network.state_dict[name][~mask].any()) for name, mask in masks.items())
        assert same(masks, prune(previous.state_dict, 0.6**level.number, masks=previous.masks))
        if previous.masks:
            assert all(not bool((mask & ~previous.masks[name]).any()) for name, mask in masks.items())


def test_weight_rewinding_trains_the_exact_weights_of_that_step_under_the_masks(digits: DataSet) -> None:
    known: dict[str, PrunedNetwork] = {}
    levels, seen = run(digits, known=known), []
    train(initialise(MODEL), digits, replace(RECIPE, save_steps=(5,)), save=seen.append)
    assert same(known["rewind"].state_dict, seen[0].state_dict)
    assert (known["rewind"].step, known["level-02"].step) == (5, 24)
    starts = []
    module = initialise(MODEL, seed=8)
    module.load_state_dict(known["rewind"].state_dict)
    masks = levels[2].network.masks
    train(module, digits, replace(RECIPE, save_steps=(5,)), masks=masks, begin=5, save=starts.append)
    assert same(starts[0].state_dict, apply_masks(masks, known["rewind"].state_dict))
    assert same(module.state_dict(), levels[2].network.state_dict)


def test_rewinding_to_step_0_is_to_the_initial_weights(digits: DataSet) -> None:
    known: dict[str, PrunedNetwork] = {}
    run(digits, replace(PRUNING, levels=1, rewind=0), known)
    assert same(known["rewind"].state_dict, initialise(MODEL).state_dict())


def test_learning_rate_rewinding_keeps_the_weights_and_restarts_the_schedule(digits: DataSet) -> None:
    known: dict[str, PrunedNetwork] = {}
    levels = run(digits, replace(PRUNING, rewinding="lr"), known)
    assert sorted(known) == ["level-00", "level-01", "level-02", "level-03"]
    module = initialise(MODEL, seed=8)
    module.load_state_dict(levels[1].network.state_dict)
    train(module, digits, RECIPE, masks=levels[2].network.masks, begin=5)
    assert same(module.state_dict(), levels[2].network.state_dict)
    # With the whole schedule, the last learning rate is 0 and the first is not: had it not restarted, nothing moved.
    assert not same(apply_masks(levels[1].network.masks, levels[0].network.state_dict), levels[1].network.state_dict)


def test_one_level_is_one_shot_pruning(digits: DataSet) -> None:
    dense, sparse = run(digits, Pruning(fraction=0.9, levels=1))
    assert same(sparse.network.masks, prune(dense.network.state_dict, 1 - 0.9))


def test_layers_can_be_pruned_alike(digits: DataSet) -> None:
    sparse = run(digits, replace(PRUNING, levels=1, scope="layer"))[1]
    assert {name: int(mask.sum()) for name, mask in sparse.network.masks.items()} == {
        "linear1.weight": round(0.6 * 64 * 16),
        "linear2.weight": round(0.6 * 16 * 12),
        "linear3.weight": round(0.6 * 12 * 10),
    }


def test_progress_counts_the_steps_of_all_levels(digits: DataSet) -> None:
    ticks: list[tuple[int, int]] = []
    run(digits, progress=lambda *tick: ticks.append(tick))
    assert {total for _, total in ticks} == {24 + 3 * 19}
    assert sorted({done for done, _ in ticks}) == list(range(1, 24 + 3 * 19 + 1))
    assert [done for done, _ in ticks] == sorted(done for done, _ in ticks)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("rewinding", ["weights", "lr"])
def test_an_interrupted_run_goes_on_to_the_same_files(digits: DataSet, tmp_path, suffix: str, rewinding: str) -> None:
    pruning, card = replace(PRUNING, rewinding=rewinding), Card(model=MODEL, extra={"recipe": {"lr": 0.01}})
    whole = run(digits, pruning, PruningFolder(tmp_path / "whole", card, suffix))

    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 24 + 19 + 7:  # within the second level
            raise Stop

    with pytest.raises(Stop):
        run(digits, pruning, PruningFolder(tmp_path / "parts", card, suffix), progress=stop)
    assert not (tmp_path / f"parts/level-02{suffix}").exists()
    times = (tmp_path / f"parts/level-01{suffix}").stat().st_mtime_ns
    parts = run(digits, pruning, PruningFolder(tmp_path / "parts", card, suffix))
    assert (tmp_path / f"parts/level-01{suffix}").stat().st_mtime_ns == times
    files = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert len(files) == (5 if rewinding == "weights" else 4)
    for name in files:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes(), name
    for left, right in zip(whole, parts, strict=True):
        assert left.to_json() == right.to_json()
        assert same(left.network.state_dict, right.network.state_dict)


@pytest.fixture(scope="module")
def networks(digits: DataSet) -> dict[str, PrunedNetwork]:
    known: dict[str, PrunedNetwork] = {}
    run(digits, known=known)
    return known


def filled(folder, networks, card: Card) -> PruningFolder:
    result = PruningFolder(folder, card)
    for name in ("rewind", "level-00", "level-01", "level-02"):
        result[name] = networks[name]
    return result


def test_levels_of_another_recipe_are_refused(tmp_path, networks) -> None:
    card = Card(model=MODEL, extra={"recipe": {"lr": 0.01, "save": (1,)}, "limit": None})
    found = filled(tmp_path / "run", networks, card)
    assert list(found) == ["level-00", "level-01", "level-02", "rewind"]
    assert len(found) == 4
    again = PruningFolder(tmp_path / "run", copy.deepcopy(card))
    assert same(again["level-02"].masks, networks["level-02"].masks)
    other = replace(card, extra={**card.extra, "recipe": {"lr": 0.02, "save": (1,)}})
    with pytest.raises(CheckpointError, match=r"level-00.pt was made with recipe.lr 0.01, not 0.02; use what"):
        PruningFolder(tmp_path / "run", other)["level-00"]
    with pytest.raises(CheckpointError, match=r"rewind.pt was made with recipe.lr 0.01, not 0.02"):
        PruningFolder(tmp_path / "run", other)["rewind"] = networks["rewind"]
    with pytest.raises(KeyError):
        again["level-07"]


def test_levels_that_do_not_fit_the_network_are_refused(digits: DataSet, networks) -> None:
    known = dict(networks)
    with pytest.raises(CheckpointError, match="'level-00', known before, does not fit the network"):
        prune_iteratively(initialise("mlp(64, 17, 12, 10, norm=batch)"), digits, RECIPE, PRUNING, known=known)


def test_a_level_that_another_took_the_place_of_is_noticed(tmp_path, networks) -> None:
    found = filled(tmp_path / "run", networks, Card(model=MODEL))
    stored = read(tmp_path / "run/level-01.pt")
    changed = {name: -tensor for name, tensor in stored.state_dict.items()}
    write(tmp_path / "run/level-01.pt", changed, stored.card, stored.masks)
    with pytest.raises(CheckpointError, match=r"level-02.pt does not follow from the level before it; remove it"):
        found["level-02"]


def test_the_damaged_file_is_named_and_not_the_one_after_it(tmp_path, networks) -> None:
    found = filled(tmp_path / "run", networks, Card(model=MODEL))
    for damaged, after in (("level-01", "level-02"), ("rewind", "level-00")):
        (tmp_path / f"run/{damaged}.pt").write_bytes(b"PK damaged")
        with pytest.raises(CheckpointError, match=f"{damaged}.pt is"):
            found[after]


def test_a_folder_that_cannot_be_made_gets_one_line(tmp_path, networks) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="it is no folder; choose another"):
        PruningFolder(tmp_path / "link", Card())
    with pytest.raises(OutputError, match=r"cannot write the levels to .*: No such file"):
        PruningFolder(tmp_path / "no/run", Card())["rewind"] = networks["rewind"]


def test_a_file_is_no_folder_of_levels(tmp_path) -> None:
    (tmp_path / "run").touch()
    with pytest.raises(OutputError, match="it is a file; choose another"):
        PruningFolder(tmp_path / "run", Card())


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("fraction", 0.0, "fraction to prune 0.0 is out of range"),
        ("fraction", 1.0, "fraction to prune 1.0 is out of range"),
        ("levels", 0, "number of levels 0 is out of range"),
        ("rewind", -1, "step to rewind to -1 is out of range"),
        ("rewinding", "time", "unknown rewinding 'time'; choose one of weights, lr"),
        ("scope", "unit", "unknown scope 'unit'; choose one of global, layer"),
    ],
)
def test_choices_out_of_range_are_refused(option: str, value, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Pruning(**{option: value})


def test_a_step_to_rewind_to_lies_before_the_last(digits: DataSet) -> None:
    with pytest.raises(OptionError, match="step to rewind to 24 is not before the last step 24; choose up to 23"):
        run(digits, replace(PRUNING, rewind=24))


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_levels_that_keep_nothing_are_refused_before_training(digits: DataSet, scope: str) -> None:
    with pytest.raises(OptionError, match="level 60 would keep none of 1336 weights; choose fewer levels"):
        run(digits, Pruning(fraction=0.99, levels=60, scope=scope), progress=lambda *_: pytest.fail("it trained"))
