"""What stale responses do to a policy: two small experiments with the real objectives.

``push_down`` uses one bad response again and again, and shows how unlikely it becomes.
``stale_training`` trains a small policy from sampled groups and computes its expected reward exactly. The
number of groups and updates is fixed; they are spread over more or fewer rollouts.
``sspo.evidence.exact.gradients`` shows the bias of an objective without noise. These experiments show what
an objective does with the few responses that training really has.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pandas import DataFrame
from torch import Tensor

from sspo.config.reading import JsonDict
from sspo.config.study import ExactStudyConfig
from sspo.evidence.exact.gradients import World, enumerate_world, expected_reward, response_logprobs
from sspo.objectives.advantages import group_advantages
from sspo.objectives.losses import LOSSES, token_coefficients


def push_down(config: ExactStudyConfig) -> DataFrame:
    """How far every method drives the log-ratio of a response with A < 0 that is never renewed.

    Each push moves all tokens of the response by ``push_size`` nats times their coefficient, so an
    on-policy objective would go down by ``push_size`` per push. The log-ratio stops at the bound of a
    hard clip, and falls without end under a method that has no limit.

    Returns:
        A row per method and push: method, push, log_ratio (nats), coefficient (1 on-policy).
    """
    rows = []
    for name, method in config.methods.items():
        log_ratio, on_policy = 0.0, _pushed(method, 0.0, config.max_tokens)
        for push in range(config.pushes + 1):
            coefficient = _pushed(method, log_ratio, config.max_tokens) / on_policy
            rows.append((name, push, log_ratio, coefficient))
            log_ratio -= config.push_size * coefficient
    return DataFrame(rows, columns=["method", "push", "log_ratio", "coefficient"])


def stale_training(config: ExactStudyConfig) -> DataFrame:
    """Train a small policy by every method, from fresh and from stale responses.

    The policy's logits are linear in ``features`` random features of prompt and prefix. There are fewer
    features than prefixes, so pushing one response moves others, as in a network. Every run makes
    ``updates`` updates, each on its own group of responses per prompt; with more ``updates_per_rollout``
    these come from an older policy. The optimizer is the trainer's (AdamW), without decay. Within a draw
    every method has the same start and the same stream of random numbers.

    Returns:
        A row per method, updates_per_rollout, learning_rate, draw and finished rollout, with update,
        reward (exact) and log_ratio (root mean square over tokens of the last update, nats).

    Raises:
        ValueError: ``updates`` does not divide into rollouts.
    """
    for count in config.updates_per_rollout:
        if config.updates % count:
            raise ValueError(
                f"exact_study.updates = {config.updates} is not divisible by updates_per_rollout = "
                f"{count}; change one"
            )
    world = enumerate_world(config.vocabulary, config.max_tokens, config.prompts, variable=True)
    rows = []
    for name, method in config.methods.items():
        for count in config.updates_per_rollout:
            for rate in config.learning_rates:
                where = {"method": name, "updates_per_rollout": count, "learning_rate": rate}
                for draw in range(config.draws):
                    records = _train(world, config, method, count, rate, draw)
                    rows += [{**where, "draw": draw, **record} for record in records]
    return DataFrame(rows)


def _pushed(method: JsonDict, log_ratio: float, length: int) -> float:
    """The coefficient of a response with A = -1 whose tokens all have this log-ratio."""
    objective = LOSSES[method["objective"]]
    # Only the difference matters to an objective, so old log-probabilities of 0 stand for any others.
    leaf = torch.full((1, length), log_ratio, dtype=torch.float64, requires_grad=True)
    old, advantages = torch.zeros_like(leaf), -torch.ones(1, dtype=torch.float64)
    loss, _ = objective(leaf, old, advantages, torch.ones_like(leaf), **method["params"])
    (grad,) = torch.autograd.grad(loss, leaf)
    return token_coefficients(grad, advantages, torch.ones_like(leaf))[0, 0].item()


def _train(
    world: World, config: ExactStudyConfig, method: JsonDict, count: int, rate: float, draw: int
) -> Iterator[JsonDict]:
    generator = torch.Generator().manual_seed(config.seed + draw)
    prompts, prefixes, vocabulary = world.table
    shape = (prompts, prefixes, config.features)
    features = torch.randn(shape, generator=generator, dtype=torch.float64) / config.features**0.5
    start = torch.randn(config.features, vocabulary, generator=generator, dtype=torch.float64)
    weights = (config.logit_scale * start).requires_grad_()
    optimizer = torch.optim.AdamW([weights], lr=rate, weight_decay=0.0)
    yield {"update": 0, "reward": _reward(world, features, weights), "log_ratio": 0.0}
    for update in range(count, config.updates + 1, count):
        with torch.no_grad():
            then = response_logprobs(world, features @ weights)
        # (prompts, count, group): a group per prompt and update.
        chance = then.sum(dim=-1).exp()
        drawn = torch.multinomial(chance, count * config.group_size, True, generator=generator)
        drawn = drawn.reshape(len(chance), count, config.group_size)
        for k in range(count):
            now = response_logprobs(world, features @ weights)
            log_ratio = _update(world, optimizer, now, then, drawn[:, k], method)
        reward = _reward(world, features, weights)
        yield {"update": update, "reward": reward, "log_ratio": log_ratio}


def _update(
    world: World,
    optimizer: torch.optim.Optimizer,
    now: Tensor,
    then: Tensor,
    drawn: Tensor,
    method: JsonDict,
) -> float:
    """One update on the (prompts, group) responses drawn; returns the RMS of their log-ratios (nats)."""
    prompt = torch.arange(len(drawn)).unsqueeze(1)
    rewards, mask = world.rewards[prompt, drawn], world.mask[drawn].flatten(0, 1)
    advantages = group_advantages(rewards, normalize_std=method["normalize_std"]).flatten()
    chosen = (now[prompt, drawn].flatten(0, 1), then[prompt, drawn].flatten(0, 1))
    loss, stats = LOSSES[method["objective"]](*chosen, advantages, mask, **method["params"])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return ((stats["log_ratio"].square() * mask).sum() / mask.sum()).sqrt().item()


def _reward(world: World, features: Tensor, weights: Tensor) -> float:
    with torch.no_grad():
        return expected_reward(world, features @ weights).item()
