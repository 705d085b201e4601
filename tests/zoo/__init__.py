"""Networks whose permutation groups are known by hand: the table that tracing is tested on."""

from tests.zoo.attention import ATTENTION
from tests.zoo.convolutional import CONVOLUTIONAL
from tests.zoo.dense import DENSE
from tests.zoo.grouped import GROUPED
from tests.zoo.network import Network
from tests.zoo.recurrent import RECURRENT

ZOO = [*DENSE, *CONVOLUTIONAL, *GROUPED, *ATTENTION, *RECURRENT]

__all__ = ["ZOO", "Network"]
