from __future__ import annotations

import sys

import numpy as np
import pytest

from fastmatch.errors import OptionError, OutputError
from fastmatch.interpolation import Barrier, Curve, Evaluation, Surface, Triangle
from fastmatch.interpolation.triangle import barycentric_grid
from fastmatch.plots import Panel, check_target, draw_barrier, draw_curves, draw_triangle

SIGNATURES = {"png": b"\x89PNG\r\n\x1a\n", "pdf": b"%PDF-", "svg": b"<?xml"}


def result(examples=20, pairs=("unaligned", "aligned")):
    rng, alphas = np.random.default_rng(0), np.linspace(0, 1, 5)
    rows = np.stack([1 - alphas, alphas], 1)

    def curve():
        return Curve(alphas, Evaluation(rows, rng.random((5, examples)), rng.random((5, examples)) < 0.3))

    return Barrier(alphas, {name: {"train": curve(), "test": curve()} for name in pairs})


@pytest.mark.parametrize("suffix", SIGNATURES)
def test_a_picture_is_written_in_the_format_of_its_suffix(tmp_path, suffix):
    path = tmp_path / f"barrier.{suffix}"
    draw_barrier(result(), path, title="mlp, digits")
    content = path.read_bytes()
    assert content.startswith(SIGNATURES[suffix])
    assert len(content) > 5000
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_the_case_of_the_suffix_does_not_matter(tmp_path):
    draw_barrier(result(), tmp_path / "barrier.PNG")
    assert (tmp_path / "barrier.PNG").read_bytes().startswith(SIGNATURES["png"])


def svg(tmp_path, barrier, title=""):
    """The picture as text: matplotlib leaves every string that it draws in a comment."""
    path = tmp_path / "barrier.svg"
    draw_barrier(barrier, path, title)
    return path.read_text()


def test_a_picture_names_its_curves_axes_and_title(tmp_path):
    text = svg(tmp_path, result(), "resnet20, cifar10")
    names = (f"<!-- {pair}, {split} -->" for pair in ("unaligned", "aligned") for split in ("train", "test"))
    for name in (*names, "<!-- cross-entropy (nats) -->", "<!-- error (%) -->", "<!-- resnet20, cifar10 -->"):
        assert name in text


def test_places_of_curves_may_have_names_which_are_thinned_out(tmp_path):
    names = [f"layer{number}" for number in range(30)]
    curves = {"first": np.arange(30.0), "second": np.ones(30)}
    panel = Panel(x=range(30), curves=curves, xlabel="", ylabel="cosine", ticks=names)
    draw_curves([panel], tmp_path / "curves.svg")
    text = (tmp_path / "curves.svg").read_text()
    for word in ("first", "second", "cosine", "layer0", "layer28"):
        assert f"<!-- {word} -->" in text
    assert "<!-- layer1 -->" not in text


def test_a_pair_without_alignment_is_drawn_alone(tmp_path):
    text = svg(tmp_path, result(pairs=("unaligned",)))
    assert "<!-- test -->" in text
    assert "aligned" not in text


def test_a_single_example_has_no_band_and_is_drawn_all_the_same(tmp_path):
    assert "<!-- aligned, test -->" in svg(tmp_path, result(examples=1))


def surfaces(grid=4, examples=20, flat=False):
    rng, rows = np.random.default_rng(0), barycentric_grid(grid)
    losses = np.ones((len(rows), examples)) if flat else rng.random((len(rows), examples))
    errors = np.zeros(losses.shape, bool) if flat else losses < 0.3
    surface = Surface(Evaluation(rows, losses, errors))
    return Triangle(grid, rows, {"train": surface, "test": surface})


@pytest.mark.parametrize("suffix", SIGNATURES)
def test_a_triangle_is_drawn_in_the_format_of_its_suffix(tmp_path, suffix):
    path = tmp_path / f"triangle.{suffix}"
    draw_triangle(surfaces(), path)
    assert path.read_bytes().startswith(SIGNATURES[suffix])
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("shape", [{"grid": 2}, {"examples": 1}, {"flat": True}, {}], ids=str)
def test_a_triangle_names_its_corners_quantities_and_title(tmp_path, shape):
    path = tmp_path / "triangle.svg"
    draw_triangle(surfaces(**shape), path, names=("x.pt", "y.pt", "z.pt"), title="mlp, digits")
    text = path.read_text()
    for name in ("x.pt", "y.pt", "z.pt", "mlp, digits"):
        assert f"<!-- {name} -->" in text
    for quantity in ("test loss (nats), barrier", "test error (%), barrier"):
        assert f"<!-- {quantity}" in text
    assert "nan" not in text


@pytest.mark.parametrize("name", ["barrier.jpg", "barrier", "barrier.png.txt", ".png"])
def test_other_suffixes_are_refused_and_nothing_is_written(tmp_path, name):
    for action in (check_target, lambda path: draw_barrier(result(), path)):
        with pytest.raises(OptionError, match=r"name a file that ends in \.png, \.pdf, \.svg"):
            action(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        draw_barrier(result(), tmp_path / "nowhere" / "barrier.png")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_while_drawing_leaves_the_old_picture(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    def fail(self, path, **options):
        path.write_bytes(b"half a picture")
        raise OSError(28, "No space left on device")

    path = tmp_path / "barrier.png"
    path.write_bytes(b"old")
    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OutputError, match="No space left on device"):
        draw_barrier(result(), path)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["barrier.png"]


def test_without_matplotlib_the_message_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(OutputError, match=r"pip install 'fastmatch\[plots\]'"):
        check_target(tmp_path / "barrier.png")
