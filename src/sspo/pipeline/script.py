"""What the workflow scripts share: paths in, one-line errors out, a fixed numerical set-up."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from sspo.config.errors import ConfigError
from sspo.pipeline.locks import follow_pipeline

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
