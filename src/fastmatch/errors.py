"""Every exception a user can meet.

Each message says what is wrong, where, and what to do; the command line prints it as one line and exits with code 2.
"""


class FastmatchError(Exception):
    """Base of all errors that fastmatch raises on purpose."""


class CheckpointError(FastmatchError):
    """A checkpoint is missing, unreadable, unsafe or not what it should be."""


class ModelError(FastmatchError):
    """A model string is unknown or malformed, or a network does not fit a checkpoint."""


class DataError(FastmatchError):
    """A data string is unknown or malformed, or the data do not fit the network."""


class SymmetryError(FastmatchError):
    """A network cannot be traced, or a permutation spec does not fit its network."""


class PermutationError(FastmatchError):
    """A permutation is not one, or does not fit the spec or the state dict it is used with."""


class AlignmentError(FastmatchError):
    """An alignment file is missing, malformed, or belongs to other checkpoints."""


class CertificateError(FastmatchError):
    """A permutation changed the function of the network beyond the tolerance."""


class AssignmentError(FastmatchError):
    """A similarity matrix is not square, not finite or of an unsupported type."""


class OptionError(FastmatchError):
    """An option has a value outside its range."""


class OutputError(FastmatchError):
    """A file could not be written; what stood there before is untouched."""
