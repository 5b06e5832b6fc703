"""The losses and gates of the paper, for use in any trainer; they need only PyTorch."""

from sspo.objectives.gates import GATES
from sspo.objectives.losses import LOSSES

__all__ = ["GATES", "LOSSES"]
