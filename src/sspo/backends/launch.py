"""The processes that `accelerate launch` starts: rank, device, and how the weights are shared out."""

from __future__ import annotations

import os

from accelerate import PartialState
from accelerate.state import AcceleratorState

from sspo.config.errors import ConfigError
from sspo.config.run import RunConfig


def process_place() -> tuple[int, int]:
    """(rank, number of processes) from the launcher's variables; (0, 1) without a launcher."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def join_processes(config: RunConfig) -> None:
    """Join the process group where a launcher started several processes.

    Called before an engine is made, because vLLM needs the group when it starts.
    """
    if process_place()[1] > 1:
        PartialState(cpu=config.compute.device == "cpu")


def shards_are_asked_for() -> bool:
    """Whether the launcher's file asks for FSDP, where each process holds a part of each weight."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def on_local_device(config: RunConfig) -> RunConfig:
    """The run on the device of this process: the processes of a machine take its GPUs in order."""
    if not config.compute.device.startswith("cuda"):
        return config
    device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return config.changed(compute={"device": device})


def check_launch(state: AcceleratorState, config: RunConfig) -> None:
    """Check that processes started with this launcher's file train what the run's config says.

    Raises:
        ConfigError: they would not; names what to change in the file.
    """
    if config.compute.dtype == "float32" and state.mixed_precision != "no":
        found = f"mixed_precision: {state.mixed_precision} beside compute.dtype: float32"
        _refuse(f"{found}; write 'no' there, because the run's config decides")
    if state.deepspeed_plugin is not None and state.deepspeed_plugin.zero_stage == 3:
        _refuse("ZeRO-3 is not supported; shard parameters by FSDP (fsdp_version: 2)")
    fsdp = getattr(state, "fsdp_plugin", None)  # an attribute only where FSDP is used
    if fsdp is None:
        return
    if fsdp.fsdp_version != 2:
        _refuse("FSDP needs fsdp_version: 2")
    if fsdp.cpu_ram_efficient_loading:
        _refuse("every process loads the models itself; set fsdp_cpu_ram_efficient_loading: false")
    if config.lora.rank:
        _refuse("FSDP cannot shard adapters (lora.rank) beside frozen weights; use DDP")


def _refuse(reason: str) -> None:
    raise ConfigError(f"backends.accelerate_config: {reason}")
