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
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from sspo.advantages import degenerate_groups, group_advantages
from sspo.checkpoint import CheckpointStore
from sspo.config import RunConfig
from sspo.datasets import Record, batches, micro_batches
from sspo.losses import LOSSES, check_objective, k3_divergence, token_coefficients
from sspo.metrics import Metrics, RunLog, UpdateStats
from sspo.optim import apply_update, learning_rate_at, make_optimizer
from sspo.policy import ScoreBatch, score
from sspo.rewards import Reward, failure_shares
from sspo.rollout import Completion, RolloutEngine, Sampling, sample_seed


class TrainingError(RuntimeError):
    """Training cannot go on; the message names run, step and what was found."""


@dataclass(frozen=True)
class Actors:
    """The moving parts of a run.

    Attributes:
        policy: the model in training.
        reference: the frozen initial policy for the KL, or None when no KL is asked for.
        engine: samples from the policy.
        tokenizer: the policy's.
        reward: (gold answer, completion) -> Reward.
        validate: measures held-out accuracy of the engine's current policy.
    """

    policy: PreTrainedModel
    reference: PreTrainedModel | None
    engine: RolloutEngine
    tokenizer: object
    reward: Callable[[str, Completion], Reward]
    validate: Callable[[], Metrics]


@dataclass(frozen=True)
class Rollout:
    """Responses to P prompts, G each, flattened prompt by prompt to N = P G rows."""

    problems: list[Record]
    prompts: list[list[int]]
    completions: list[Completion]
    rewards: list[Reward]
    advantages: Tensor
    degenerate: float


