"""An exact study: a policy so small that every response can be enumerated, without sampling noise.

A world holds every response over a few tokens. The policy is a table of logits, one row per prompt
and prefix. The behaviour policy pi_old drifts away from the current pi. Under it each objective of
``sspo.objectives.losses.LOSSES`` (the real function) has an expected gradient, which is compared with the
true gradient of the expected reward at pi.

Single responses are enough, and groups need not be enumerated: every objective but MASPO, whose width
depends on A, is positively homogeneous in A. And in a group of G a response's advantage depends on its own
reward and on how many of the other G - 1 are right, which are independent of it. Per prompt the expected
gradient over groups is therefore the one over single responses with A = R - E[R], times a positive number.
A test enumerates whole groups to check this. Token-mean objectives are taken in the limit of a large batch,
where their denominator is the expected length.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from pandas import DataFrame
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sspo.config.reading import JsonDict
from sspo.config.study import ExactStudyConfig
from sspo.objectives.losses import LOSSES

Quantities = dict[str, float | None]

QUADRANTS = ("pos_up", "pos_down", "neg_up", "neg_down")


@dataclass(frozen=True)
class World:
    """All N possible responses, of at most T tokens.

    Attributes:
        tokens: (N, T) token numbers, 0 on padding.
        mask: (N, T), 1 on response tokens.
        nodes: (N, T) the prefix that each token follows, as a row of the logit table.
        rewards: (prompts, N), 0 or 1.
        vocabulary: number of tokens.
    """

    tokens: Tensor
    mask: Tensor
    nodes: Tensor
    rewards: Tensor
    vocabulary: int

    @property
    def table(self) -> tuple[int, int, int]:
        """Shape of the policy's logits, (prompts, prefixes, vocabulary)."""
        return len(self.rewards), int(self.nodes.max()) + 1, self.vocabulary


@dataclass(frozen=True)
class Estimate:
    """An objective's gradient over all responses, weighted by their probability under pi_old.

    Attributes:
        mean: (prompts, prefixes, vocabulary) expected ascent direction.
        variance: of a single response's gradient around that mean, summed over the table.
        coefficient: (prompts, N, T) the factor of each token's grad log pi.
        log_ratio: (prompts, N, T) in nats.
        advantages: (prompts, N).
        weight: (prompts, N) pi_old(y | x) / prompts.
    """

    mean: Tensor
    variance: float
    coefficient: Tensor
    log_ratio: Tensor
    advantages: Tensor
    weight: Tensor


def enumerate_world(vocabulary: int, max_tokens: int, prompts: int, variable: bool) -> World:
    """All responses over ``vocabulary`` tokens, and which of them are right.

    Prompt x asks for a response whose tokens sum to x modulo the vocabulary. With ``variable``
    lengths token 0 ends a response, and a response that is cut off at ``max_tokens`` is wrong, as in
    training. Otherwise every response has ``max_tokens`` tokens.
    """
    found = {
        _ended(word, variable) for word in itertools.product(range(vocabulary), repeat=max_tokens)
    }
    words = sorted(found, key=lambda word: (len(word), word))
    prefixes = sorted({word[:t] for word in words for t in range(len(word))})
    place = {prefix: i for i, prefix in enumerate(prefixes)}
    nodes = [[place[word[:t]] for t in range(len(word))] for word in words]
    lengths = torch.tensor([len(word) for word in words])
    rewards = [
        [float(sum(w) % vocabulary == x % vocabulary and not (variable and w[-1])) for w in words]
        for x in range(prompts)
    ]
    return World(
        tokens=_padded(words),
        mask=(torch.arange(max_tokens) < lengths.unsqueeze(1)).double(),
        nodes=_padded(nodes),
        rewards=torch.tensor(rewards, dtype=torch.float64),
        vocabulary=vocabulary,
    )


def response_logprobs(world: World, logits: Tensor) -> Tensor:
    """(prompts, N, T) log pi of every token of every response, in nats; 0 on padding."""
    return logits.log_softmax(dim=-1)[:, world.nodes, world.tokens] * world.mask


def expected_reward(world: World, logits: Tensor) -> Tensor:
    """J, the mean over prompts of sum_y pi(y | x) R(x, y), as a scalar with gradient."""
    probabilities = response_logprobs(world, logits).sum(dim=-1).exp()
    return (probabilities * world.rewards).sum(dim=-1).mean()


