"""Pictures of populations: written, with what they must say."""

from __future__ import annotations

import numpy as np
import pytest

from fastmatch.analysis import single_linkage
from fastmatch.plots import (
    ClusterPanel,
    draw_boundaries,
    draw_boxes,
    draw_bundles,
    draw_clusters,
    draw_histograms,
)


def symmetric(count):
    matrix = np.random.default_rng(0).random((count, count))
    return matrix + matrix.T - np.diag(2 * np.diag(matrix))


@pytest.mark.parametrize("count", [2, 5, 50])
def test_clusters_are_drawn_with_dendrogram_and_reference(tmp_path, count):
    matrix, labels = symmetric(count), [f"net{number}" for number in range(count)]
    found = single_linkage(matrix)
    sorted_panel = ClusterPanel(matrix=matrix, order=found.order, merges=found.merges, labels=labels, marked=1)
    plain = ClusterPanel(matrix=matrix, labels=labels, marked=1, largest=0.5, title="as they come")
    draw_clusters([sorted_panel] + [plain] * 4, tmp_path / "clusters.svg", unit="epsilon", title="moons")
    text = (tmp_path / "clusters.svg").read_text()
    for name in ("net1", "epsilon", "moons", "as they come"):
        assert f"<!-- {name} -->" in text


def test_a_matrix_without_barriers_is_drawn(tmp_path):
    draw_clusters([ClusterPanel(matrix=np.zeros((3, 3)))], tmp_path / "clusters.png")
    assert (tmp_path / "clusters.png").read_bytes().startswith(b"\x89PNG")


def test_distributions_name_their_series_and_places(tmp_path):
    series = {
        name: {width: np.random.default_rng(width).random(9) for width in (2, 512)} for name in ("naive", "aligned")
    }
    draw_boxes({"moons": series}, tmp_path / "boxes.svg", xlabel="width", ylabel="epsilon")
    draw_histograms(series, tmp_path / "histograms.svg", xlabel="epsilon")
    for name in ("boxes", "histograms"):
        text = (tmp_path / f"{name}.svg").read_text()
        for shown in ("naive", "aligned", "2", "512", "epsilon"):
            assert f"<!-- {shown} -->" in text


def test_bundles_have_a_panel_each(tmp_path):
    curves = np.random.default_rng(0).random((10, 5))
    bundles = {f"width {width}": curves for width in range(6)}
    draw_bundles(bundles, tmp_path / "bundles.svg", x=np.linspace(0, 1, 5), xlabel="alpha", ylabel="loss")
    text = (tmp_path / "bundles.svg").read_text()
    assert all(f"<!-- {title} -->" in text for title in bundles)


def test_boundaries_with_units_that_never_switch(tmp_path):
    x = np.linspace(-1, 1, 5)
    right = np.broadcast_to(np.where(x > 0, 0.9, 0.1), (1, 5, 5))
    lines = np.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.5], [0.0, 0.0, 1.0]]])
    examples = np.zeros((3, 2)), np.array([0, 1, 1])
    draw_boundaries(x, x, np.stack([1 - right, right], -1), lines, tmp_path / "b.svg", names=["a"], examples=examples)
    assert "<!-- a -->" in (tmp_path / "b.svg").read_text()
