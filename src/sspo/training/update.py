"""From a rollout to new weights: old log-probabilities, minibatches, gradients, optimizer steps.

Work that cannot change a result is not done: the first update of a rollout finds the policy as it was
at rollout time, so its forward pass also gives its old log-probabilities; and responses of groups
with equal rewards, whose advantage is zero, keep their place in every mean but are not
differentiated. The other updates' old log-probabilities take a forward pass of their own, or are the
engine's (``rollout.old_logprobs``), which differ by how the engine computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from sspo.config.settings import RunConfig
from sspo.data.batching import micro_batches
from sspo.data.problems import Record
from sspo.models.policy import ScoreBatch, score
from sspo.models.weights import plain_weights
from sspo.objectives.losses import LOSSES, k3_divergence, token_coefficients
from sspo.rewards.base import Reward
from sspo.rollout.engine import Completion, RolloutEngine
from sspo.training.errors import NonFiniteError, TrainingError
from sspo.training.metrics import Metrics, UpdateStats
from sspo.training.optim import apply_update, learning_rate_at


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
    tokenizer: Any
    reward: Callable[[str, Completion], Reward]
    validate: Callable[[], Metrics]

    def sync_engine(self) -> None:
        """Let the engine sample from the policy as it stands; every process calls this together."""
        self.engine.load_weights(plain_weights(self.policy))


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
    """Rows that go through the model together.

    Attributes:
        batch: B responses of up to T tokens.
        advantages: (B,).
        engine_logprobs: (B, T) log-probabilities as the engine sampled.
        differentiate: False when no row can contribute to the gradient.
        rows: their places in the rollout.
        old_logprobs: (B, T) under the policy at rollout time, once known.
        reference_logprobs: (B, T) under the reference, when a KL is asked for.
    """

    batch: ScoreBatch
    advantages: Tensor
    engine_logprobs: Tensor
    differentiate: bool
    rows: Sequence[int]
    old_logprobs: Tensor | None = None
    reference_logprobs: Tensor | None = None


class PoisonedUpdateError(TrainingError):
    """A minibatch of non-finite loss or gradient, met before it could change the policy.

    Attributes:
        step: the rollout.
        update: which of its updates, from 1.
        minibatch: what the update was computed from.
        problems: id of the problem of every row of the rollout.
        found: loss and gradient norm, as text.
    """

    def __init__(
        self,
        run: str,
        step: int,
        update: int,
        minibatch: list[MicroBatch],
        rollout: Rollout,
        found: str,
    ) -> None:
        group = len(rollout.completions) // len(rollout.problems)
        self.step, self.update, self.minibatch, self.found = step, update, minibatch, found
        self.problems = [str(p["id"]) for p in rollout.problems for _ in range(group)]
        super().__init__(f"{run}: step {step}, update {update}: {found}; nothing was updated")


class Scorer:
    """Log-probabilities under the policy at rollout time, and what they say of the whole rollout."""

    def __init__(
        self,
        config: RunConfig,
        policy: PreTrainedModel,
        reference: PreTrainedModel | None = None,
    ) -> None:
        """``reference`` is what the KL is measured against, if it is to be measured."""
        self.policy, self.reference = policy, reference
        self.options: dict[str, Any] = {
            "temperature": config.rollout.temperature,
            "chunk_tokens": config.train.chunk_tokens,
            "dtype": config.compute.dtype,
        }
        self.from_engine = config.rollout.old_logprobs == "engine"
        self.tokens = self.entropy = self.gap = self.largest_gap = 0.0
        self.kl_tokens = self.kl = 0.0

    def score(self, micro: MicroBatch) -> Tensor:
        """Log-probabilities (B, T) under the current policy, with gradient where one can matter.

        The first call for a micro-batch must come before the rollout's first optimizer step: it
        records the old log-probabilities.
        """
        with torch.set_grad_enabled(micro.differentiate and torch.is_grad_enabled()):
            logprobs, entropy = self._score_policy(micro.batch)
        if micro.old_logprobs is None:
            micro.old_logprobs = logprobs.detach()
            self._observe(micro, entropy)
        return logprobs

    @torch.no_grad()
    def score_ahead(self, micro: MicroBatch) -> None:
        """Old log-probabilities for an update that will find the policy changed."""
        if not self.from_engine:
            self.score(micro)
            return
        micro.old_logprobs = micro.engine_logprobs.clone()  # a failure saves both
        self._observe_kl(micro)

    def _score_policy(self, batch: ScoreBatch) -> tuple[Tensor, Tensor]:
        """Log-probabilities and entropy (B, T); a backend may go through the model another way."""
        return score(self.policy, batch, **self.options)

    @torch.no_grad()
    def _observe(self, micro: MicroBatch, entropy: Tensor) -> None:
        mask = micro.batch.mask
        self.tokens += mask.sum().item()
        self.entropy += (entropy * mask).sum().item()
        gaps = ((micro.old_logprobs - micro.engine_logprobs) * mask).abs()
        self.gap += gaps.sum().item()
        self.largest_gap = max(self.largest_gap, gaps.max().item())
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
        """Entropy, KL, mean engine gap (nats per token) and largest gap of the policy at rollout time.

        Over the whole rollout; with old log-probabilities from the engine, entropy and gap are those of
        the first update's responses.
        """
        record: Metrics = {
            "entropy": self.entropy / self.tokens,
            "engine_logprob_gap_mean": self.gap / self.tokens,
            "engine_logprob_gap": self.largest_gap,
        }
        if self.reference is not None:
            record["kl"] = self.kl / self.kl_tokens
        return record


def update_policy(
    config: RunConfig,
    actors: Actors,
    optimizer: torch.optim.Optimizer,
    rollout: Rollout,
    step: int,
) -> Metrics:
    """The rollout's ``updates_per_rollout`` optimizer steps, each on its own prompts.

    Raises:
        PoisonedUpdateError: non-finite loss or gradient norm.
    """
    settings = config.train
    minibatches = split_rollout(config, rollout, actors.policy.device)
    scorer = Scorer(config, actors.policy, kl_reference(config, actors, step))
    for micro in (m for minibatch in minibatches[1:] for m in minibatch):
        scorer.score_ahead(micro)
    stats, norms, losses = UpdateStats(), [], []
    for index, minibatch in enumerate(minibatches):
        losses.append(accumulate_gradient(config, scorer, minibatch, stats))
        rate = learning_rate_at(
            (step - 1) * len(minibatches) + index,
            settings.learning_rate,
            settings.warmup_updates,
            0,
        )
        try:
            norm = apply_update(actors.policy, optimizer, rate, settings.max_grad_norm, losses[-1])
        except NonFiniteError as error:
            raise PoisonedUpdateError(
                config.run, step, index + 1, minibatch, rollout, str(error)
            ) from None
        norms.append(norm)
    return update_metrics(scorer, losses, norms, rate, stats)


def update_metrics(
    scorer: Scorer, losses: list[float], norms: list[float], rate: float, stats: UpdateStats
) -> Metrics:
    """What a step's updates report: means over updates of loss and gradient norm, the last rate."""
    record = scorer.summary()
    record["loss"] = sum(losses) / len(losses)
    record["grad_norm"] = sum(norms) / len(norms)
    record["grad_norm_max"] = max(norms)
    record["learning_rate"] = rate
    return record | stats.summary()


