"""Losses and gradients against published implementations, written anew in their own vectorised style."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from support.loop_losses import Inputs, ragged_batch
from support.loss_cases import MAX_TOKENS, PPO, assert_same, loss_and_gradient


def trl_loss(
    inputs: Inputs,
    loss_type: str,
    level: str = "token",
    epsilon: float = 0.2,
    epsilon_high: float = 0.2,
    temperatures: tuple[float, float] = (1.0, 1.05),
    max_completion_length: int = MAX_TOKENS,
) -> Tensor:
    """TRL's GRPOTrainer, one process and no accumulation.

    Defaults differ from the methods' own: epsilon_high falls back to epsilon 0.2, loss_type has
    moved from "grpo" to token-mean "bnpo"/"dapo", so GSPO needs loss_type="grpo" next to
    importance_sampling_level="sequence". "dapo" divides by the tokens of the whole generation batch
    and "bnpo" by those at hand, which is the same for one batch. For CISPO epsilon_high is the cap
    itself (5.0), where ours is its distance from 1.
    """
    logps, old, advantages, mask = inputs
    advantages = advantages.unsqueeze(1)
    log_weights = logps - old
    if level == "sequence":
        log_weights = (log_weights * mask).sum(-1) / mask.sum(-1).clamp(min=1.0)
        log_weights = log_weights.unsqueeze(-1)
    coef = torch.exp(log_weights)
    if loss_type == "cispo":
        per_token = -torch.clamp(coef, max=epsilon_high).detach() * advantages * logps
    elif loss_type == "sapo":
        positive = (advantages > 0).expand_as(coef)
        per_token = torch.empty_like(coef)
        for where, temperature in zip((positive, ~positive), temperatures, strict=True):
            sigmoid = torch.sigmoid(temperature * (coef[where] - 1.0))
            per_token[where] = sigmoid * 4.0 / temperature
        per_token = -per_token * advantages
    else:
        clipped = torch.clamp(coef, 1.0 - epsilon, 1.0 + epsilon_high)
        per_token = -torch.min(coef * advantages, clipped * advantages)
    if loss_type in ("grpo", "sapo"):
        return ((per_token * mask).sum(-1) / mask.sum(-1).clamp(min=1.0)).mean()
    if loss_type in ("bnpo", "dapo", "cispo"):
        return (per_token * mask).sum() / mask.sum().clamp(min=1.0)
    assert loss_type == "dr_grpo"
    return (per_token * mask).sum() / (per_token.size(0) * max_completion_length)


def verl_aggregate(loss_mat: Tensor, mask: Tensor, mode: str) -> Tensor:
    if mode == "token-mean":
        return (loss_mat * mask).sum() / mask.sum()
    assert mode == "seq-mean-token-mean"
    return ((loss_mat * mask).sum(-1) / mask.sum(-1)).mean()


def verl_loss(inputs: Inputs, kind: str, mode: str = "token-mean", **settings) -> Tensor:
    """The compute_policy_loss_* functions of verl's core_algos, with token-level advantages.

    verl clamps log-ratios at +-20 and (GSPO) at 10 from above, outside the range tested here.
    """
    logps, old, advantages, mask = inputs
    advantages = advantages.unsqueeze(1).expand_as(logps)
    low, high = settings.get("low"), settings.get("high")
    kl = torch.clamp(logps - old, min=-20.0, max=20.0)
    if kind == "gspo":
        sequence = (kl * mask).sum(-1) / mask.sum(-1).clamp(min=1)
        kl = logps - logps.detach() + sequence.detach().unsqueeze(-1)
        kl = torch.clamp(kl, max=10.0)
    ratio = torch.exp(kl)
    if kind == "geo_mean":
        clipped = torch.clamp(kl, -low, high)
        sign = torch.sign(advantages)
        one_sided = sign * torch.min(sign * kl, sign * clipped)
        count = mask.sum(-1) + 1e-8
        geometric = torch.exp((one_sided * mask).sum(-1) / count)
        return (-((advantages * mask).sum(-1) / count) * geometric).mean()
    if kind == "sapo":
        tau_pos, tau_neg = (torch.full_like(ratio, settings[k]) for k in ("tau_pos", "tau_neg"))
        tau = torch.where(advantages > 0, tau_pos, tau_neg)
        losses = -torch.sigmoid(tau * (ratio - 1.0)) * (4.0 / tau) * advantages
    elif kind == "cispo":
        losses = -torch.clamp(ratio, 1.0 - low, 1.0 + high).detach() * advantages * logps
    else:
        clipped = torch.clamp(ratio, 1.0 - low, 1.0 + high)
        losses = torch.maximum(-advantages * ratio, -advantages * clipped)
        if kind == "vanilla":
            dual = torch.min(-advantages * settings["dual_clip"], losses)
            losses = torch.where(advantages < 0, dual, losses)
    return verl_aggregate(losses, mask, mode)


PUBLISHED = {
    "trl-grpo": ("grpo", PPO, trl_loss, {"loss_type": "grpo", "epsilon_high": 0.28}),
    "trl-bnpo": ("dapo", PPO, trl_loss, {"loss_type": "bnpo", "epsilon_high": 0.28}),
    "trl-dapo": ("dapo", PPO, trl_loss, {"loss_type": "dapo", "epsilon_high": 0.28}),
    "trl-dr_grpo": (
        "dr_grpo",
        {**PPO, "max_response_tokens": MAX_TOKENS},
        trl_loss,
        {"loss_type": "dr_grpo", "epsilon_high": 0.28},
    ),
    "trl-gspo": (
        "gspo",
        {"clip_low": 0.1, "clip_high": 0.15},
        trl_loss,
        {"loss_type": "grpo", "level": "sequence", "epsilon": 0.1, "epsilon_high": 0.15},
    ),
    "trl-gspo-published-clip": (
        "gspo",
        {"clip_low": 3e-4, "clip_high": 4e-4},
        trl_loss,
        {"loss_type": "grpo", "level": "sequence", "epsilon": 3e-4, "epsilon_high": 4e-4},
    ),
    # The cap 1.28 is epsilon_high = 1.28 in TRL.
    "trl-cispo": (
        "cispo",
        {"clip_high": 0.28},
        trl_loss,
        {"loss_type": "cispo", "epsilon_high": 1.28},
    ),
    "trl-sapo": ("sapo", {"tau_pos": 1.0, "tau_neg": 1.05}, trl_loss, {"loss_type": "sapo"}),
    # verl's dual clip (default 3.0) also cuts A < 0 at r > 3; PPO-style GRPO has none: set it out
    # of reach. Its default aggregation is token-mean (DAPO), GRPO's is seq-mean-token-mean.
    "verl-vanilla-token-mean": (
        "dapo",
        PPO,
        verl_loss,
        {"kind": "vanilla", "low": 0.2, "high": 0.28, "dual_clip": 1e9},
    ),
    "verl-vanilla-seq-mean": (
        "grpo",
        PPO,
        verl_loss,
        {
            "kind": "vanilla",
            "mode": "seq-mean-token-mean",
            "low": 0.2,
            "high": 0.28,
            "dual_clip": 1e9,
        },
    ),
    # The actor's default token-mean would weigh GSPO's responses by their length.
    "verl-gspo": (
        "gspo",
        {"clip_low": 0.1, "clip_high": 0.15},
        verl_loss,
        {"kind": "gspo", "mode": "seq-mean-token-mean", "low": 0.1, "high": 0.15},
    ),
    # clip_ratio_low/high are inherited as 0.2 unless set; the paper has 0.4.
    "verl-geo_mean": (
        "gmpo",
        {"clip": 0.4},
        verl_loss,
        {"kind": "geo_mean", "low": 0.4, "high": 0.4},
    ),
    "verl-sapo": (
        "sapo",
        {"tau_pos": 1.0, "tau_neg": 1.05},
        verl_loss,
        {"kind": "sapo", "mode": "seq-mean-token-mean", "tau_pos": 1.0, "tau_neg": 1.05},
    ),
    # verl also bounds CISPO's weight from below by 1 - clip_ratio_low; 1.0 takes that away.
    "verl-cispo": (
        "cispo",
        {"clip_high": 0.28},
        verl_loss,
        {"kind": "cispo", "low": 1.0, "high": 0.28},
    ),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("published", PUBLISHED)
def test_loss_and_gradient_equal_the_published_implementation(published, seed):
    name, params, library, settings = PUBLISHED[published]
    inputs = ragged_batch(seed)
    leaf = inputs.logprobs.clone().requires_grad_()
    theirs = library(replace(inputs, logprobs=leaf), **settings)
    (grad,) = torch.autograd.grad(theirs, leaf)
    # geo_mean adds 1e-8 to the token count.
    rtol = 1e-7 if published == "verl-geo_mean" else 1e-12
    ours = loss_and_gradient(name, inputs, **params)
    assert_same(ours, (theirs.detach(), grad), rtol=rtol, atol=1e-14)
