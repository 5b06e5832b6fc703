"""What the workflow scripts share: paths in, one-line errors out, a fixed numerical set-up."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from sspo.config.errors import ConfigError
from sspo.config.reading import load_json
from sspo.pipeline.locks import follow_pipeline
from sspo.pipeline.provenance import write_record

EXPECTED_ERRORS = (ConfigError, ValueError, OSError, RuntimeError, MemoryError, SafetensorError)


TRAINING = {
    "config": "config of the run",
    "base": "base checkpoint",
    "problems": "training problems",
    "warmup": "problems with worked solutions",
    "validation": "validation problems",
    "tracking": "tracking config",
}


def parse_paths(description: str, *training: str, **arguments: str) -> argparse.Namespace:
    """Parse a script's required ``--name PATH`` arguments.

    Args:
        description: the script's docstring.
        training: names of ``TRAINING``, which scripts that train share.
        arguments: name -> help text.
    """
    parser = argparse.ArgumentParser(description=description)
    for name, text in ({name: TRAINING[name] for name in training} | arguments).items():
        parser.add_argument(f"--{name.replace('_', '-')}", required=True, type=Path, help=text)
    return parser.parse_args()


def record_training(paths: argparse.Namespace, script: str, *results: str, **extra: Any) -> None:
    """Write the record of a training run: from all that it was given to its model and its results.

    Args:
        paths: the script's arguments; where curves are shown is no input.
        script: the script.
        results: names of files beside the model.
        extra: as for ``write_record``.
    """
    given = [path for name, path in vars(paths).items() if name not in ("output", "tracking")]
    config = load_json(paths.config)
    write_record(
        paths.output / "provenance.json",
        script,
        inputs=[file for path in given for file in (path.iterdir() if path.is_dir() else [path])],
        outputs=[*(paths.output / "model").iterdir(), *(paths.output / name for name in results)],
        seeds=[config["seed"]],
        config=config,
        **extra,
    )


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
