from __future__ import annotations

import pytest
from numba import njit

from fastmatch.assignment.compiled import compiled


def test_functions_are_compiled_where_numba_finds_no_folder_for_its_cache():
    names = {}
    exec(compile("def double(x):\n    return 2 * x", "/nonexistent/module.py", "exec"), names)
    with pytest.raises(RuntimeError, match="cannot cache"):
        njit(cache=True)(names["double"])
    assert compiled(names["double"])(3) == 6