def kl_reference(config: RunConfig, actors: Actors, step: int) -> PreTrainedModel | None:
    """What the KL of this step is measured against; None where it is neither due nor trained on."""
    every = config.train.kl_every
    due = config.train.kl_coefficient > 0.0 or (every > 0 and step % every == 0)
    return actors.reference if due else None


def split_rollout(
    config: RunConfig, rollout: Rollout, device: torch.device
) -> list[list[MicroBatch]]:
    """Equal minibatches of whole prompt groups, each in micro-batches of similar length.

    Rows with zero advantage get micro-batches of their own that need no backward pass, unless a KL
    term pulls on them.
    """
    total = len(rollout.completions)
    size = total // config.train.updates_per_rollout
    lengths = [
        len(p) + len(c.token_ids) for p, c in zip(rollout.prompts, rollout.completions, strict=True)
    ]
    teaches = (rollout.advantages != 0.0).tolist()
    if config.train.kl_coefficient > 0.0:
        teaches = [True] * total
    minibatches = []
    for first in range(0, total, size):
        minibatch = []
        for differentiate in (True, False):
            rows = [i for i in range(first, first + size) if teaches[i] == differentiate]
            limits = (config.train.micro_batch, config.train.micro_batch_tokens)
            for group in micro_batches([lengths[i] for i in rows], *limits):
                chosen = [rows[i] for i in group]
                minibatch.append(micro_batch(rollout, chosen, differentiate, device))
        minibatches.append(minibatch)
    return minibatches


