import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call

from fastmatch import checkpoints, networks
from fastmatch.checkpoints import Card
from fastmatch.errors import CheckpointError, ModelError
from fastmatch.files import sha256
from fastmatch.loading import load

MODEL = "mlp(4, 5, 3, norm=batch)"


@pytest.fixture
def network():
    return networks.build(MODEL).eval()


@pytest.fixture
def exported(tmp_path):
    """Export a network with a free batch size and load it back."""

    def export(module, *inputs, **options):
        shapes = tuple({0: torch.export.Dim("batch")} for _ in inputs)
        path = tmp_path / "net.pt2"
        torch.export.save(torch.export.export(module, inputs, dynamic_shapes=shapes, strict=False, **options), path)
        return path

    return export


def save(path, network, model=None):
    checkpoints.write(path, network.state_dict(), Card(model=model) if model else None)
    return path


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_loaded_network_computes_what_the_saved_one_did(tmp_path, network, suffix):
    path = save(tmp_path / f"a{suffix}", network, MODEL)
    loaded = load(path)
    inputs = torch.randn(6, 4)
    assert torch.equal(loaded.module(inputs), network(inputs))
    assert not any(module.training for module in loaded.module.modules())
    assert list(loaded.state_dict) == list(network.state_dict())
    assert (loaded.path, loaded.model, loaded.card, loaded.sha256) == (path, MODEL, Card(model=MODEL), sha256(path))


def test_example_inputs_fit_the_network_and_are_always_the_same(tmp_path, network):
    path = save(tmp_path / "a.pt", network, MODEL)
    (first,), (second,) = load(path).example_inputs, load(path).example_inputs
    assert first.shape == (2, 4)
    assert torch.equal(first, second)


def test_loading_costs_the_caller_no_random_numbers(tmp_path, network):
    path = save(tmp_path / "a.pt", network)
    before = torch.random.get_rng_state()
    load(path, MODEL)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_state_dict_is_a_copy(tmp_path, network):
    loaded = load(save(tmp_path / "a.pt", network, MODEL))
    before = copy.deepcopy(loaded.state_dict)
    with torch.no_grad():
        for tensor in (*loaded.module.parameters(), *loaded.module.buffers()):
            tensor.add_(1)
    assert all(torch.equal(loaded.state_dict[name], tensor) for name, tensor in before.items())


def test_a_checkpoint_on_another_device_is_a_copy(tmp_path, network):
    loaded = load(save(tmp_path / "a.pt", network, MODEL))
    assert loaded.to("cpu") is loaded
    moved = loaded.to("meta")
    for checkpoint, device in ((moved, "meta"), (loaded, "cpu")):
        module = checkpoint.module
        tensors = (*checkpoint.state_dict.values(), *checkpoint.example_inputs, *module.parameters(), *module.buffers())
        assert {tensor.device.type for tensor in tensors} == {device}
    assert list(moved.state_dict) == list(loaded.state_dict)
    assert (moved.path, moved.model, moved.card, moved.sha256) == (loaded.path, MODEL, loaded.card, loaded.sha256)
    assert moved.to("meta") is moved


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_that_of_the_network(tmp_path, network, dtype):
    loaded = load(save(tmp_path / "a.pt", network.to(dtype)), MODEL)
    output = functional_call(loaded.module, loaded.state_dict, loaded.example_inputs)
    assert output.dtype == torch.float32
    torch.testing.assert_close(loaded.state_dict, network.float().state_dict(), rtol=0, atol=0)


def test_a_state_dict_without_card_is_recognised(tmp_path, network):
    assert load(save(tmp_path / "a.pt", network)).model == MODEL


def test_the_model_argument_goes_before_the_card(tmp_path, network):
    assert load(save(tmp_path / "a.pt", network, "vgg11"), MODEL).model == MODEL


def test_a_factory_is_called_only_when_it_is_the_argument(tmp_path, network):
    path = save(tmp_path / "a.pt", network)
    (tmp_path / "factory.py").write_text(
        "import pathlib, fastmatch.networks\n"
        "pathlib.Path(__file__).with_name('marker').touch()\n"
        f"def build(): return fastmatch.networks.build({MODEL!r})\n"
    )
    factory = f"{tmp_path / 'factory.py'}:build"
    torch.save({"state_dict": network.state_dict(), "fastmatch": {"format": 1, "model": factory}}, tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match="names code"):
        load(tmp_path / "b.pt")
    assert not (tmp_path / "marker").exists()
    loaded = load(path, factory)
    assert (tmp_path / "marker").exists()
    assert (loaded.model, loaded.example_inputs) == (factory, None)