@dataclass
class MicroBatch:
    """Rows that go through the model together; ``old_logprobs`` (B, T) from the rollout policy."""

    batch: ScoreBatch
    advantages: Tensor
    engine_logprobs: Tensor
    old_logprobs: Tensor | None = None
    reference_logprobs: Tensor | None = None


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
        TrainingError: non-finite loss or gradient.
    """
    check_objective(config.objective.name, config.objective.params)
    settings = config.train
    optimizer = make_optimizer(
        actors.policy, settings.learning_rate, settings.betas, settings.weight_decay
    )
    start, extra = store.restore(actors.policy, optimizer)
    log.rewind(start or None)
    sampled_tokens = int(extra.get("sampled_tokens", 0))
    order = batches(len(problems), config.rollout.prompts_per_step, config.seed)
    for _ in range(start):
        next(order)
    if start == 0:
        log.write("metrics", [{"step": 0, "sampled_tokens": 0, **_validate(actors)}])
    for step in range(start + 1, settings.steps + 1):
        began = time.perf_counter()
        chosen = [problems[i] for i in next(order)]
        rollout = collect_rollout(config, actors, chosen, step)
        sampled_tokens += sum(len(c.token_ids) for c in rollout.completions)
        record: Metrics = {"step": step, "sampled_tokens": sampled_tokens}
        record |= rollout_metrics(rollout)
        record |= update_policy(config, actors, optimizer, rollout, step)
        if step % settings.eval_every == 0 or step == settings.steps:
            record |= _validate(actors)
        log.write("metrics", [record])
        log.write("rollouts", _kept_rollouts(rollout, step, settings.keep_rollouts))
        if step % settings.checkpoint_every == 0 or step == settings.steps:
            store.save(step, actors.policy, optimizer, {"sampled_tokens": sampled_tokens})
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
    actors.engine.load_weights(actors.policy.state_dict())
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


def update_policy(
    config: RunConfig,
    actors: Actors,
    optimizer: torch.optim.Optimizer,
    rollout: Rollout,
    step: int,
) -> Metrics:
    """The rollout's ``updates_per_rollout`` optimizer steps, each on its own prompts.

    Raises:
        TrainingError: non-finite loss or gradient norm.
    """
    settings = config.train
    minibatches = split_rollout(config, rollout, actors.policy.device)
    measure_kl = actors.reference is not None and (
        settings.kl_coefficient > 0.0 or step % settings.kl_every == 0
    )
    record = score_rollout(config, actors, minibatches, measure_kl)
    stats, norms, losses = UpdateStats(), [], []
    for index, minibatch in enumerate(minibatches):
        losses.append(accumulate_gradient(config, actors.policy, minibatch, stats))
        rate = learning_rate_at(
            (step - 1) * len(minibatches) + index,
            settings.learning_rate,
            settings.warmup_updates,
            0,
        )
        norms.append(apply_update(actors.policy, optimizer, rate, settings.max_grad_norm))
        if not torch.isfinite(torch.tensor([losses[-1], norms[-1]])).all():
            raise TrainingError(
                f"{config.run}: step {step}, update {index + 1}: loss {losses[-1]}, gradient norm "
                f"{norms[-1]}; lower train.learning_rate or look at rollouts.jsonl of this step"
            )
    record["loss"] = sum(losses) / len(losses)
    record["grad_norm"] = sum(norms) / len(norms)
    record["grad_norm_max"] = max(norms)
    record["learning_rate"] = rate
    return record | stats.summary()


def split_rollout(
    config: RunConfig, rollout: Rollout, device: torch.device
) -> list[list[MicroBatch]]:
    """Equal minibatches of whole prompt groups, each in micro-batches of similar length."""
    total = len(rollout.completions)
    size = total // config.train.updates_per_rollout
    responses = [c.token_ids for c in rollout.completions]
    lengths = [len(p) + len(r) for p, r in zip(rollout.prompts, responses, strict=True)]
    minibatches = []
    for first in range(0, total, size):
        groups = micro_batches(lengths[first : first + size], config.train.micro_batch)
        minibatches.append(
            [_micro_batch(rollout, responses, [first + i for i in g], device) for g in groups]
        )
    return minibatches


@torch.no_grad()
def score_rollout(
    config: RunConfig, actors: Actors, minibatches: Sequence[Sequence[MicroBatch]], measure_kl: bool
) -> Metrics:
    """Fill in old (and reference) log-probabilities; entropy, KL (nats per token), engine gap."""
    sums = dict.fromkeys(("tokens", "entropy", "kl"), 0.0)
    gap = 0.0
    options = {"temperature": config.rollout.temperature, "chunk_tokens": config.train.chunk_tokens}
    for micro in (m for minibatch in minibatches for m in minibatch):
        micro.old_logprobs, entropy = score(actors.policy, micro.batch, **options)
        mask = micro.batch.mask
        sums["tokens"] += mask.sum().item()
        sums["entropy"] += (entropy * mask).sum().item()
        gap = max(gap, ((micro.old_logprobs - micro.engine_logprobs) * mask).abs().max().item())
        if measure_kl:
            micro.reference_logprobs, _ = score(actors.reference, micro.batch, **options)
            divergence = k3_divergence(micro.old_logprobs, micro.reference_logprobs)
            sums["kl"] += (divergence * mask).sum().item()
    record: Metrics = {"entropy": sums["entropy"] / sums["tokens"], "engine_logprob_gap": gap}
    if measure_kl:
        record["kl"] = sums["kl"] / sums["tokens"]
    return record


def accumulate_gradient(
    config: RunConfig, policy: PreTrainedModel, minibatch: Sequence[MicroBatch], stats: UpdateStats
) -> float:
    """Add the gradient of the minibatch's loss to the policy; returns that loss.

    A micro-batch weighs as many sequences (or tokens, for token-mean objectives) as it holds, so
    that the sum is the loss of the whole minibatch.
    """
    objective = LOSSES[config.objective.name]
    counts = [_units(micro, objective.unit) for micro in minibatch]
    rows = sum(len(micro.advantages) for micro in minibatch)
    total = 0.0
    for micro, count in zip(minibatch, counts, strict=True):
        batch, weight = micro.batch, count / sum(counts)
        logprobs, _ = score(
            policy,
            batch,
            temperature=config.rollout.temperature,
            chunk_tokens=config.train.chunk_tokens,
        )
        inputs = (micro.old_logprobs, micro.advantages, batch.mask)
        loss, loss_stats = objective(logprobs, *inputs, **config.objective.params)
        (grad,) = torch.autograd.grad(loss * weight, logprobs)
        coefficients = token_coefficients(grad * rows, micro.advantages, batch.mask)
        stats.add(loss_stats, coefficients, micro.advantages, batch.mask)
        if config.train.kl_coefficient > 0.0:
            penalty = config.train.kl_coefficient * _sequence_kl(logprobs, micro) / rows
            grad = grad + torch.autograd.grad(penalty, logprobs)[0]
            total += penalty.item()
        logprobs.backward(grad)
        total += loss.item() * weight
    return total


def _sequence_kl(logprobs: Tensor, micro: MicroBatch) -> Tensor:
    """Sum over responses of the mean k3 divergence per token (GRPO's KL term)."""
    mask = micro.batch.mask
    divergence = k3_divergence(logprobs, micro.reference_logprobs) * mask
    return (divergence.sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)).sum()


def _units(micro: MicroBatch, unit: str) -> float:
    return micro.batch.mask.sum().item() if unit == "token" else float(len(micro.advantages))


def _micro_batch(
    rollout: Rollout, responses: list[list[int]], rows: list[int], device: torch.device
) -> MicroBatch:
    batch = ScoreBatch.collate(
        [rollout.prompts[i] for i in rows], [responses[i] for i in rows], device
    )
    scores = [torch.tensor(rollout.completions[i].logprobs) for i in rows]
    padded = torch.nn.utils.rnn.pad_sequence(scores, batch_first=True)
    return MicroBatch(batch, rollout.advantages[rows].to(device), padded.to(device))


def _validate(actors: Actors) -> Metrics:
    actors.engine.load_weights(actors.policy.state_dict())
    return actors.validate()


def _kept_rollouts(rollout: Rollout, step: int, count: int) -> list[Record]:
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
