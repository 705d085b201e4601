from __future__ import annotations

import pytest
import torch
from torch import nn

from fastmatch import Permutation, trace
from fastmatch.data import DataSet
from fastmatch.errors import OptionError, PermutationError
from fastmatch.training import (
    OPTIMIZERS,
    Pruning,
    Recipe,
    Snapshot,
    apply_masks,
    density,
    initialise,
    prunable,
    prune,
    prune_iteratively,
    train,
    transport,
    twins,
)

MODEL = "mlp(64, 24, 16, 10, norm=layer)"


def state(seed: int = 0) -> dict[str, torch.Tensor]:
    return dict(initialise(MODEL, seed=seed).state_dict())


def counts(masks) -> dict[str, int]:
    return {name: int(mask.sum()) for name, mask in masks.items()}


def test_weights_of_layers_are_prunable_and_nothing_else() -> None:
    assert prunable(state()) == ["linear1.weight", "linear2.weight", "linear3.weight"]
    assert prunable(initialise("vgg11(width=1, norm=batch)").state_dict())[:2] == ["conv1.weight", "conv2.weight"]


def test_weights_of_attention_and_recurrence_are_prunable_and_norms_of_several_axes_are_not() -> None:
    module = nn.ModuleDict(
        {
            "norm": nn.LayerNorm([4, 8, 8]),
            "attention": nn.MultiheadAttention(8, 2),
            "cross": nn.MultiheadAttention(8, 2, kdim=4, vdim=4),
            "lstm": nn.LSTM(5, 7),
            "table": nn.Embedding(3, 2),
        }
    )
    assert prunable(module.state_dict()) == [
        *("attention.in_proj_weight", "attention.out_proj.weight"),
        *("cross.q_proj_weight", "cross.k_proj_weight", "cross.v_proj_weight", "cross.out_proj.weight"),
        *("lstm.weight_ih_l0", "lstm.weight_hh_l0", "table.weight"),
    ]
    assert prunable(nn.LayerNorm([2, 3]).state_dict()) == []


