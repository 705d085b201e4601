"""What alignments and barriers tell about networks: sequences, features, populations."""

from fastmatch.analysis.deviation import Deviation, output_deviation
from fastmatch.analysis.indirect import indirect_barriers

__all__ = ["Deviation", "indirect_barriers", "output_deviation"]
