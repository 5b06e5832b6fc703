"""From a rollout to new weights: old log-probabilities, minibatches, gradients, optimizer steps.

Two kinds of work are left out. The first update of a rollout finds the policy as it was at rollout time,
so its forward pass also gives the old log-probabilities; later updates take the engine's where they are
the policy's (``rollout.old_logprobs``), and need a pass of their own elsewhere. (Where a run asks for the
engine's whatever they are, all updates take them, the first one too.) Responses with zero
advantage, whose group has equal rewards, count in every mean of a loss but are not differentiated, and
not scored again once they have been.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from sspo.config.run import RunConfig
from sspo.models.policy import ScoreBatch, score
from sspo.models.weights import plain_weights
from sspo.objectives.advantages import mask_off_policy
from sspo.objectives.losses import LOSSES, k3_divergence, token_coefficients
from sspo.rewards.base import RewardFunction
from sspo.rollout.engine import RolloutEngine
from sspo.training.errors import NonFiniteError, TrainingError
from sspo.training.metrics import Metrics, UpdateStats
from sspo.training.minibatches import MicroBatch, Rollout, every_epoch, split_rollout
from sspo.training.optim import apply_update, learning_rate_at


@dataclass(frozen=True)
class Actors:
    """The models and functions that a run works with."""

    policy: PreTrainedModel  # in training
    reference: PreTrainedModel | None  # the frozen initial policy; None without a KL
    engine: RolloutEngine  # samples from the policy
    tokenizer: Any
    reward: RewardFunction
    validate: Callable[[], Metrics]  # held-out accuracy of the weights that the engine holds

    def sync_engine(self) -> None:
        """Give the engine the policy's current weights; all processes of a run call this together."""
        self.engine.load_weights(plain_weights(self.policy))


class PoisonedUpdateError(TrainingError):
    """The loss or the gradient norm of an update is not finite; the policy is as it was before."""

    def __init__(
        self,
        run: str,
        step: int,  # number of the rollout, from 1
        update: int,  # number of the update within the rollout, from 1
        minibatch: list[MicroBatch],  # what the update was computed from
        rollout: Rollout,
        found: str,  # loss and gradient norm
    ) -> None:
        self.step, self.update, self.minibatch, self.found = step, update, minibatch, found
        self.problems = [str(p["id"]) for p in rollout.problems]  # of every row of the rollout
        super().__init__(f"{run}: step {step}, update {update}: {found}; nothing was updated")


LARGEST_GAP = (
    1e-3  # nats between an engine and a policy that share weights and precision; 5e-5 is common
)
SUMS = ("tokens", "entropy", "gap", "largest_gap", "kl_tokens", "kl")  # of what a scorer measures