class Tied(nn.Module):
    """Two of three layers are one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.a = nn.Linear(64, 16), nn.Linear(16, 16)
        self.b, self.last = nn.Linear(16, 16), nn.Linear(16, 10)
        self.b.weight = self.a.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.flatten(1)
        for layer in (self.first, self.a, self.b):
            x = layer(x).relu()
        return self.last(x)


@pytest.mark.parametrize("criterion", ["magnitude", "random"])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_tied_weights_are_one_tensor(criterion: str, scope: str) -> None:
    weights = Tied().state_dict()
    assert twins(weights) == {"b.weight": "a.weight"}
    masks = prune(weights, 0.37, criterion=criterion, scope=scope)
    assert torch.equal(masks["a.weight"], masks["b.weight"])
    sizes = [64 * 16, 16 * 16, 16 * 10]
    kept = round(0.37 * sum(sizes)) if scope == "global" else sum(round(0.37 * size) for size in sizes)
    assert sum(counts(masks).values()) - counts(masks)["b.weight"] == kept
    assert density(masks, twins(weights)) == kept / sum(sizes)


def test_levels_of_a_tied_network_keep_exact_counts(digits: DataSet) -> None:
    size = 64 * 16 + 16 * 16 + 16 * 10
    for level in prune_iteratively(Tied(), digits, Recipe(epochs=1), Pruning(fraction=0.6, levels=2)):
        assert level.density == round(0.4**level.number * size) / size
        if masks := level.network.masks:
            assert torch.equal(masks["a.weight"], masks["b.weight"])


@pytest.mark.parametrize("criterion", ["magnitude", "random"])
@pytest.mark.parametrize("keep", [1.0, 0.8, 0.5, 0.123, 0.001])
def test_counts_are_exact(criterion: str, keep: float) -> None:
    weights = state()
    sizes = {name: weights[name].numel() for name in prunable(weights)}
    whole = prune(weights, keep, criterion=criterion)
    assert sum(counts(whole).values()) == round(keep * sum(sizes.values()))
    assert density(whole) == round(keep * sum(sizes.values())) / sum(sizes.values())
    layers = prune(weights, keep, criterion=criterion, scope="layer")
    assert counts(layers) == {name: round(keep * size) for name, size in sizes.items()}


def test_the_largest_weights_of_the_network_or_of_each_layer_are_kept() -> None:
    weights = {"a.weight": torch.tensor([[0.5, -4.0], [3.0, 0.1]]), "b.weight": torch.tensor([[5.0, -6.0, 0.2, 7.0]])}
    whole, layers = prune(weights, 0.5), prune(weights, 0.5, scope="layer")
    assert {name: mask.tolist() for name, mask in whole.items()} == {
        "a.weight": [[False, True], [False, False]],
        "b.weight": [[True, True, False, True]],
    }
    assert {name: mask.tolist() for name, mask in layers.items()} == {
        "a.weight": [[False, True], [True, False]],
        "b.weight": [[False, True, False, True]],
    }


def test_of_equal_weights_the_first_are_kept_and_pruned_ones_never_return() -> None:
    weights = {"a.weight": torch.zeros(2, 3), "b.weight": torch.zeros(1, 4)}
    first = prune(weights, 0.5)
    assert counts(first) == {"a.weight": 5, "b.weight": 0}
    assert first["a.weight"].flatten().tolist() == [True] * 5 + [False]
    later = {"a.weight": torch.tensor([[True, False, True], [True, False, False]]), "b.weight": torch.ones(1, 4) > 0}
    again = prune(weights, 0.4, masks=later)  # kept weights that are 0 stand before pruned ones
    assert all(not bool((mask & ~later[name]).any()) for name, mask in again.items())
    assert counts(again) == {"a.weight": 3, "b.weight": 1}


def test_random_masks_follow_from_their_seed_and_not_from_the_weights() -> None:
    first, again, other = (prune(state(n), 0.3, criterion="random", seed=seed) for n, seed in ((0, 1), (5, 1), (0, 2)))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"density": 0.0}, "density 0.0 is out of range"),
        ({"density": 1.1}, "density 1.1 is out of range"),
        ({"density": 0.5, "criterion": "luck"}, "unknown criterion 'luck'; choose one of magnitude, random"),
        ({"density": 0.5, "scope": "unit"}, "unknown scope 'unit'; choose one of global, layer"),
        ({"density": 0.5, "masks": prune(state(), 0.4)}, "keep fewer than 1040 weights of the network already"),
        ({"density": 0.5, "masks": {"linear9.weight": torch.ones(2, 2) > 0}}, "which the network does not have"),
        ({"density": 0.5, "masks": {"linear1.bias": torch.ones(24) > 0}}, "'linear1.bias' is masked but not prunable"),
        ({"density": 0.5, "masks": {"linear1.bias": torch.ones(24)}}, "is torch.float32, not torch.bool"),
    ],
)
def test_what_cannot_be_pruned_gets_one_line(options, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        prune(state(), **options)


def test_a_network_without_layers_has_nothing_to_prune() -> None:
    with pytest.raises(OptionError, match="no weights to prune"):
        prune({"scale.weight": torch.ones(3), "table": torch.ones(2, 2)}, 0.5)


def test_masks_set_weights_to_zero_and_leave_the_rest() -> None:
    weights = state()
    masks = prune(weights, 0.3)
    sparse = apply_masks(masks, weights)
    for name, tensor in sparse.items():
        expected = torch.where(masks[name], weights[name], 0.0) if name in masks else weights[name]
        assert torch.equal(tensor, expected)
    with pytest.raises(OptionError, match=r"has shape \(3, 3\)"):
        apply_masks({"linear1.weight": torch.ones(3, 3) > 0}, weights)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_pruned_weights_stay_exactly_zero_and_the_others_train(digits: DataSet, optimizer: str) -> None:
    module, seen = initialise(MODEL), list[Snapshot]()
    masks = prune(module.state_dict(), 0.2)
    recipe = Recipe(optimizer=optimizer, lr=0.01, momentum=0.9, weight_decay=0.1, epochs=1, save_steps=tuple(range(13)))
    train(module, digits, recipe, masks=masks, save=seen.append)
    assert len(seen) == 13
    for snapshot in seen:
        for name, mask in masks.items():
            assert not bool(snapshot.state_dict[name][~mask].any()), (snapshot.step, name)
    before, after = seen[0].state_dict, seen[-1].state_dict
    assert all(bool((before[name] != after[name])[mask].any()) for name, mask in masks.items())


def test_masks_that_keep_all_change_nothing(digits: DataSet) -> None:
    plain, masked = initialise(MODEL), initialise(MODEL)
    train(plain, digits, Recipe(epochs=1))
    train(masked, digits, Recipe(epochs=1), masks=prune(masked.state_dict(), 1.0))
    assert all(torch.equal(tensor, masked.state_dict()[name]) for name, tensor in plain.state_dict().items())


def test_training_goes_on_from_a_step_of_its_recipe(digits: DataSet) -> None:
    """Without momentum the optimiser has no memory: two halves are the whole, data and learning rates alike."""
    recipe = Recipe(optimizer="sgd", momentum=0.0, lr=0.1, epochs=2, warmup=0.5, save_steps=(7,))
    whole, rest, seen = initialise(MODEL), initialise(MODEL, seed=3), list[Snapshot]()
    train(whole, digits, recipe, save=seen.append)
    rest.load_state_dict(seen[0].state_dict)
    ticks: list[tuple[int, int]] = []
    result = train(rest, digits, recipe, begin=7, progress=lambda *tick: ticks.append(tick))
    assert all(torch.equal(tensor, rest.state_dict()[name]) for name, tensor in whole.state_dict().items())
    assert (result.steps, ticks[0], ticks[-1]) == (17, (1, 17), (17, 17))
    with pytest.raises(OptionError, match="cannot begin after step 24 of 24; choose 0 to 23"):
        train(rest, digits, recipe, begin=24)
    with pytest.raises(OptionError, match="step to save 7 lies before step 8, where training begins"):
        train(rest, digits, recipe, begin=8)


@pytest.mark.parametrize("name", ["linear1.weight", "nothing"])
def test_masks_of_another_network_are_refused(digits: DataSet, name: str) -> None:
    with pytest.raises(OptionError, match="use masks of this network"):
        train(initialise(MODEL), digits, Recipe(epochs=1), masks={name: torch.ones(2, 2) > 0})


@pytest.fixture(scope="module")
def spec():
    return trace(initialise(MODEL), (torch.zeros(2, 64),))


def test_transported_masks_are_those_of_the_permuted_network(spec) -> None:
    """Pruning and moving units commute: no two weights are equal."""
    p, weights = Permutation.random(spec, 4), state()
    moved = transport(prune(weights, 0.2), p)
    assert all(torch.equal(mask, moved[name]) for name, mask in prune(p.apply(weights), 0.2).items())
    back = transport(moved, p.invert())
    assert all(torch.equal(mask, back[name]) for name, mask in prune(weights, 0.2).items())
    assert {mask.dtype for mask in moved.values()} == {torch.bool}


def test_masks_and_an_alignment_of_other_networks_do_not_fit(spec) -> None:
    masks = prune(initialise("mlp(64, 23, 16, 10)").state_dict(), 0.5)
    with pytest.raises(PermutationError, match="does not fit the network of the alignment"):
        transport(masks, Permutation.identity(spec))


def test_a_permuted_copy_trains_under_transported_masks_to_the_permuted_network(digits: DataSet, spec) -> None:
    p, recipe = Permutation.random(spec, 1), Recipe(optimizer="sgd", lr=0.1, epochs=2, weight_decay=1e-3)
    first, second, wrong = initialise(MODEL), initialise(MODEL), initialise(MODEL)
    masks = prune(first.state_dict(), 0.2)
    for copy in (second, wrong):
        copy.load_state_dict(p.apply(first.state_dict()))
    results = [
        train(module, digits, recipe, masks=kept)
        for module, kept in ((first, masks), (second, transport(masks, p)), (wrong, transport(masks, p.invert())))
    ]
    expected = p.apply(first.state_dict())
    for name, tensor in second.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-3, atol=1e-4)
    assert results[1].train_loss == pytest.approx(results[0].train_loss, rel=1e-3)
    assert results[2].train_loss != pytest.approx(results[0].train_loss, rel=1e-2)
