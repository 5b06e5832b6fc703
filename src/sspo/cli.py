"""What the workflow scripts share: paths in, one-line errors out, a fixed numerical set-up."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from sspo.config import ComputeConfig, ConfigError
from sspo.locks import follow_pipeline

EXPECTED_ERRORS = (ConfigError, ValueError, OSError, RuntimeError, MemoryError, SafetensorError)


def parse_paths(description: str, **arguments: str) -> argparse.Namespace:
    """Parse a script's required ``--name PATH`` arguments.

    Args:
        description: the script's docstring.
        arguments: name -> help text.
    """
    parser = argparse.ArgumentParser(description=description)
    for name, text in arguments.items():
        parser.add_argument(f"--{name.replace('_', '-')}", required=True, type=Path, help=text)
    return parser.parse_args()


def run(main: Callable[[], None]) -> None:
    """Run a script's main function; an expected error becomes one line and exit code 1.

    The script ends with the pipeline that started it, so that none writes on behind a new one.
    """
    follow_pipeline()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        main()
    except EXPECTED_ERRORS as error:
        logging.debug("traceback", exc_info=True)
        sys.exit(f"error: {explain(error)}")


def explain(error: BaseException) -> str:
    """One line for an expected error; errors of few words get more."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        advice = "lower rollout.max_batch, train.micro_batch or train.chunk_tokens, or --cores"
        return f"out of memory: {advice} ({text or 'no memory left'})"
    return text or type(error).__name__


def set_up_torch(compute: ComputeConfig) -> None:
    """Fix threads and algorithms, so that one config gives one result on a machine.

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
