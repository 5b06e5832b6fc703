"""A rollout in the parts that updates take: minibatches and their micro-batches, epoch by epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sspo.config.run import RunConfig
from sspo.data.batching import micro_batches
from sspo.data.problems import Record
from sspo.models.policy import ScoreBatch
from sspo.rewards.base import Reward
from sspo.rollout.engine import Completion, sample_seed

RECORDED = (
    "old_logprobs",
    "reference_logprobs",
)  # of a micro-batch, when the policy is what sampled


@dataclass(frozen=True)
class Rollout:
    """G responses to each of P problems, problem by problem in N = P G rows."""

    problems: list[Record]  # N, each problem G times
    prompts: list[list[int]]  # N token lists
    completions: list[Completion]  # N
    rewards: list[Reward]  # N
    advantages: Tensor  # (N,)
    degenerate: float  # share of the groups whose rewards are all equal


@dataclass
class MicroBatch:
    """B rows of a rollout that go through the model together; log-probabilities are in nats."""

    batch: ScoreBatch  # responses of up to T tokens
    advantages: Tensor  # (B,)
    engine_logprobs: Tensor  # (B, T) that the engine sampled with
    differentiate: bool  # False when no row can contribute to the gradient
    rows: Sequence[int]  # places of the rows in the rollout
    old_logprobs: Any = None  # (B, T), once known
    reference_logprobs: Any = None  # (B, T), when a KL is asked for


def split_rollout(
    config: RunConfig, rollout: Rollout, device: torch.device, order: Sequence[int] | None = None
) -> list[list[MicroBatch]]:
    """Equal minibatches of whole prompt groups, each split into micro-batches of similar length.

    ``order`` has the rows in the order in which minibatches take them, by default as they stand.
    Rows with zero advantage get micro-batches of their own that need no backward pass, unless a KL
    term gives them a gradient.
    """
    total = len(rollout.completions)
    size = total // config.train.updates_per_rollout
    lengths = [
        len(p) + len(c.token_ids) for p, c in zip(rollout.prompts, rollout.completions, strict=True)
    ]
    teaches = ((rollout.advantages != 0.0) | (config.train.kl_coefficient > 0.0)).tolist()
    limits = (config.train.micro_batch, config.train.micro_batch_tokens)
    taken = order or range(total)
    minibatches = []
    for first in range(0, total, size):
        minibatch = []
        for differentiate in (True, False):
            rows = [i for i in taken[first : first + size] if teaches[i] == differentiate]
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


def every_epoch(
    config: RunConfig, rollout: Rollout, first: list[list[MicroBatch]], step: int
) -> Iterator[list[MicroBatch]]:
    """The minibatches of all epochs of a rollout, one after the other.

    Every epoch after the first has the prompt groups in a new order, which depends on run seed, step
    and epoch alone, and keeps the old log-probabilities that the first one recorded. So the first
    epoch has to be done before the second is asked for.
    """
    yield from first
    rows = {name: recorded([*chain(*first)], name) for name in RECORDED}
    device = first[0][0].advantages.device
    groups = np.arange(len(rollout.completions)).reshape(-1, config.rollout.group_size)
    for epoch in range(1, config.train.epochs):
        generator = np.random.default_rng(sample_seed("epoch", config.seed, step, epoch))
        order = groups[generator.permutation(len(groups))].flatten().tolist()
        again = split_rollout(config, rollout, device, order)
        take_over([*chain(*again)], rows)
        yield from again


def recorded(micros: Sequence[MicroBatch], name: str) -> dict[int, Tensor]:
    """Row of the rollout -> log-probabilities of its response; empty where none were recorded."""
    found: dict[int, Tensor] = {}
    for micro in micros:
        if (values := getattr(micro, name)) is not None:
            lengths = micro.batch.mask.sum(dim=1).int().tolist()
            found |= {
                row: one[:length]
                for row, one, length in zip(micro.rows, values, lengths, strict=True)
            }
    return found


def take_over(micros: Sequence[MicroBatch], rows: Mapping[str, Mapping[int, Tensor]]) -> None:
    """Set what was ``recorded`` under every name, for micro-batches that group the rows in another way."""
    for micro in micros:
        for name, found in rows.items():
            if found:
                values = [found[row] for row in micro.rows]
                padded = torch.nn.utils.rnn.pad_sequence(values, batch_first=True)
                setattr(micro, name, padded)
