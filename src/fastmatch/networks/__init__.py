"""The architectures of the papers, and how a model string finds one."""

from fastmatch.networks.recognise import recognise
from fastmatch.networks.registry import build, input_shape, is_builtin

__all__ = ["build", "input_shape", "is_builtin", "recognise"]
