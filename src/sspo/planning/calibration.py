"""One measured step of a run, from which ``sspo.planning.jobs`` computes hours.

The step is the training loop's own: one rollout, then the run's updates on it, with its micro-batches.
The cost is asked for before there is anything to load, so a freshly initialised model will do: speed per
token hardly depends on the weights. Every response gets a non-zero advantage, the most expensive case.
"""

from __future__ import annotations

import dataclasses
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from sspo.config.reading import parse
from sspo.config.run import PretrainConfig, RunConfig
from sspo.config.study import TaskDataConfig
from sspo.data.problems import Record, read_problems
from sspo.data.tasks import make_splits
from sspo.models.policy import build_model, save_model
from sspo.models.tokenizer import make_tokenizer
from sspo.models.torch_setup import set_up_torch
from sspo.planning.cost import Cost
from sspo.planning.jobs import Rates
from sspo.rewards.factory import make_reward
from sspo.training.optim import make_optimizer
from sspo.training.setup import load_actors
from sspo.training.trainer import collect_rollout
from sspo.training.update import Actors, prepare, update_policy

MOST_RESPONSES = 256  # of the measured step
PROBLEMS = 256  # made where there are none yet


def calibrate(cost: Cost) -> Rates:
    """Rates of a step of the first run, from its base model and on its problems where they are here."""
    run = parse(RunConfig, cost.first_run.config)
    set_up_torch(run.compute)
    with _base_model(cost) as folder:
        return measure_step(run, folder, _problems(cost), bool(cost.weights))


def measure_step(run: RunConfig, folder: Path, problems: list[Record], learned: bool) -> Rates:
    """Rates of one step of a run from the checkpoint in a folder, which has ``learned`` or is new.

    Problems are repeated where they are too few.
    """
    config = shortened(run)
    actors = load_actors(config, folder, make_reward(config.reward))
    start_seconds = time.process_time()  # another process at work costs nothing
    train, size = config.train, config.rollout.prompts_per_step
    optimizer = make_optimizer(actors.policy, train.learning_rate, train.betas, train.weight_decay)
    chosen = [dict(problems[i % len(problems)], id=f"problem-{i}") for i in range(size)]
    _step(_resized(run, 1, 1), actors, optimizer, chosen[:1])  # what happens once is not measured
    sampled, trained, tokens = _step(config, actors, optimizer, chosen)
    actors.engine.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # the kernel counts kilobytes
    if config.compute.device.startswith("cuda"):
        peak = torch.cuda.max_memory_allocated(config.compute.device)
    return Rates(
        sampled_per_second=tokens / sampled,
        trained_per_second=tokens * config.train.epochs / trained,
        start_seconds=start_seconds,
        response_tokens=tokens / (size * config.rollout.group_size),
        learned=learned,
        parameters=actors.policy.num_parameters(),
        memory_gib=peak / 2**30,
    )


def shortened(run: RunConfig) -> RunConfig:
    """The run with a rollout of at most ``MOST_RESPONSES`` responses (or one prompt per update).

    One update of the same size where possible; two where a rollout has several, because only those
    after the first need a scoring pass of their own.
    """
    size, updates = run.rollout.prompts_per_step, run.train.updates_per_rollout
    most = max(1, MOST_RESPONSES // run.rollout.group_size)
    if size <= most:
        return _resized(run, size, updates)
    share = size // updates
    updates = min(updates, max(2, most // share))
    return _resized(run, updates * max(1, min(share, most // updates)), updates)


def _resized(run: RunConfig, prompts: int, updates: int) -> RunConfig:
    return run.changed(
        rollout={"prompts_per_step": prompts, "lag": 0}, train={"updates_per_rollout": updates}
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
    signed = dataclasses.replace(rollout, advantages=signs)
    update_policy(config, actors, optimizer, prepare(config, actors, signed, 1))
    tokens = sum(len(c.token_ids) for c in rollout.completions)
    return between - began, _now(config) - between, tokens


def _now(config: RunConfig) -> float:
    """Seconds, once the device has done what it was asked to.

    On a CPU they are the main thread's processor time, as other work on the machine is not the run's; it
    does all the work there, or as much as any other thread. vLLM works in processes of its own.
    """
    if config.compute.device.startswith("cuda"):
        torch.cuda.synchronize(config.compute.device)
    elif config.rollout.engine == "torch":
        return time.thread_time()
    return time.perf_counter()


@contextmanager
def _base_model(cost: Cost) -> Iterator[Path]:
    """The folder of the first run's base model, or of a new one of its size."""
    if cost.weights:
        yield cost.weights
        return
    config = parse(PretrainConfig, cost.configs[cost.first_run.base])
    tokenizer = make_tokenizer(config, [])
    with tempfile.TemporaryDirectory() as folder:
        save_model(build_model(config.model, len(tokenizer), config.seed), tokenizer, folder)
        yield Path(folder)


def _problems(cost: Cost) -> list[Record]:
    """The first run's training problems where they are made already, else some like them."""
    if cost.problems.is_file():
        return read_problems(cost.problems)
    task = parse(TaskDataConfig, cost.configs[cost.data])
    split = task.splits["train"].changed(size=PROBLEMS)
    return make_splits(task.name, {"train": split}, task.style, 0)["train"]
