"""The losses and gates of the paper, for any trainer; they need PyTorch alone."""

from sspo.objectives.gates import GATES
from sspo.objectives.losses import LOSSES

__all__ = ["GATES", "LOSSES"]
