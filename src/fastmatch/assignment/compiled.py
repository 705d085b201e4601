"""How the functions of the solver are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiler(*fastmath: str) -> Callable[[Callable[..., Any]], Any]:
    """Decorator that compiles with these liberties of floating point, cached on disk where a folder can be written."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": set(fastmath)}

    def compiled(function: Callable[..., Any]) -> Any:
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # numba has nowhere to put its cache
            return njit(**options)(function)

    return compiled


compiled = compiler("nnan", "nsz", "contract")
