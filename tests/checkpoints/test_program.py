"""Every way found to make torch.export.load, or the network it returns, run code. Each payload would create a file."""

import io
import json
import os
import sys
import zipfile
from contextlib import suppress

import pytest
import torch
from torch import nn

from fastmatch import checkpoints
from fastmatch.errors import CheckpointError

GRAPH = "models/model.json"
INPUTS = "data/sample_inputs/model.pt"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.register_buffer("scale", torch.full((2,), 2.0), persistent=False)

    def forward(self, image):
        features = torch.relu(self.norm(self.conv(image))) * self.scale[:, None, None]
        with torch.no_grad():
            return {"logits": features.flatten(1), "size": [features.mean((2, 3)) * (image.shape[2] // 2)]}


class Marker:
    """A file that must never appear; ``code`` is the expression that would create it."""

    def __init__(self, folder):
        self.path = folder / "marker"
        self.code = f"__import__('pathlib').Path({str(self.path)!r}).touch()"

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.fixture
def marker(tmp_path, monkeypatch):
    marker = Marker(tmp_path)
    (tmp_path / "payload_module.py").write_text(marker.code)
    monkeypatch.syspath_prepend(tmp_path)
    yield marker
    sys.modules.pop("payload_module", None)


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    """Members of a good program, by name, and where it lies."""
    path = tmp_path_factory.mktemp("program") / "net.pt2"
    shapes = ({0: torch.export.Dim("batch"), 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO},)
    inputs = (torch.randn(2, 1, 6, 6),)
    torch.export.save(torch.export.export(Network().eval(), inputs, dynamic_shapes=shapes, strict=False), path)
    with zipfile.ZipFile(path) as source:
        return path, {name.partition("/")[2]: source.read(name) for name in source.namelist()}


def pack(path, members, root="net"):
    with zipfile.ZipFile(path, "w") as target:
        for name, data in members.items() if isinstance(members, dict) else members:
            target.writestr(f"{root}/{name}", data)
    return path


def edited(members, name, edit):
    document = json.loads(members[name])
    edit(document)
    return members | {name: json.dumps(document).encode()}


def pickled(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def expressions(value):
    """All symbolic expressions of a document."""
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if isinstance(value, dict) and "expr_str" in value:
        yield value
    for child in children:
        yield from expressions(child)


def set_expressions(text):
    def edit(document):
        found = list(expressions(document))
        assert found
        for expression in found:
            expression["expr_str"] = text

    return edit


def add_node(target, *arguments):
    """Put a call in front of all others."""

    def edit(document):
        graph = document["graph_module"]["graph"]
        graph["tensor_values"]["extra"] = next(iter(graph["tensor_values"].values()))
        inputs = [{"name": name, "arg": value, "kind": 1} for name, value in arguments]
        outputs = [{"as_tensor": {"name": "extra"}}]
        graph["nodes"].insert(0, {"target": target, "inputs": inputs, "outputs": outputs, "metadata": {}})

    return edit


def rename(old, new):
    def edit(document):
        text = json.dumps(document).replace(json.dumps(old), json.dumps(new))
        assert json.dumps(new) in text
        document.update(json.loads(text))

    return edit


def set_signature(key, value):
    def edit(document):
        document["graph_module"]["module_call_graph"][0]["signature"][key] = value

    return edit


def tree(kind, context):
    return set_signature("out_spec", json.dumps([1, {"type": kind, "context": context, "children_spec": []}]))


ENUM = json.dumps([{"__enum__": True, "fqn": "payload_module:A", "name": "B"}])
FACTORY = {"default_factory_module": "payload_module", "default_factory_name": "a", "dict_context": []}

GRAPH_ATTACKS = {
    "expression": lambda m: set_expressions(m.code),
    "expression in a list": lambda m: set_expressions([m.code]),
    "expression by attribute": lambda m: set_expressions("Symbol('s0').__class__"),
    "lambda": lambda m: set_expressions("(lambda: 0)()"),
    "operator of os": lambda m: add_node("torch.os.mkdir", ("", {"as_string": str(m.path)})),
    "operator called by another": lambda m: add_node(
        "_operator.call", ("", {"as_operator": "torch.os.mkdir"}), ("", {"as_string": str(m.path)})
    ),
    "operator as argument": lambda m: add_node("_operator.add", ("", {"as_operator": "torch.os.mkdir"})),
    "torch.load": lambda m: add_node("torch.load", ("", {"as_string": "a.pt"})),
    "operator that maps a file": lambda m: add_node(
        "torch.ops.aten.from_file.default",
        ("filename", {"as_string": str(m.path)}),
        ("shared", {"as_bool": True}),
        ("size", {"as_int": 9}),
    ),
    "operator that saves": lambda m: add_node(
        "torch.ops.aten.save.default", ("t", {"as_int": 1}), ("filename", {"as_string": str(m.path)})
    ),
    "attribute of an operator": lambda m: add_node("torch.ops.aten.relu.__init__"),
    "operator of a loaded library": lambda m: add_node("torch.ops.load_library", ("", {"as_string": "x.so"})),
    "name of a node": lambda m: rename("relu", f"relu = {m.code}; relu"),
    "name of an input": lambda m: rename("image", f"image={m.code}"),
    "name of a parameter": lambda m: rename("conv.weight", f'conv")+{m.code}+("weight'),
    "name of an argument": lambda m: set_signature("forward_arg_names", [f"image={m.code}"]),
    "enumeration in a tree": lambda m: tree("builtins.dict", ENUM),
    "default dictionary in a tree": lambda m: tree("collections.defaultdict", json.dumps(FACTORY)),
}


def refused(path, marker, message="holds code"):
    with pytest.raises(CheckpointError, match=message) as refusal:
        checkpoints.read(path).program.module()(torch.randn(2, 1, 6, 6))
    assert "\n" not in str(refusal.value)
    assert not marker.path.exists()
    assert "payload_module" not in sys.modules


@pytest.mark.parametrize("attack", GRAPH_ATTACKS)
def test_a_graph_with_code_is_refused(tmp_path, archive, marker, attack):
    members = edited(archive[1], GRAPH, GRAPH_ATTACKS[attack](marker))
    refused(pack(tmp_path / "bad.pt2", members), marker)


@pytest.mark.parametrize("config", [WEIGHTS, CONSTANTS])
@pytest.mark.parametrize("change", [{"use_pickle": True}, {"path_name": "opaque_obj_0"}, {"path_name": "custom_obj_0"}])
def test_pickled_tensors_and_objects_are_refused(tmp_path, archive, marker, config, change):
    folder = config.rpartition("/")[0]

    def edit(document):
        entry = next(iter(document["config"].values()))
        entry.update(change)
        members[f"{folder}/{entry['path_name']}"] = pickled(marker)

    members = dict(archive[1])
    members |= edited(members, config, edit)
    refused(pack(tmp_path / "bad.pt2", members), marker)


@pytest.mark.parametrize("config", [WEIGHTS, CONSTANTS])
def test_expressions_in_sizes_of_tensors_are_refused(tmp_path, archive, marker, config):
    def edit(document):
        next(iter(document["config"].values()))["tensor_meta"]["sizes"] = [{"as_expr": {"expr_str": marker.code}}]

    refused(pack(tmp_path / "bad.pt2", edited(archive[1], config, edit)), marker)


def test_pickled_sample_inputs_are_refused(tmp_path, archive, marker):
    refused(pack(tmp_path / "bad.pt2", archive[1] | {INPUTS: pickled(((marker,), {}))}), marker)


def test_members_that_a_program_does_not_need_never_reach_torch(tmp_path, archive, marker):
    extra = dict.fromkeys(
        ("data/weights/model.pt", "data/constants/model.pt", "data/aotinductor/model/a.so", "models/other.json"),
        pickled(marker),
    )
    checkpoints.read(pack(tmp_path / "good.pt2", archive[1] | extra)).program.module()(torch.randn(2, 1, 6, 6))
    assert not marker.path.exists()


def test_guards_are_not_executed(tmp_path, archive, marker):
    members = edited(archive[1], GRAPH, lambda document: document.update(guards_code=[marker.code]))
    checkpoints.read(pack(tmp_path / "good.pt2", members)).program.module()(torch.randn(2, 1, 6, 6))
    assert not marker.path.exists()


@pytest.mark.parametrize("decoy", ["MODELS/model.json", "models/model.json", "models//model.json"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_second_graph_hidden_in_the_archive_is_never_loaded(tmp_path, archive, marker, decoy, first):
    bad = (decoy, edited(archive[1], GRAPH, set_expressions(marker.code))[GRAPH])
    members = [bad, *archive[1].items()] if first else [*archive[1].items(), bad]
    with suppress(CheckpointError):  # which of two members of one name counts is the reader's choice; code never does
        checkpoints.read(pack(tmp_path / "hidden.pt2", members)).program.module()(torch.randn(2, 1, 6, 6))
    assert not marker.path.exists()


def test_the_archive_of_old_torch_is_not_a_way_around(tmp_path, archive, marker):
    graph = edited(archive[1], GRAPH, set_expressions(marker.code))[GRAPH]
    with zipfile.ZipFile(pack(tmp_path / "old.pt2", archive[1] | {"archive_version": b"9"}), "a") as target:
        target.writestr("version", "8.0")
        target.writestr("serialized_exported_program.json", graph)
        for name in ("state_dict", "constants", "example_inputs"):
            target.writestr(f"serialized_{name}.pt", pickled(marker))
    refused(tmp_path / "old.pt2", marker, "can load")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (GRAPH, b"{"),
        (GRAPH, b"[]"),
        (GRAPH, b"[" * 100_000),
        (WEIGHTS, b"{}"),
        (INPUTS, b"x"),
        ("archive_format", b"?"),
    ],
)
def test_damaged_members_are_refused_without_a_word_on_the_terminal(tmp_path, archive, marker, name, data, capfd):
    refused(pack(tmp_path / "bad.pt2", archive[1] | {name: data}), marker, "bad.pt2")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [b"hello", b"", b"PK\x03\x04"], ids=["text", "empty", "cut"])
def test_files_that_are_no_archive_are_refused(tmp_path, marker, content):
    (tmp_path / "bad.pt2").write_bytes(content)
    refused(tmp_path / "bad.pt2", marker, "bad.pt2 is")


def test_a_truncated_program_is_refused(tmp_path, archive, marker):
    (tmp_path / "bad.pt2").write_bytes(archive[0].read_bytes()[:-100])
    refused(tmp_path / "bad.pt2", marker, "truncated")


def test_a_good_program_computes_what_it_did(archive):
    stored, original = checkpoints.read(archive[0]), torch.export.load(archive[0])
    assert stored.state_dict.keys() == original.state_dict.keys()
    inputs = torch.randn(5, 1, 9, 7)
    found, expected = stored.program.module()(inputs), original.module()(inputs)
    assert torch.equal(found["logits"], expected["logits"])
    assert torch.equal(found["size"][0], expected["size"][0])


@pytest.mark.parametrize("value", [None, "0"])
def test_loading_leaves_the_environment_alone(archive, monkeypatch, value):
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    if value is not None:
        monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", value)
    checkpoints.read(archive[0])
    assert os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD") == value