def policy_gradient(world: World, logits: Tensor) -> Tensor:
    """The true gradient of the expected reward, by differentiating it."""
    leaf = logits.detach().requires_grad_()
    return torch.autograd.grad(expected_reward(world, leaf), leaf)[0]


def exact_advantages(world: World, logits: Tensor, normalize_std: bool) -> Tensor:
    """(prompts, N) R - E[R], divided by the standard deviation of R if ``normalize_std``."""
    probabilities = response_logprobs(world, logits).sum(dim=-1).exp()
    share = (probabilities * world.rewards).sum(dim=-1, keepdim=True)
    advantages = world.rewards - share
    return advantages / (share * (1.0 - share)).sqrt() if normalize_std else advantages


def estimate(world: World, logits: Tensor, old: Tensor, method: JsonDict) -> Estimate:
    """The expected gradient of a method at ``logits`` from responses of ``old``, and its variance.

    The tokens of a response follow different prefixes and so move different rows of the table. The
    squared norm of its gradient is therefore the sum over tokens of coefficient^2 |grad log pi|^2, where
    |grad log pi|^2 = 1 - 2 pi(token) + sum pi^2.

    Args:
        world: the responses.
        logits: (prompts, prefixes, vocabulary) current policy.
        old: (prompts, prefixes, vocabulary) behaviour policy.
        method: ``objective``, ``params`` and ``normalize_std``.
    """
    policy = logits.log_softmax(dim=-1)
    now, then = response_logprobs(world, logits), response_logprobs(world, old)
    advantages = exact_advantages(world, old, method["normalize_std"])
    weight = then.sum(dim=-1).exp() / len(then)
    coefficient = _coefficients(world, now, then, advantages, weight, method)
    factors = coefficient * weight.unsqueeze(-1)
    mean = _scatter(world, factors) - policy.exp() * _scatter(world, factors).sum(-1, keepdim=True)
    score = 1.0 - 2.0 * now.exp() + policy.exp().square().sum(-1)[:, world.nodes]
    square = (weight.unsqueeze(-1) * coefficient.square() * score).sum().item()
    variance = square - mean.square().sum().item()
    return Estimate(mean, variance, coefficient, now - then, advantages, weight)


def moved(world: World, old: Tensor, direction: Tensor, drift: float) -> Tensor:
    """The policy at distance ``drift`` from ``old`` along ``direction``, found by bisection.

    Drift is the root mean square of the token log-ratios log pi - log pi_old, in nats, over the
    tokens that pi_old samples.

    Raises:
        ValueError: there is no such policy along the direction.
    """
    if drift == 0.0:
        return old
    low, high = 0.0, 1.0
    while _distance(world, old + high * direction, old) < drift:
        low, high = high, 2.0 * high
        if high > 1e6:
            raise ValueError(f"no policy at drift {drift} along this direction; lower the drift")
    for _ in range(60):
        middle = 0.5 * (low + high)
        if _distance(world, old + middle * direction, old) < drift:
            low = middle
        else:
            high = middle
    return old + high * direction


def describe(world: World, logits: Tensor, old: Tensor, method: JsonDict) -> Quantities:
    """An objective's expected gradient against the true one, and where its mass comes from.

    - ``cosine``: of the expected and the true gradient.
    - ``gain``: length of its part along the true gradient, over |true|.
    - ``relative_bias``: |scaled expected - true| / |true|.
    - ``variance``: of one response's gradient, over |true|^2.
    - ``mass_*``: the sum of |coefficient| over a quadrant (sign of A, side of r; tokens at r = 1 are in
      none), as a share of the on-policy sum over all tokens.
    - ``weight_*``: the same sum over the on-policy sum of the same tokens: 1 where the gate is open, 0
      where it is closed, None where there are no such tokens.

    Gain, bias and variance are those of the objective scaled so that its gain is 1 on-policy, because
    objectives differ by constants that a learning rate absorbs.
    """
    truth = policy_gradient(world, logits)
    found = estimate(world, logits, old, method)
    scale = truth.square().sum() / (estimate(world, logits, logits, method).mean * truth).sum()
    scaled = scale * found.mean
    length = truth.square().sum()
    result: Quantities = {
        "cosine": torch.cosine_similarity(scaled.flatten(), truth.flatten(), dim=0).item(),
        "gain": ((scaled * truth).sum() / length).item(),
        "relative_bias": ((scaled - truth).square().sum() / length).sqrt().item(),
        "variance": (scale.square() * found.variance / length).item(),
    }
    return result | _quadrants(world, found, method)


