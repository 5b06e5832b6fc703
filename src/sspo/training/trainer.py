"""The training loop of every method: sample responses, reward them, compute advantages, update.

It is GRPO's loop (arXiv 2402.03300) with another loss for each method. For all methods alike, it
differs from the textbook in these points:

1) The KL term is off unless ``train.kl_coefficient`` is set.
2) The first update of every rollout has ratio exactly 1, because the policy itself scores the old
   log-probabilities, in the micro-batches of the update. The later updates take those that the engine
   sampled with where they are the policy's (``rollout.old_logprobs``). Where a run asks for the engine's
   whatever they are, the first update takes them, too, and its ratios hold the engine's deviation.
3) Minibatches are whole prompt groups.
4) The gradient of a minibatch does not depend on how it is split into micro-batches.
5) A response with zero advantage counts in every mean of a loss but gets no backward pass, and in later
   updates no forward pass.
6) With ``rollout.lag`` responses wait in a queue, as in asynchronous training: a step updates on
   those that the policy sampled that many updates before.
7) The seed of a response is a hash of run seed, step, problem and sample, not a generator's state.
   Methods with one seed get the same random numbers, and a resumed run repeats its bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from sspo.config.run import RunConfig
from sspo.data.batching import batches, distinct
from sspo.data.problems import Record
from sspo.models.prompts import encode_prompts
from sspo.objectives.advantages import degenerate_groups, group_advantages
from sspo.objectives.losses import check_objective
from sspo.rewards.base import failure_shares, gold_of
from sspo.rollout.engine import Sampling, sample_seed
from sspo.training.checkpoint import CheckpointStore
from sspo.training.errors import TrainingError
from sspo.training.metrics import Metrics, RunLog
from sspo.training.minibatches import Rollout
from sspo.training.optim import make_optimizer
from sspo.training.rollout_queue import restored_queue, saved_queue, steps_behind
from sspo.training.update import Actors, prepare, update_policy


def train(
    config: RunConfig,
    actors: Actors,
    problems: Sequence[Record],
    store: CheckpointStore,
    log: RunLog,
    progress: Callable[[int, Metrics, float], None] = lambda step, record, seconds: None,
) -> None:
    """Train ``actors.policy`` in place for ``config.train.steps`` rollouts.

    Resumes from the newest intact state in ``store``. All randomness depends on the run's seed and
    the step but not on the method, so runs of one seed see the same prompts and random numbers.
    ``progress`` is called after every step with (step, record, seconds of that step).

    Raises:
        ValueError: the objective or its parameters cannot run.
        TrainingError: the engine returned another number of completions than asked for.
        PoisonedUpdateError: a loss or gradient norm is NaN or infinite.
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
    queue = restored_queue(config, actors, extra.get("queue", []))
    for _ in range(start + len(queue)):
        next(order)
    if start == 0:
        log.write("metrics", [{"step": 0, "sampled_tokens": 0, **_validate(actors)}])
    for step in range(start + 1, settings.steps + 1):
        began = time.perf_counter()
        for later in range(step + len(queue), min(step + steps_behind(config), settings.steps) + 1):
            chosen = distinct([problems[i] for i in next(order)])
            rollout = collect_rollout(config, actors, chosen, later)
            queue.append(prepare(config, actors, rollout, later))
        prepared = queue.popleft()
        rollout = prepared.rollout
        sampled_tokens += sum(len(c.token_ids) for c in rollout.completions)
        record: Metrics = {"step": step, "sampled_tokens": sampled_tokens}
        if config.rollout.lag:
            behind = min(step - 1, steps_behind(config))
            record["rollout_age"] = behind * config.updates_per_step
        record |= rollout_metrics(rollout)
        record |= update_policy(config, actors, optimizer, prepared)
        if step % settings.eval_every == 0 or step == settings.steps:
            record |= _validate(actors)
        log.write("metrics", [record])
        log.write("rollouts", kept_rollouts(rollout, step, settings.keep_rollouts))
        if step % settings.checkpoint_every == 0 or step == settings.steps:
            extra = {"sampled_tokens": sampled_tokens, "log": log.mark()}
            if queue:
                extra["queue"] = saved_queue(queue)
            store.save(step, actors.policy, optimizer, extra)
        progress(step, record, time.perf_counter() - began)


def collect_rollout(
    config: RunConfig, actors: Actors, problems: Sequence[Record], step: int
) -> Rollout:
    """Sample ``group_size`` responses to each problem, reward them and compute advantages.

    Raises:
        TrainingError: the engine returned another number of completions than asked for.
    """
    group = config.rollout.group_size
    encoded = encode_prompts(actors.tokenizer, [str(p["prompt"]) for p in problems])
    prompts = [ids for ids in encoded for _ in range(group)]
    rows = [p for p in problems for _ in range(group)]
    seeds = [
        sample_seed("rollout", config.seed, step, p["id"], i % group) for i, p in enumerate(rows)
    ]
    sampling = Sampling(config.rollout.max_response_tokens, config.rollout.temperature, seeds)
    actors.sync_engine()
    completions = actors.engine.generate(prompts, sampling)
    if len(completions) != len(prompts):
        raise TrainingError(f"asked for {len(prompts)} completions, got {len(completions)}")
    pairs = zip(rows, completions, strict=True)
    rewards = [actors.reward(gold_of(p), c) for p, c in pairs]
    values = torch.tensor([r.value for r in rewards]).view(len(problems), group)
    advantages = group_advantages(values, normalize_std=config.advantages.normalize_std)
    return Rollout(
        problems=rows,
        prompts=prompts,
        completions=completions,
        rewards=rewards,
        advantages=advantages.flatten(),
        degenerate=degenerate_groups(values).float().mean().item(),
    )


def rollout_metrics(rollout: Rollout) -> Metrics:
    """Means of reward, response length (tokens), reasons of failure and groups of equal rewards."""
    count = len(rollout.rewards)
    lengths = [len(c.token_ids) for c in rollout.completions]
    return {
        "reward": sum(r.value for r in rollout.rewards) / count,
        **failure_shares(rollout.rewards),
        "response_tokens": sum(lengths) / count,
        "degenerate_groups": rollout.degenerate,
    }


def kept_rollouts(rollout: Rollout, step: int, count: int) -> list[Record]:
    """The first ``count`` responses of a rollout as records that people read."""
    columns = (rollout.problems, rollout.completions, rollout.rewards, rollout.advantages.tolist())
    return [
        {
            "step": step,
            "problem": problem["id"],
            "prompt": problem["prompt"],
            "response": completion.text,
            "reward": reward.value,
            "reason": reward.reason,
            "advantage": advantage,
        }
        for problem, completion, reward, advantage in zip(*columns, strict=True)
    ][:count]


def _validate(actors: Actors) -> Metrics:
    actors.sync_engine()
    return actors.validate()
