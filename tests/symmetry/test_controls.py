"""Controls: asymmetries that must be pinned where they are, and wrong specs that must be caught by name."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastmatch import load_spec, trace
from fastmatch.errors import CertificateError, SymmetryError
from tests.problems import build, example


@torch.library.custom_op("fastmatch_tests::rank_mix", mutates_args=())
def rank_mix(x: torch.Tensor) -> torch.Tensor:
    return x * torch.linspace(0.5, 2, x.shape[-1], dtype=x.dtype)


@rank_mix.register_fake
def _(x):
    return torch.empty_like(x)


class Control(nn.Module):
    """Three linear layers with a deliberate asymmetry behind the first."""

    def __init__(self, asymmetry):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(8, 7), nn.Linear(7, 3)
        self.asymmetry = asymmetry

    def forward(self, x):
        return self.c(F.relu(self.b(self.asymmetry(F.relu(self.a(x))))))


INPUTS = (torch.randn(4, 5, generator=torch.Generator().manual_seed(0)),)
WHOLE = {
    "constant per channel": (lambda h: h * torch.arange(1.0, 9.0).to(h.dtype), "constant of the network"),
    "custom operation": (rank_mix, "no rule for fastmatch_tests.rank_mix.default"),
    "order of channels": (lambda h: h.cumsum(1), "order counts in aten.cumsum"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_an_asymmetry_pins_the_group_it_breaks_and_no_other(name):
    asymmetry, reason = WHOLE[name]
    module = Control(asymmetry)
    spec = trace(module, INPUTS)
    assert [group.name for group in spec.groups] == ["b"]
    assert {pin.axis for pin in spec.pinned if reason in pin.reason} == {"a.weight[0]", "a.bias[0]", "b.weight[1]"}
    assert spec.certify(module, INPUTS).passed


def test_a_channel_indexed_by_number_stays_and_the_others_move():
    module = Control(lambda h: torch.cat((h[:, :1] * 2, h[:, 1:]), 1) + h[:, 3].sum())
    spec = trace(module, INPUTS)
    assert sorted((group.name, group.size) for group in spec.groups) == [("a", 2), ("a#2", 4), ("b", 7)]
    assert "a.weight[0] from 3" in {pin.axis for pin in spec.pinned if pin.reason == "positions picked by number"}
    assert spec.certify(module, INPUTS).passed


def test_a_condition_on_data_is_followed_into_both_branches():
    branches = (lambda h: h.flip(1), lambda h: h * 2)
    module = Control(lambda h: torch.cond(h.sum() > 0, *branches, (h,)))
    spec = trace(module, INPUTS)
    assert [group.name for group in spec.groups] == ["b"]
    assert any("order counts in aten.flip" in pin.reason for pin in spec.pinned if pin.axis == "a.bias[0]")
    assert spec.certify(module, INPUTS).passed


def test_a_branch_in_python_needs_a_run():
    module = Control(lambda h: h.tanh() if h.sum() > 0 else h.flip(1))
    with pytest.raises(SymmetryError, match="--tracing run"):
        trace(module, INPUTS)
    spec = trace(module, INPUTS, method="run")
    assert [group.size for group in spec.groups] == [8, 7]
    assert spec.certify(module, INPUTS).passed


@pytest.fixture
def mlp():
    model = "mlp(6, 5, 5, 3)"
    return build(model), example(model)


def write(path, text):
    path.write_text(text)
    return path


RIGHT = '{"linear1.weight": ["p", null], "linear1.bias": ["p"], "linear2.weight": ["q", "p"], "linear2.bias": ["q"],'
BY_PARAMETER = RIGHT + ' "linear3.weight": [null, "q"], "linear3.bias": [null]}'
BY_GROUP = """{"p": [["linear1.weight", 0], ["linear1.bias", 0], ["linear2.weight", 1]],
"q": [["linear2.weight", 0], ["linear2.bias", 0], ["linear3.weight", 1]]}"""


@pytest.mark.parametrize("text", [BY_PARAMETER, BY_GROUP])
def test_short_forms_are_the_traced_spec(mlp, tmp_path, text):
    module, inputs = mlp
    spec = load_spec(write(tmp_path / "spec.json", text), module)
    traced = trace(module, inputs)
    assert [[str(place) for place in group.occurrences] for group in spec.groups] == [
        [str(place) for place in group.occurrences] for group in traced.groups
    ]
    assert spec.certify(module, inputs).passed


def test_blocks_can_be_written_by_hand(tmp_path):
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(64, 2))
    text = '{"c": [["0.weight", 0], ["0.bias", 0], ["2.weight", 1, "c [16]"]]}'
    spec = load_spec(write(tmp_path / "spec.json", text), module)
    assert spec.certify(module, (torch.randn(3, 1, 6, 6),)).passed


def test_a_wrong_spec_is_caught_and_the_failing_group_is_named(mlp, tmp_path):
    module, inputs = mlp
    text = BY_PARAMETER.replace('["q", "p"]', '["q", "q"]')
    spec = load_spec(write(tmp_path / "spec.json", text), module)
    certificate = spec.certify(module, inputs)
    assert not certificate.passed
    assert [failure.split("'")[1] for failure in certificate.failed] == ["p", "q"]
    with pytest.raises(CertificateError, match=r"group 'p' \(linear1.weight\[0\], linear1.bias\[0\]\)"):
        certificate.require("a random permutation")


def test_only_the_wrong_group_is_named(mlp, tmp_path):
    module, inputs = mlp
    text = BY_PARAMETER.replace('"linear3.bias": [null]', '"linear3.bias": ["r"]')
    spec = load_spec(write(tmp_path / "spec.json", text), module)
    assert [failure.split("'")[1] for failure in spec.certify(module, inputs).failed] == ["r"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot read a permutation spec"),
        ('{"p": [["linear9.weight", 0]]}', "no tensor 'linear9.weight'"),
        ('{"p": [["linear1.weight", 2]]}', "none with number 2"),
        ('{"p": [["linear1.weight", 0], ["linear1.weight", 1]]}', "more than one size"),
        ('{"p": [["linear1.weight", 0, "p [2]"]]}', "size of group 'p' is not known"),
        ('{"linear1.weight": ["p", "(p"]}', "parenthesis is open"),
        ('{"p": 3}', "malformed permutation spec"),
        ("[1]", "malformed permutation spec"),
        ('{"format": 1, "tensors": {}}', "is not 2"),
    ],
)
def test_specs_that_do_not_fit_say_why(mlp, tmp_path, text, message):
    with pytest.raises(SymmetryError, match=message):
        load_spec(write(tmp_path / "spec.json", text), mlp[0])


def test_frozen_groups_stay_and_others_still_vary_with_them():
    module = nn.TransformerEncoderLayer(8, 2, 10, batch_first=True).eval()
    inputs = (torch.randn(2, 3, 8),)
    spec = trace(module, inputs)
    frozen = spec.freeze(["*#blocks"])
    assert len(frozen.groups) == len(spec.groups) - 1
    assert any(group.base == ("self_attn#blocks",) for group in frozen.groups)
    assert "frozen by '*#blocks'" in {pin.reason for pin in frozen.pinned}
    state = module.state_dict()
    moved = frozen.permute(state, frozen.random(0))
    assert not torch.equal(moved["self_attn.in_proj_weight"], state["self_attn.in_proj_weight"])
    assert frozen.certify(module, inputs).passed
    with pytest.raises(SymmetryError, match="no group fits 'nothing'"):
        spec.freeze(["nothing"])
