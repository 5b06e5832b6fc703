"""What the file of ``accelerate config`` says of memory and GPUs, read without accelerate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sspo.config.errors import ConfigError

WEIGHTS, GRADIENTS, MOMENTS = "weights", "gradients", "moments"
ZERO_STAGES = {1: {MOMENTS}, 2: {MOMENTS, GRADIENTS}, 3: {MOMENTS, GRADIENTS, WEIGHTS}}


@dataclass(frozen=True)
class Launch:
    """How a run is spread over processes.

    Attributes:
        processes: that train it, each on a GPU of its own.
        sharded: what each of them holds a part of, of the names above; the rest is in all of them.
    """

    processes: int = 1
    sharded: frozenset[str] = frozenset()

    def held(self, what: str, size: float) -> float:
        """Bytes that a process holds of something that has ``size``."""
        return size / self.processes if what in self.sharded else size


ONE_PROCESS = Launch()


def read_launch(file: str | Path) -> Launch:
    """The launch that a file describes; one process where no file is named.

    A file that shards in a way that is not known here counts as one that shards nothing.

    Raises:
        ConfigError: it cannot be read, or does not say how many processes there are.
    """
    if not file:
        return ONE_PROCESS
    try:
        found = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"backends.accelerate_config: {file} cannot be read ({reason})") from None
    processes = found.get("num_processes") if isinstance(found, Mapping) else None
    if not isinstance(processes, int) or processes < 1:
        raise ConfigError(
            f"backends.accelerate_config: {file} has no num_processes of at least 1; write it with "
            "`accelerate config --config_file`"
        )
    return Launch(processes, frozenset(_sharded(found)))


def _sharded(found: Mapping[str, Any]) -> set[str]:
    kind = found.get("distributed_type")
    if kind == "FSDP":
        # Weights that stay gathered after the forward pass are whole when memory is at its fullest.
        reshard = (found.get("fsdp_config") or {}).get("fsdp_reshard_after_forward", True)
        return ZERO_STAGES[3] if reshard is True else ZERO_STAGES[2]
    if kind == "DEEPSPEED":
        stage = (found.get("deepspeed_config") or {}).get("zero_stage", 0)
        return ZERO_STAGES.get(stage, set())
    return set()
