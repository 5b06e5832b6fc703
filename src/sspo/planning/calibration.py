"""One measured step of a run, from which ``sspo.planning.jobs`` computes hours.

The step is the training loop's own: one rollout, then the run's updates on it, with its micro-batches.
A plan is made before there is anything to load, so a freshly initialised model will do: speed
per token hardly depends on the weights. Every response is made to teach, as the costliest case.

On a CPU the main thread's processor time counts, as other work on the machine is not the run's.
"""

from __future__ import annotations

import dataclasses
import resource
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from sspo.config.settings import RunConfig
from sspo.data.problems import Record
from sspo.planning.jobs import Rates
from sspo.rewards.factory import make_reward
from sspo.training.optim import make_optimizer
from sspo.training.setup import load_actors
from sspo.training.trainer import collect_rollout
from sspo.training.update import Actors, update_policy

MOST_RESPONSES = 256  # of the measured step
MEMORY_UNIT = 2**20  # GiB in the kilobytes that the kernel counts


def shortened(config: RunConfig) -> RunConfig:
    """The run with a rollout of at most ``MOST_RESPONSES`` responses (or one prompt per update).

    One update of the same size where possible; two where a rollout has several, because only those
    after the first need a scoring pass of their own.
    """
    rollout, train = config.rollout, config.train
    prompts = max(1, MOST_RESPONSES // rollout.group_size)
    if rollout.prompts_per_step <= prompts:
        return config
    share = rollout.prompts_per_step // train.updates_per_rollout
    updates = min(train.updates_per_rollout, max(2, prompts // share))
    share = max(1, min(share, prompts // updates))
    return config.changed(
        rollout={"prompts_per_step": share * updates}, train={"updates_per_rollout": updates}
    )


def measure_step(
    config: RunConfig, folder: str | Path, problems: Sequence[Record], learned: bool
) -> Rates:
    """Rates of one step of a run.

    Args:
        config: the run.
        folder: checkpoint to start from.
        problems: training problems; repeated where they are too few.
        learned: whether the checkpoint has been trained before.
    """
    config = shortened(config)
    actors = load_actors(config, folder, make_reward(config.reward))
    start_seconds = time.process_time()  # of processor time: another process at work costs nothing
    optimizer = make_optimizer(
        actors.policy, config.train.learning_rate, config.train.betas, config.train.weight_decay
    )
    size = config.rollout.prompts_per_step
    chosen = [dict(problems[i % len(problems)], id=f"problem-{i}") for i in range(size)]
    first = config.changed(rollout={"prompts_per_step": 1}, train={"updates_per_rollout": 1})
    _step(first, actors, optimizer, chosen[:1])  # what happens once only is not measured
    began = time.perf_counter()
    sampled, trained, tokens = _step(config, actors, optimizer, chosen)
    elapsed = time.perf_counter() - began
    actors.engine.close()
    return Rates(
        sampled_per_second=tokens / sampled,
        trained_per_second=tokens / trained,
        start_seconds=start_seconds,
        response_tokens=tokens / (size * config.rollout.group_size),
        slowdown=elapsed / (sampled + trained),
        learned=learned,
        parameters=actors.policy.num_parameters(),
        memory_gib=_peak_gib(config.compute.device),
    )


def _step(
    config: RunConfig, actors: Actors, optimizer: torch.optim.Optimizer, problems: list[Record]
) -> tuple[float, float, int]:
    """Seconds of sampling and of updating, and tokens of the responses."""
    began = _now(config)
    rollout = collect_rollout(config, actors, problems, 1)
    between = _now(config)
    signs = torch.ones_like(rollout.advantages)
    signs[1::2] = -1.0
    rollout = dataclasses.replace(rollout, advantages=signs)
    update_policy(config, actors, optimizer, rollout, 1)
    tokens = sum(len(c.token_ids) for c in rollout.completions)
    return between - began, _now(config) - between, tokens


def _now(config: RunConfig) -> float:
    """Seconds, once the device has done what it was asked to.

    Of the main thread's processor time where that does all the work (or as much as any other thread).
    """
    device = config.compute.device
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.thread_time() if config.rollout.engine == "torch" else time.perf_counter()


def _peak_gib(device: str) -> float:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MEMORY_UNIT