class Scorer:
    """Scores a rollout's micro-batches, and measures the policy as it was at rollout time."""

    def __init__(
        self,
        config: RunConfig,
        policy: PreTrainedModel,
        reference: PreTrainedModel | None = None,
    ) -> None:
        """The KL is measured against ``reference``, and not at all without one."""
        self.policy, self.reference = policy, reference
        self.options: dict[str, Any] = {
            "temperature": config.rollout.temperature,
            "chunk_tokens": config.train.chunk_tokens,
            "dtype": config.compute.dtype,
        }
        self.from_engine = config.old_logprobs_from == "engine"
        self.always_engine = config.rollout.old_logprobs == "engine"
        same = self.from_engine and not self.always_engine
        self.run, self.largest_allowed = config.run, LARGEST_GAP if same else math.inf
        self.tokens = self.entropy = self.gap = self.largest_gap = 0.0
        self.kl_tokens = self.kl = 0.0

    def score(self, micro: MicroBatch) -> Tensor:
        """Log-probabilities (B, T) under the current policy, with a gradient where one can matter.

        The first call for a micro-batch records its old log-probabilities. So it must come before the
        rollout's first optimizer step.
        """
        with torch.set_grad_enabled(micro.differentiate and torch.is_grad_enabled()):
            logprobs, entropy = self._score_policy(micro.batch)
        if micro.old_logprobs is None:
            micro.old_logprobs = logprobs.detach()
            self._observe(micro, entropy)
            if self.always_engine:
                micro.old_logprobs = micro.engine_logprobs.clone()
        return logprobs

    @torch.no_grad()
    def score_ahead(self, micro: MicroBatch) -> None:
        """Record the old log-probabilities for an update that will find the policy changed."""
        if not self.from_engine:
            self.score(micro)
            return
        # A copy, because a failure saves both and safetensors refuses shared memory.
        micro.old_logprobs = micro.engine_logprobs.clone()
        self._observe_kl(micro)

    @torch.no_grad()
    def score_now(self, minibatch: Sequence[MicroBatch]) -> None:
        """Record the old log-probabilities of a first minibatch that has to wait for its update."""
        for micro in minibatch:
            self.score(micro)
            if self.from_engine:
                micro.old_logprobs = micro.engine_logprobs.clone()

    def _score_policy(self, batch: ScoreBatch) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropy, (B, T) each; a backend may override how they are computed."""
        return score(self.policy, batch, **self.options)

    @torch.no_grad()
    def _observe(self, micro: MicroBatch, entropy: Tensor) -> None:
        mask = micro.batch.mask
        self.tokens += mask.sum().item()
        self.entropy += (entropy * mask).sum().item()
        gaps = ((micro.old_logprobs - micro.engine_logprobs) * mask).abs()
        self.gap += gaps.sum().item()
        self.largest_gap = max(self.largest_gap, gaps.max().item())
        if self.largest_gap > self.largest_allowed:
            raise TrainingError(
                f"{self.run}: rollout.old_logprobs = 'auto': the engine's log-probabilities are up to "
                f"{self.largest_gap:.2g} nats from the policy's, more than {LARGEST_GAP:g}; set it to "
                "policy, and report this as a defect"
            )
        self._observe_kl(micro)

    def _observe_kl(self, micro: MicroBatch) -> None:
        if self.reference is None:
            return
        mask = micro.batch.mask
        micro.reference_logprobs, _ = score(self.reference, micro.batch, **self.options)
        divergence = k3_divergence(micro.old_logprobs, micro.reference_logprobs)
        self.kl_tokens += mask.sum().item()
        self.kl += (divergence * mask).sum().item()

    def summary(self) -> Metrics:
        """Entropy, KL and engine gap of the policy at rollout time, in nats per token.

        The gap is |log pi_old - log pi_engine|: its mean over tokens, and its maximum. All are taken
        over the whole rollout. But with old log-probabilities from the engine, only the responses of
        the first update have an entropy and a gap.
        """
        record: Metrics = {
            "entropy": self.entropy / self.tokens,
            "engine_logprob_gap_mean": self.gap / self.tokens,
            "engine_logprob_gap": self.largest_gap,
        }
        if self.reference is not None:
            record["kl"] = self.kl / self.kl_tokens
        return record


@dataclass(frozen=True)
class Prepared:
    """A rollout that waits for its updates, with what the policy that sampled it says of it."""

    step: int  # whose updates it is for
    rollout: Rollout
    minibatches: list[list[MicroBatch]]
    scorer: Scorer


def prepare(config: RunConfig, actors: Actors, rollout: Rollout, step: int) -> Prepared:
    """Record the old log-probabilities while the policy is the one that sampled.

    The first minibatch is left to its own update, which finds this policy, unless the rollout has to
    wait (``rollout.lag``).
    """
    minibatches = split_rollout(config, rollout, actors.policy.device)
    scorer = Scorer(config, actors.policy, kl_reference(config, actors, step))
    if config.rollout.lag:
        scorer.score_now(minibatches[0])
    for micro in (m for minibatch in minibatches[1:] for m in minibatch):
        scorer.score_ahead(micro)
    return Prepared(step, rollout, minibatches, scorer)


def update_policy(
    config: RunConfig, actors: Actors, optimizer: torch.optim.Optimizer, prepared: Prepared
) -> Metrics:
    """Do the rollout's ``updates_per_rollout`` optimizer steps, each on its own prompts, in every epoch.

    Raises:
        PoisonedUpdateError: a loss or gradient norm is NaN or infinite.
    """
    train, rollout, step = config.train, prepared.rollout, prepared.step
    minibatches, scorer = prepared.minibatches, prepared.scorer
    stats, norms, losses = UpdateStats(), [], []
    updates = len(minibatches) * train.epochs
    for index, minibatch in enumerate(every_epoch(config, rollout, minibatches, step)):
        losses.append(accumulate_gradient(config, scorer, minibatch, stats))
        update = (step - 1) * updates + index
        rate = learning_rate_at(update, train.learning_rate, train.warmup_updates)
        try:
            norm = apply_update(actors.policy, optimizer, rate, train.max_grad_norm, losses[-1])
        except NonFiniteError as error:
            place = (config.run, step, index + 1)
            raise PoisonedUpdateError(*place, minibatch, rollout, str(error)) from None
        norms.append(norm)
    return update_metrics(scorer, losses, norms, rate, stats)


def update_metrics(
    scorer: Scorer, losses: list[float], norms: list[float], rate: float, stats: UpdateStats
) -> Metrics:
    """The record of a step's updates; loss and gradient norm are means over the updates."""
    return {
        **scorer.summary(),
        "loss": sum(losses) / len(losses),
        "grad_norm": sum(norms) / len(norms),
        "grad_norm_max": max(norms),
        "learning_rate": rate,
        **stats.summary(),
    }


