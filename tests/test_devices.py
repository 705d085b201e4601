"""Devices: names, what moves with a network, and precision. CUDA is played by tensors that compute nothing."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from fastmatch import Permutation, Split, load, trace
from fastmatch.devices import device_name, find_device, full_float32, move_module
from fastmatch.errors import OptionError
from fastmatch.symmetry import GraphRunner
from fastmatch.symmetry.graph import call, export_graph
from tests.problems import build, example

GPU, META = torch.device("cuda:0"), torch.device("meta")


@pytest.fixture
def gpus(monkeypatch):
    """Two GPUs, of which the second is the current one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch, "ones", lambda size, device: torch.zeros(size))


class Plain(nn.Module):
    """Keeps a tensor that is no buffer, makes others, and ties two weights."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.register_buffer("hidden", torch.rand(6), persistent=False)
        self.scale = torch.rand(6)

    def forward(self, x):
        y = self.first(x.to(torch.float32)) * self.scale + torch.arange(6) * torch.tensor([0.1])
        return self.second(y.relu() + torch.zeros(x.shape[0], 6)) + self.hidden


def on_gpu(state):
    return {name: torch.empty(tensor.shape, dtype=tensor.dtype, device=GPU) for name, tensor in state.items()}


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(
    ("name", "device"),
    [("auto", "cuda:1"), ("cuda", "cuda:1"), ("cuda:0", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")],
)
def test_names_mean_devices(name, device):
    assert find_device(name) == torch.device(device)


def test_without_a_gpu_auto_is_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("auto") == torch.device("cpu")
    with pytest.raises(OptionError, match="'cuda' is not available"):
        find_device("cuda")


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize("name", ["", "gpu", "CPU", "cuda:", "cuda:-1", "cuda:x", "meta", "cuda:1 ", "mps"])
def test_other_names_are_refused(name):
    with pytest.raises(OptionError, match="is unknown; choose auto, cpu, cuda"):
        find_device(name)


@pytest.mark.usefixtures("gpus")
def test_a_gpu_that_is_not_there_or_does_not_work_is_refused(monkeypatch):
    with pytest.raises(OptionError, match="the last GPU is cuda:1"):
        find_device("cuda:2")

    def broken(*_, **__):
        raise RuntimeError("no kernel image is available\nand more")

    monkeypatch.setattr(torch, "ones", broken)
    with pytest.raises(OptionError, match=r"cannot be used \(no kernel image is available\); use --device cpu"):
        find_device("auto")


def test_results_call_a_gpu_by_its_own_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU of {device}")
    assert [device_name(torch.device(name)) for name in ("cpu", "cuda:1")] == ["cpu", "GPU of cuda:1"]


def test_all_tensors_of_a_network_move_and_the_original_stays():
    module = Plain().eval()
    moved = move_module(module, META)
    assert {tensor.device for tensor in (*moved.parameters(), *moved.buffers(), moved.scale)} == {META}
    assert moved.second.weight is moved.first.weight
    assert list(moved.state_dict()) == list(module.state_dict())
    assert all(isinstance(parameter, nn.Parameter) for parameter in moved.parameters())
    assert not any(part.training for part in moved.modules())
    assert {tensor.device.type for tensor in (*module.parameters(), *module.buffers(), module.scale)} == {"cpu"}


def test_a_copy_on_the_same_device_shares_nothing_and_computes_the_same():
    module, inputs = Plain().eval(), torch.randn(3, 6)
    moved, expected = move_module(module, torch.device("cpu")), module(inputs)
    assert torch.equal(moved(inputs), expected)
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers(), module.scale):
            tensor.zero_()
    assert torch.equal(moved(inputs), expected)


@pytest.mark.filterwarnings("error")
def test_an_exported_program_runs_where_it_is_moved(tmp_path):
    shapes = ({0: torch.export.Dim.AUTO},)
    program = torch.export.export(Plain().eval(), (torch.randn(2, 6),), dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "net.pt2")
    network, inputs = load(tmp_path / "net.pt2"), torch.randn(5, 6)
    again = move_module(move_module(network.module, META), META)
    assert again(inputs.to(META)).device == META
    assert torch.equal(move_module(network.module, torch.device("cpu"))(inputs), network.module(inputs))
    with FakeTensorMode(allow_non_fake_inputs=True):
        state, batch = on_gpu(network.state_dict), torch.empty(5, 6, device=GPU)
        with pytest.raises((RuntimeError, AssertionError)):
            call(network.module, state, (batch,))
        assert call(move_module(network.module, GPU), state, (batch,)).device == GPU


NETWORKS = {
    "plain": (Plain, (torch.randn(2, 6),)),
    "resnet": (lambda: build("resnet20(width=1, in_channels=1, size=8, norm=batch)"), (torch.randn(2, 1, 8, 8),)),
    "attention": (lambda: nn.TransformerEncoderLayer(12, 4, 10, batch_first=True), (torch.randn(2, 5, 12),)),
    "recurrent": (lambda: nn.LSTM(6, 5, batch_first=True), (torch.randn(2, 4, 6),)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_graph_runs_where_it_is_moved(name):
    module, inputs = NETWORKS[name][0]().eval(), NETWORKS[name][1]
    graph = export_graph(module, inputs)
    taps = [node.name for node in graph.module.graph.nodes if node.op == "call_function"]
    expected = GraphRunner(graph, taps).outputs(module.state_dict(), inputs)[0]
    with FakeTensorMode(allow_non_fake_inputs=True):
        batch = [torch.empty(3, *tensor.shape[1:], device=GPU) for tensor in inputs]
        values = GraphRunner(graph.to(GPU), taps).activations(on_gpu(module.state_dict()), batch)
        assert {value.device for value in values.values() if isinstance(value, torch.Tensor)} == {GPU}
    found = GraphRunner(graph.to(torch.device("cpu")), taps).outputs(module.state_dict(), inputs)[0]
    assert torch.equal(found, expected)


def test_units_permutations_and_batches_stay_on_a_gpu():
    model = "shallow_cnn(width=8, norm=batch, in_channels=1, size=12)"
    module = build(model)
    spec = trace(module, example(model))
    with FakeTensorMode(allow_non_fake_inputs=True):
        state = on_gpu(module.state_dict())
        assert {tensor.device for tensor in Permutation.random(spec, 0).apply(state).values()} == {GPU}
        units = [place.units(state[place.tensor]) for group in spec.groups for place in group.occurrences]
        assert {tensor.device for tensor in units} == {GPU}
        split = Split(torch.empty(7, 3, device=GPU), torch.empty(7, dtype=torch.int64, device=GPU))
        assert {tensor.device for batch in split.batches(2) for tensor in batch} == {GPU}


@pytest.fixture
def cudnn():
    """Torch's settings; the old switch, written last, brings the newer ones in line with it."""
    settings, allowed = torch.backends.cudnn, torch.backends.cudnn.allow_tf32
    yield settings
    settings.benchmark = False
    settings.allow_tf32 = allowed


def values(cudnn):
    return cudnn.conv.fp32_precision, cudnn.fp32_precision, cudnn.benchmark, cudnn.deterministic, cudnn.enabled


@pytest.mark.parametrize("allowed", [True, False])
def test_convolutions_are_in_full_precision_and_settings_come_back(cudnn, allowed):
    cudnn.allow_tf32, cudnn.benchmark = allowed, True
    before = values(cudnn)
    with full_float32():
        assert not cudnn.allow_tf32
        assert values(cudnn)[1:] == ("ieee", False, True, True)
    assert values(cudnn) == before


def test_newer_switches_of_the_caller_stay(cudnn):
    cudnn.conv.fp32_precision = "ieee"
    before = values(cudnn)
    with full_float32():
        assert values(cudnn) == before
