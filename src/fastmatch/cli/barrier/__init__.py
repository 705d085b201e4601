"""``fastmatch barrier``."""

from fastmatch.cli.barrier.command import barrier

__all__ = ["barrier"]
