"""Planes are drawn with their titles, corners and paths, whatever the values."""

import numpy as np
import pytest

from fastmatch.plots import Landscape, draw_planes


def landscape(values):
    grid = np.linspace(-1, 1, 4)
    corners = [[0, 0], [1, 0], [0.5, 0.8]]
    return Landscape(x=grid, y=grid, values=values, corners=corners, paths={"path one": [[0, 0], [0.5, 0.5]]})


@pytest.mark.parametrize("top", [5.0, 1e9, np.inf, np.nan, 1.0])
def test_pictures_name_what_they_show(tmp_path, top):
    values = np.full((4, 4), 1.0)
    values[0, 0] = top
    draw_planes({"left": landscape(values), "right": landscape(values + 1)}, tmp_path / "x.svg", names=("p", "q", "r"))
    text = (tmp_path / "x.svg").read_text()
    for word in ("left", "right", "path one", "p", "q", "r"):
        assert f"<!-- {word} -->" in text
