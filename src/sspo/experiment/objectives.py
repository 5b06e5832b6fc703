"""Objectives and their parameters are tried before anything is computed with them.

A trial calls the loss itself, so that its own checks apply. That needs PyTorch, which takes longer to
import than Snakemake needs for everything else that it reads. So the folder of Snakemake's own records
remembers what has passed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from sspo.config.errors import ConfigError
from sspo.config.reading import JsonDict

CODE = Path(__file__).parents[1] / "objectives"
RECORDS = Path(".snakemake")  # in the folder that Snakemake works in; absent elsewhere


def check_params(method: str, objective: str, params: JsonDict) -> None:
    """Try an objective with its parameters once, unless this code has passed them before.

    Raises:
        ConfigError: they cannot run.
    """
    passed = RECORDS / "objectives" / _key(objective, params)
    if passed.is_file():
        return
    from sspo.objectives.losses import check_objective  # here, for what this module is about

    try:
        check_objective(objective, params)
    except ValueError as error:
        raise ConfigError(f"methods.{method}: {error}") from None
    if RECORDS.is_dir():
        with contextlib.suppress(OSError):  # a folder that nobody may write to
            passed.parent.mkdir(exist_ok=True)
            passed.touch()


def _key(objective: str, params: JsonDict) -> str:
    digest = hashlib.sha256(json.dumps([objective, params], sort_keys=True).encode())
    for file in sorted(CODE.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
