from __future__ import annotations

import pytest

from fastmatch.errors import DataError, ModelError
from fastmatch.strings import Call, bind, invoke, is_factory, load_factory, parse_call

SOURCE = """
from __future__ import annotations
from dataclasses import dataclass

@dataclass
class Answer:
    value: int
    word: str = "none"

number = 3

def fail():
    raise ValueError("first line\\nsecond line")
"""


@pytest.fixture
def factory_file(tmp_path):
    path = tmp_path / "my factory (1).py"
    path.write_text(SOURCE)
    return path


def sample(*widths: int, rate: float = 0.5, norm: str = "none", flag: bool = False):
    return widths, rate, norm, flag


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("digits", Call("digits", (), {})),
        (" digits() ", Call("digits", (), {})),
        ("mlp(784, 512, 10, norm=none)", Call("mlp", (784, 512, 10), {"norm": "none"})),
        ("f(-1.5, y=TRUE, z=false)", Call("f", (-1.5,), {"y": True, "z": False})),
        ("f(path='a, b:c(1)')", Call("f", (), {"path": "a, b:c(1)"})),
    ],
)
def test_parse_call_reads_literals(text, call):
    assert parse_call(text, ModelError) == call


@pytest.mark.parametrize(
    "text",
    [
        "",
        "f(",
        "f(1)x",
        "a.b(1)",
        "f(g(1))",
        "f(1+2)",
        "f(1j)",
        "f(None)",
        "f([1])",
        "f({[]: 1})",
        "f(*a)",
        "f(**a)",
        "f(x=1, x=2)",
        "f(\0)",
        "(" * 2000,
        "net.pt2",
        "__import__('os').getcwd()",
        "f(__import__('os'))",
    ],
)
def test_parse_call_refuses_everything_else_in_one_line(text):
    with pytest.raises(DataError, match=r"^cannot read .*; write it as") as caught:
        parse_call(text, DataError)
    assert "\n" not in str(caught.value)


def test_invoke_passes_the_arguments():
    assert invoke(parse_call("sample(1, 2, rate=1, norm=layer, flag=true)", ModelError), sample, ModelError) == (
        (1, 2),
        1,
        "layer",
        True,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "sample(1, wide=2)",
            r"unexpected keyword argument 'wide'; write sample\(\*widths, rate=0.5, norm=none, flag=",
        ),
        ("sample(1, 2.0)", "widths is 2.0 but must be an integer"),
        ("sample(true)", "widths is True but must be an integer"),
        ("sample(rate=fast)", "rate is 'fast' but must be a number"),
        ("sample(norm=3)", "norm is 3 but must be a word"),
        ("sample(flag=1)", "flag is 1 but must be true or false"),
    ],
)
def test_bind_checks_names_and_types(text, message):
    with pytest.raises(ModelError, match=message):
        bind(parse_call(text, ModelError), sample, ModelError)


def test_bind_fills_in_defaults():
    assert bind(Call("sample", (7,), {}), sample, ModelError).arguments == {
        "widths": (7,),
        "rate": 0.5,
        "norm": "none",
        "flag": False,
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("package.module:function", True),
        ("module:function(3, norm=layer)", True),
        ("some path/file.py:function", True),
        (r"C:\models\file.py:function(path='a:b(1)')", True),
        ("mlp(784, 10)", False),
        ("net.pt2", False),
        ("file.py", False),
        ("file.py:", False),
        ("/data/mnist.npz", False),
    ],
)
def test_is_factory(text, expected):
    assert is_factory(text) is expected


def test_load_factory_from_file_binds_its_arguments(factory_file):
    answer = load_factory(f"{factory_file}:Answer(3, word=layer)", ModelError)()
    assert (answer.value, answer.word) == (3, "layer")


def test_load_factory_from_module():
    assert load_factory("fractions:Fraction(3, 6)", ModelError)() == 0.5


def test_load_factory_does_not_call(factory_file):
    factory = load_factory(f"{factory_file}:fail", DataError)
    with pytest.raises(DataError, match="ValueError: first line second line; mend"):
        factory()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no_such_module_here:f", "cannot import no_such_module_here: ModuleNotFoundError"),
        ("no/such/file.py:f", "cannot import no/such/file.py: FileNotFoundError: no such file"),
        ("math:no_such_function", "math has no function 'no_such_function'"),
        ("math:pi", "math has no function 'pi'"),
        ("mlp(3)", "names no factory"),
        ("math:sqrt(f(1))", "cannot read"),
    ],
)
def test_load_factory_names_the_problem(text, message):
    with pytest.raises(ModelError, match=message):
        load_factory(text, ModelError)


def test_load_factory_reports_a_broken_file(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("def f(:\n")
    with pytest.raises(ModelError, match="SyntaxError") as caught:
        load_factory(f"{path}:f", ModelError)
    assert "\n" not in str(caught.value)