def micro_batch(
    rollout: Rollout, rows: list[int], differentiate: bool, device: torch.device
) -> MicroBatch:
    """The given rows of a rollout, ready for scoring."""
    completions = [rollout.completions[i] for i in rows]
    batch = ScoreBatch.collate(
        [rollout.prompts[i] for i in rows], [c.token_ids for c in completions], device
    )
    scores = [torch.tensor(c.logprobs) for c in completions]
    padded = torch.nn.utils.rnn.pad_sequence(scores, batch_first=True).to(device)
    return MicroBatch(batch, rollout.advantages[rows].to(device), padded, differentiate, rows)


def accumulate_gradient(
    config: RunConfig, scorer: Scorer, minibatch: Sequence[MicroBatch], stats: UpdateStats
) -> float:
    """Add the gradient of the minibatch's loss to the policy; returns that loss.

    A micro-batch weighs as many sequences (or tokens, for token-mean objectives) as it holds, so
    that the sum is the loss of the whole minibatch.
    """
    objective = LOSSES[config.objective.name]
    counts = [objective.units(micro.batch.mask) for micro in minibatch]
    rows = sum(len(micro.advantages) for micro in minibatch)
    total = 0.0
    for micro, count in zip(minibatch, counts, strict=True):
        logprobs = scorer.score(micro)
        loss, grad = response_gradient(config, logprobs, micro, count / sum(counts), rows, stats)
        total += loss
        if micro.differentiate:
            logprobs.backward(grad)
    for parameter in scorer.policy.parameters():
        if parameter.requires_grad and parameter.grad is None:
            # Nothing to learn from: a zero gradient, so that Adam's state moves on.
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
    """A micro-batch's share of an update's loss, and its gradient w.r.t. the log-probabilities.

    Args:
        config: the run.
        logprobs: (B, T) under the current policy, with gradient where the micro-batch can matter.
        micro: the micro-batch, scored before.
        weight: its share of the update's sequences or tokens, whichever the objective averages over.
        rows: responses of the whole update.
        stats: takes in what the loss reports.

    Returns:
        The share, and (B, T) its gradient.
    """
    mask = micro.batch.mask
    objective = LOSSES[config.objective.name]
    inputs = (micro.old_logprobs, micro.advantages, mask)
    loss, loss_stats = objective(logprobs, *inputs, **config.objective.params)
    total = loss.item() * weight
    if micro.differentiate:
        (grad,) = torch.autograd.grad(loss * weight, logprobs)
    else:
        grad = torch.zeros_like(logprobs)
    coefficients = token_coefficients(grad * rows, micro.advantages, mask)
    stats.add(loss_stats, coefficients, micro.advantages, mask)
    if config.rollout.correction != "none":
        grad = grad * engine_weights(config, micro)
    if config.train.kl_coefficient > 0.0:
        penalty = config.train.kl_coefficient * _sequence_kl(logprobs, micro) / rows
        grad = grad + torch.autograd.grad(penalty, logprobs)[0]
        total += penalty.item()
    return total, grad


def engine_weights(config: RunConfig, micro: MicroBatch) -> Tensor:
    """Truncated importance weights of responses that the engine sampled from other probabilities.

    min(pi_old / pi_engine, cap) of every token, or of the whole response, times the gradient. They are
    constants, so for an objective that is a sum over tokens this is the weighted loss. [ours, after the
    corrections of TRL and verl]

    Returns:
        (B, T), or (B, 1) for ``correction = "sequence"``.
    """
    gap = (micro.old_logprobs - micro.engine_logprobs) * micro.batch.mask
    if config.rollout.correction == "sequence":
        gap = gap.sum(dim=1, keepdim=True)
    return gap.clamp(max=math.log(config.rollout.correction_cap)).exp()


def _sequence_kl(logprobs: Tensor, micro: MicroBatch) -> Tensor:
    """Sum over responses of the mean k3 divergence per token (GRPO's KL term)."""
    mask = micro.batch.mask
    divergence = k3_divergence(logprobs, micro.reference_logprobs) * mask
    return (divergence.sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)).sum()
