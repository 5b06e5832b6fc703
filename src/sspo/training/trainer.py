"""The one training loop of every method: rollout -> reward -> advantage -> updates.

Deviations from the textbook GRPO loop, all methods alike:

- old log-probabilities are recomputed by the policy itself, micro-batch by micro-batch as in the
  update, so that the first update of every rollout has ratio exactly 1;
- minibatches are whole prompt groups;
- a minibatch's gradient does not depend on how it is split into micro-batches;
- no KL term unless ``kl_coefficient`` is set.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from sspo.config.settings import RunConfig
from sspo.data.batching import batches, distinct
from sspo.data.problems import Record
from sspo.objectives.advantages import degenerate_groups, group_advantages
from sspo.objectives.losses import check_objective
from sspo.rewards.base import failure_shares
from sspo.rollout.engine import Sampling, sample_seed
from sspo.training.checkpoint import CheckpointStore
from sspo.training.errors import TrainingError
from sspo.training.metrics import Metrics, RunLog
from sspo.training.optim import make_optimizer
from sspo.training.update import Actors, Rollout, update_policy


def train(
    config: RunConfig,
    actors: Actors,
    problems: Sequence[Record],
    store: CheckpointStore,
    log: RunLog,
    progress: Callable[[int, Metrics, float], None] = lambda step, record, seconds: None,
) -> None:
    """Train ``actors.policy`` in place for ``config.train.steps`` rollouts.

    Resumes from the newest intact state in ``store``. Everything random is a function of the run's
    seed and the step, and none of the method: runs of one seed see the same prompts and the same
    random numbers whatever their objective.

    Args:
        config: the run.
        actors: policy, reference, engine, tokenizer, reward, validation.
        problems: training problems with ``prompt`` and ``answer``.
        store: saved states to resume from.
        log: where records of steps and sampled responses go.
        progress: called after every step with (step, record, seconds of that step).

    Raises:
        ValueError: objective or parameters that cannot run.
        PoisonedUpdateError: non-finite loss or gradient.
    """
    check_objective(config.objective.name, config.objective.params)
    settings = config.train
    optimizer = make_optimizer(
        actors.policy, settings.learning_rate, settings.betas, settings.weight_decay
    )
    start, extra = store.restore(
        actors.policy, optimizer, usable=lambda extra: log.holds(extra.get("log"))
    )
    log.rewind(extra.get("log"))
    sampled_tokens = int(extra.get("sampled_tokens", 0))
    order = batches(len(problems), config.rollout.prompts_per_step, config.seed)
    for _ in range(start):
        next(order)
    if start == 0:
        log.write("metrics", [{"step": 0, "sampled_tokens": 0, **_validate(actors)}])
    for step in range(start + 1, settings.steps + 1):
        began = time.perf_counter()
        chosen = distinct([problems[i] for i in next(order)])
        rollout = collect_rollout(config, actors, chosen, step)
        sampled_tokens += sum(len(c.token_ids) for c in rollout.completions)
        record: Metrics = {"step": step, "sampled_tokens": sampled_tokens}
        record |= rollout_metrics(rollout)
        record |= update_policy(config, actors, optimizer, rollout, step)
        if step % settings.eval_every == 0 or step == settings.steps:
            record |= _validate(actors)
        log.write("metrics", [record])
        log.write("rollouts", kept_rollouts(rollout, step, settings.keep_rollouts))
        if step % settings.checkpoint_every == 0 or step == settings.steps:
            extra = {"sampled_tokens": sampled_tokens, "log": log.mark()}
            store.save(step, actors.policy, optimizer, extra)
        progress(step, record, time.perf_counter() - began)


def collect_rollout(
    config: RunConfig, actors: Actors, problems: Sequence[Record], step: int
) -> Rollout:
    """Sample ``group_size`` responses to each problem, reward them, compute advantages."""
    group = config.rollout.group_size
    encoded = actors.tokenizer([str(p["prompt"]) for p in problems])["input_ids"]
    prompts = [ids for ids in encoded for _ in range(group)]
    seeds = [
        sample_seed("rollout", config.seed, step, p["id"], j)
        for p in problems
        for j in range(group)
    ]
    sampling = Sampling(config.rollout.max_response_tokens, config.rollout.temperature, seeds)
    actors.sync_engine()
    completions = actors.engine.generate(prompts, sampling)
    if len(completions) != len(prompts):
        raise TrainingError(f"asked for {len(prompts)} completions, got {len(completions)}")
    answers = [str(p["answer"]) for p in problems for _ in range(group)]
    rewards = [actors.reward(a, c) for a, c in zip(answers, completions, strict=True)]
    values = torch.tensor([r.value for r in rewards]).view(len(problems), group)
    advantages = group_advantages(values, normalize_std=config.advantages.normalize_std)
    return Rollout(
        problems=list(problems),
        prompts=prompts,
        completions=completions,
        rewards=rewards,
        advantages=advantages.flatten(),
        degenerate=degenerate_groups(values).float().mean().item(),
    )


def rollout_metrics(rollout: Rollout) -> Metrics:
    """Reward, why responses failed, response length (tokens) and groups that taught nothing."""
    count = len(rollout.rewards)
    lengths = [len(c.token_ids) for c in rollout.completions]
    return {
        "reward": sum(r.value for r in rollout.rewards) / count,
        **failure_shares(rollout.rewards),
        "response_tokens": sum(lengths) / count,
        "degenerate_groups": rollout.degenerate,
    }


def kept_rollouts(rollout: Rollout, step: int, count: int) -> list[Record]:
    """The first ``count`` responses of a rollout, for reading."""
    group = len(rollout.completions) // len(rollout.problems)
    return [
        {
            "step": step,
            "problem": rollout.problems[i // group]["id"],
            "prompt": rollout.problems[i // group]["prompt"],
            "response": rollout.completions[i].text,
            "reward": rollout.rewards[i].value,
            "reason": rollout.rewards[i].reason,
            "advantage": rollout.advantages[i].item(),
        }
        for i in range(min(count, len(rollout.completions)))
    ]


def _validate(actors: Actors) -> Metrics:
    actors.sync_engine()
    return actors.validate()
