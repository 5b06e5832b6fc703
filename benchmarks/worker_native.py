"""Time the native trainer's rollouts and updates, in one process of the comparison with TRL."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from setting import Setting

from sspo.config.run import RunConfig
from sspo.data.batching import batches
from sspo.data.problems import Record
from sspo.models.torch_setup import set_up_torch
from sspo.rewards.exact import exact_reward
from sspo.training.minibatches import Rollout
from sspo.training.optim import make_optimizer
from sspo.training.setup import load_actors
from sspo.training.trainer import collect_rollout
from sspo.training.update import Actors, prepare, update_policy


def main(setting: Setting, threads: int, rollouts: int, old_logprobs: str) -> None:
    config, problems = setting.config, setting.problems
    config = config.changed(rollout={"old_logprobs": old_logprobs})
    config = config.changed(compute={"threads": threads}, train={"kl_every": 0})
    set_up_torch(config.compute)
    actors = load_actors(config, setting.model, exact_reward)
    seconds, tokens = [], []
    steps = train_steps(config, actors, problems, rollouts)
    for _ in range(rollouts):
        began = time.perf_counter()
        rollout = next(steps)
        seconds.append(time.perf_counter() - began)
        tokens.append(sum(len(c.token_ids) for c in rollout.completions))
    print(json.dumps({"seconds": seconds, "tokens": tokens}))


def train_steps(
    config: RunConfig, actors: Actors, problems: list[Record], count: int
) -> Iterator[Rollout]:
    """Do the first ``count`` steps of a run; yields the rollout of each after its updates."""
    train = config.train
    optimizer = make_optimizer(actors.policy, train.learning_rate, train.betas, train.weight_decay)
    order = batches(len(problems), config.rollout.prompts_per_step, config.seed)
    for step in range(1, count + 1):
        rollout = collect_rollout(config, actors, [problems[i] for i in next(order)], step)
        update_policy(config, actors, optimizer, prepare(config, actors, rollout, step))
        yield rollout


if __name__ == "__main__":
    main(Setting(Path(sys.argv[1]), sys.argv[2]), *map(int, sys.argv[3:5]), sys.argv[5])
