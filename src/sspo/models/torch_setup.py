"""Set up PyTorch so that one config gives one result on a machine."""

from __future__ import annotations

from sspo.config.errors import ConfigError
from sspo.config.settings import ComputeConfig


def set_up_torch(compute: ComputeConfig) -> None:
    """Fix the number of threads and choose deterministic algorithms.

    On a GPU, an operation without a deterministic algorithm gives a warning instead of an error.

    Raises:
        ConfigError: a CUDA device is asked for and there is none.
    """
    import torch
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    torch.set_num_threads(compute.threads)
    torch.use_deterministic_algorithms(True, warn_only=compute.device != "cpu")
    if compute.device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(
            f"compute.device = {compute.device!r}: PyTorch sees no GPU; set device to cpu"
        )
