"""Rollouts that wait for their updates (``rollout.lag``), and how they are saved to resume from.

They are saved as JSON, which keeps every number exactly: a float32 is a double, and Python writes doubles
so that they are read again as they were.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable
from itertools import chain

import torch

from sspo.config.reading import JsonDict
from sspo.config.run import RunConfig
from sspo.rewards.base import Reward
from sspo.rollout.engine import Completion
from sspo.training.minibatches import RECORDED, Rollout, recorded, split_rollout, take_over
from sspo.training.update import SUMS, Actors, Prepared, Scorer, kl_reference


def steps_behind(config: RunConfig) -> int:
    """``rollout.lag`` in steps: how many rollouts wait while one is trained on."""
    return config.rollout.lag // config.updates_per_step


def saved_queue(queue: Iterable[Prepared]) -> list[JsonDict]:
    """The waiting rollouts as JSON, with the log-probabilities that were recorded of them."""
    return [
        {
            "step": one.step,
            "rollout": dataclasses.asdict(one.rollout)
            | {"advantages": one.rollout.advantages.tolist()},
            "scorer": {name: getattr(one.scorer, name) for name in SUMS},
            "recorded": {
                name: {str(row): values.tolist() for row, values in rows.items()}
                for name in RECORDED
                if (rows := recorded([*chain(*one.minibatches)], name))
            },
        }
        for one in queue
    ]


def restored_queue(config: RunConfig, actors: Actors, saved: Iterable[JsonDict]) -> deque[Prepared]:
    """What ``saved_queue`` saved, ready for its updates."""
    return deque(_restored(config, actors, one) for one in saved)


def _restored(config: RunConfig, actors: Actors, saved: JsonDict) -> Prepared:
    step, parts, device = saved["step"], saved["rollout"], actors.policy.device
    rollout = Rollout(
        **parts
        | {
            "completions": [Completion(**one) for one in parts["completions"]],
            "rewards": [Reward(**one) for one in parts["rewards"]],
            "advantages": torch.tensor(parts["advantages"]),
        }
    )
    minibatches = split_rollout(config, rollout, device)
    rows = {
        name: {int(row): torch.tensor(values, device=device) for row, values in found.items()}
        for name, found in saved["recorded"].items()
    }
    take_over([*chain(*minibatches)], rows)
    scorer = Scorer(config, actors.policy, kl_reference(config, actors, step))
    for name, total in saved["scorer"].items():
        setattr(scorer, name, total)
    return Prepared(step, rollout, minibatches, scorer)