def exact_study(config: ExactStudyConfig) -> DataFrame:
    """``describe`` for every length rule, drift direction, draw, drift and method.

    ``random`` drift goes along Gaussian noise in the logits. ``ascent`` goes along the true gradient, as
    when a policy learns from its rollout: tokens of responses with A > 0 then mostly have r > 1.

    Returns:
        A row per combination: method, lengths, direction, draw, drift (nats), and what ``describe`` says.
    """
    rows: list[JsonDict] = []
    for variable in (False, True):
        world = enumerate_world(config.vocabulary, config.max_tokens, config.prompts, variable)
        for draw in range(config.draws):
            generator = torch.Generator().manual_seed(config.seed + draw)
            start, noise = torch.randn(2, *world.table, generator=generator, dtype=torch.float64)
            old = config.logit_scale * start
            for name, direction in (("random", noise), ("ascent", policy_gradient(world, old))):
                where = {
                    "lengths": "variable" if variable else "fixed",
                    "direction": name,
                    "draw": draw,
                }
                rows += _drift_rows(world, old, direction, config, where)
    return DataFrame(rows)


def _drift_rows(
    world: World, old: Tensor, direction: Tensor, config: ExactStudyConfig, where: JsonDict
) -> Iterator[JsonDict]:
    for drift in config.drifts:
        logits = moved(world, old, direction, drift)
        for name, method in config.methods.items():
            yield {"method": name, **where, "drift": drift, **describe(world, logits, old, method)}


def _coefficients(
    world: World, now: Tensor, then: Tensor, advantages: Tensor, weight: Tensor, method: JsonDict
) -> Tensor:
    """(prompts, N, T) minus the derivative of a response's own loss by its log-probabilities.

    The mean loss of a batch divides by the number of its responses, so its gradient is multiplied by that
    number again. For token means the number of tokens takes its place, over the expected length.
    """
    objective = LOSSES[method["objective"]]
    rows, length = now[..., 0].numel(), now.shape[-1]
    leaf = now.detach().reshape(rows, length).requires_grad_()
    mask = world.mask.expand_as(now).reshape(rows, length)
    inputs = (then.reshape(rows, length), advantages.reshape(rows), mask)
    loss, _ = objective(leaf, *inputs, **method["params"])
    (grad,) = torch.autograd.grad(loss, leaf)
    units = float(rows)
    if objective.over == "tokens":
        units = (mask.sum() / (weight * world.mask.sum(dim=-1)).sum()).item()
    return -units * grad.reshape(now.shape)


def _quadrants(world: World, found: Estimate, method: JsonDict) -> Quantities:
    still = torch.zeros_like(found.log_ratio)
    on_policy = _coefficients(world, still, still, found.advantages, found.weight, method)
    mass, unit = (
        (c.abs() * found.weight.unsqueeze(-1) * world.mask) for c in (found.coefficient, on_policy)
    )
    positive = (found.advantages > 0).unsqueeze(-1)
    result: Quantities = {}
    for quadrant in QUADRANTS:
        sign, side = quadrant.split("_")
        chosen = positive if sign == "pos" else ~positive
        chosen = chosen & (found.log_ratio > 0 if side == "up" else found.log_ratio < 0)
        there = unit[chosen].sum().item()
        result[f"mass_{quadrant}"] = mass[chosen].sum().item() / unit.sum().item()
        result[f"weight_{quadrant}"] = mass[chosen].sum().item() / there if there else None
    return result


def _scatter(world: World, values: Tensor) -> Tensor:
    """Sum (prompts, N, T) values into the table, each at its prefix and token."""
    prompts, prefixes, vocabulary = world.table
    place = (world.nodes * vocabulary + world.tokens).flatten()
    table = torch.zeros(prompts, prefixes * vocabulary, dtype=values.dtype)
    table.index_add_(1, place, (values * world.mask).reshape(prompts, -1))
    return table.reshape(world.table)


def _distance(world: World, logits: Tensor, old: Tensor) -> float:
    now, then = response_logprobs(world, logits), response_logprobs(world, old)
    weight = then.sum(dim=-1, keepdim=True).exp() * world.mask
    return ((weight * (now - then).square()).sum() / weight.sum()).sqrt().item()


def _ended(word: tuple[int, ...], variable: bool) -> tuple[int, ...]:
    """The word up to and with its first end token."""
    return word[: word.index(0) + 1] if variable and 0 in word else word


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """(rows, longest), 0 behind the shorter ones."""
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