def kl_reference(config: RunConfig, actors: Actors, step: int) -> PreTrainedModel | None:
    """The reference of this step's KL; None where the KL is neither in the loss nor due to be measured."""
    every = config.train.kl_every
    due = config.train.kl_coefficient > 0.0 or (every > 0 and step % every == 0)
    return actors.reference if due else None


def accumulate_gradient(
    config: RunConfig, scorer: Scorer, minibatch: Sequence[MicroBatch], stats: UpdateStats
) -> float:
    """Add the gradient of the minibatch's loss to the policy; returns that loss.

    A micro-batch is weighted by the sequences it holds (by the tokens, if the objective is a mean
    over tokens). So the sum over micro-batches is the loss of the whole minibatch.
    """
    objective = LOSSES[config.objective.name]
    counts = [objective.units(micro.batch.mask) for micro in minibatch]
    rows = sum(len(micro.advantages) for micro in minibatch)
    total = 0.0
    for micro, count in zip(minibatch, counts, strict=True):
        if micro.old_logprobs is not None and not micro.differentiate:
            continue  # its part of the loss and of the gradient is 0
        logprobs = scorer.score(micro)
        loss, grad = response_gradient(config, logprobs, micro, count / sum(counts), rows, stats)
        total += loss
        if micro.differentiate:
            logprobs.backward(grad)
    for parameter in scorer.policy.parameters():
        if parameter.requires_grad and parameter.grad is None:
            # No row was differentiated. AdamW skips a missing gradient, but its state has to advance.
            parameter.grad = torch.zeros_like(parameter)
    return total


def response_gradient(
    config: RunConfig,
    logprobs: Tensor,
    micro: MicroBatch,
    weight: float,
    rows: int,
    stats: UpdateStats,
) -> tuple[float, Tensor]:
    """A micro-batch's part of an update's loss, and the gradient of it by the log-probabilities.

    Args:
        config: the run.
        logprobs: (B, T) under the current policy, with a gradient where ``micro.differentiate``.
        micro: the micro-batch, whose old log-probabilities are known.
        weight: its share of the update's sequences or tokens, whichever the objective averages over.
        rows: number of responses in the whole update.
        stats: receives the statistics of the loss.

    Returns:
        The part of the loss, and its gradient (B, T).
    """
    mask = micro.batch.mask
    objective = LOSSES[config.objective.name]
    threshold, sampled = config.train.off_policy_threshold, micro.engine_logprobs
    advantages = mask_off_policy(micro.advantages, logprobs, sampled, mask, threshold)
    inputs = (micro.old_logprobs, advantages, mask)
    loss, loss_stats = objective(logprobs, *inputs, **config.objective.params)
    if threshold is not None:
        loss_stats["off_policy"] = (advantages != micro.advantages).float()
    total = loss.item() * weight
    if micro.differentiate:
        (grad,) = torch.autograd.grad(loss * weight, logprobs)
    else:
        grad = torch.zeros_like(logprobs)
    coefficients = token_coefficients(grad * rows, micro.advantages, mask)
    if config.rollout.correction != "none":
        weights = engine_weights(config, micro)
        grad = grad * weights
        if config.rollout.correction.endswith("_mask"):
            dropped = ((weights == 0.0) * mask).sum(dim=1)
            loss_stats["dropped"] = dropped / mask.sum(dim=1).clamp(min=1.0)
    stats.add(loss_stats, coefficients, micro.advantages, mask)
    if config.train.kl_coefficient > 0.0:
        penalty = config.train.kl_coefficient * _sequence_kl(logprobs, micro) / rows
        grad = grad + torch.autograd.grad(penalty, logprobs)[0]
        total += penalty.item()
    return total, grad


def engine_weights(config: RunConfig, micro: MicroBatch) -> Tensor:
    """Importance weights that correct for the engine's probabilities differing from the policy's.

    w = pi_old / pi_engine of every token, or of the whole response. Beyond the cap, w becomes the cap, or
    0 with ``_mask``: this token or response is dropped. The weights multiply the gradient as constants.
    For an objective that is a sum over tokens, this is the gradient of the weighted loss. [ours, after
    the corrections of TRL and verl]

    Returns:
        (B, T), or (B, 1) where whole responses are weighed.
    """
    level, _, mask = config.rollout.correction.partition("_")
    gap = (micro.old_logprobs - micro.engine_logprobs) * micro.batch.mask
    if level == "sequence":
        gap = gap.sum(dim=1, keepdim=True)
    cap = math.log(config.rollout.correction_cap)
    weights = gap.clamp(max=cap).exp()
    return weights.masked_fill(gap > cap, 0.0) if mask else weights


def _sequence_kl(logprobs: Tensor, micro: MicroBatch) -> Tensor:
    """Sum over responses of the mean k3 divergence per token (the KL term of GRPO, arXiv 2402.03300)."""
    mask = micro.batch.mask
    divergence = k3_divergence(logprobs, micro.reference_logprobs) * mask
    return (divergence.sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)).sum()