def test_a_card_with_an_unknown_network_asks_for_one(tmp_path, network):
    with pytest.raises(ModelError, match=r"a\.pt names 'perceptron'.*--model"):
        load(save(tmp_path / "a.pt", network, "perceptron"))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("mlp(4, 6, 3, norm=batch)", r"'.*weight' is \(5, 4\), not \(6, 4\).*and \d+ more"),
        ("mlp(4, 5, 3)", "unexpected '.*'"),
        ("mlp(4, 5, 5, 3, norm=batch)", "no '.*'"),
    ],
)
def test_another_architecture_is_refused_with_the_first_differences(tmp_path, network, model, message):
    with pytest.raises(CheckpointError, match=f"^[^\n]*a.pt does not fit mlp[^\n]*{message}[^\n]*$"):
        load(save(tmp_path / "a.pt", network), model)


class TestPrograms:
    def test_a_program_brings_network_weights_and_inputs(self, exported, network):
        inputs = torch.randn(2, 4)
        path = exported(network, inputs)
        loaded = load(path)
        assert (loaded.model, loaded.card, loaded.sha256) == ("program", None, sha256(path))
        assert torch.equal(loaded.example_inputs[0], inputs)
        torch.testing.assert_close(loaded.state_dict, dict(network.state_dict()), rtol=0, atol=0)

    def test_a_program_runs_with_other_weights_by_their_names_at_any_batch_size(self, exported, network):
        loaded = load(exported(network, torch.randn(2, 4)))
        other, inputs = networks.build(MODEL).eval(), torch.randn(7, 4)
        assert torch.equal(functional_call(loaded.module, other.state_dict(), (inputs,)), other(inputs))
        loaded.module.load_state_dict(other.state_dict())
        assert torch.equal(loaded.module(inputs), other(inputs))

    def test_a_program_takes_eval_and_train_like_any_module_and_can_be_exported(self, exported, network):
        module, inputs = load(exported(network, torch.randn(2, 4))).module, torch.randn(3, 4)
        assert not any(child.training for child in module.modules())
        assert torch.equal(module.train()(inputs), network(inputs))
        again = torch.export.export(module.eval(), (inputs,), strict=False)
        assert torch.equal(again.module()(inputs), network(inputs))

    def test_the_state_dict_of_a_program_is_a_copy(self, exported, network):
        loaded = load(exported(network, torch.randn(2, 4)))
        with torch.no_grad():
            next(iter(loaded.module.parameters())).add_(1)
        torch.testing.assert_close(loaded.state_dict, dict(network.state_dict()), rtol=0, atol=0)

    @pytest.mark.parametrize("layer", [nn.BatchNorm1d(4), nn.Dropout(0.5)], ids=["normalisation", "dropout"])
    def test_a_program_in_training_mode_is_refused(self, exported, layer):
        module = nn.Sequential(nn.Linear(4, 4), layer)
        assert load(exported(module.eval(), torch.randn(2, 4))).model == "program"
        with pytest.raises(CheckpointError, match=r"training mode; call eval\(\)"):
            load(exported(module.train(), torch.randn(2, 4)))

    def test_a_program_that_takes_no_tensor_by_position_is_refused(self, tmp_path, network):
        program = torch.export.export(network, (), {"input": torch.randn(2, 4)}, strict=False)
        torch.export.save(program, tmp_path / "net.pt2")
        with pytest.raises(CheckpointError, match="tensors by position"):
            load(tmp_path / "net.pt2")

    def test_a_program_can_be_the_network_of_a_bare_state_dict(self, exported, network, tmp_path):
        other = networks.build(MODEL).eval()
        path, program = save(tmp_path / "bare.pt", other), exported(network, torch.randn(2, 4))
        loaded = load(path, str(program))
        inputs = torch.randn(3, 4)
        assert torch.equal(loaded.module(inputs), other(inputs))
        assert loaded.example_inputs is not None
