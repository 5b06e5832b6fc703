"""Every objective with settings to test it at, and what it makes of a batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sspo.objectives.losses import LOSSES, token_coefficients
from support.loop_losses import ALL_GATES, Inputs

TAUS = {"tau_pos": 1.0, "tau_neg": 1.6}


PPO = {"clip_low": 0.2, "clip_high": 0.28}


MAX_TOKENS = 11


LENGTHS = (4, 1, 7, 3, 5, 2)


UNCLIPPED = {"clip_low": 1.0 - 1e-12, "clip_high": 1e12}


CASES = {
    "grpo": ("grpo", PPO),
    "dr_grpo": ("dr_grpo", {**PPO, "max_response_tokens": MAX_TOKENS}),
    "dapo": ("dapo", PPO),
    "cispo": ("cispo", {"clip_high": 0.28}),
    "gspo": ("gspo", {"clip_low": 0.1, "clip_high": 0.15}),
    "gmpo": ("gmpo", {"clip": 0.4}),
    **{f"sapo-{g}": ("sapo", {**TAUS, "gate": g}) for g in ALL_GATES},
    **{f"sspo-{g}": ("sspo", {**TAUS, "gate": g}) for g in ALL_GATES},
    **{
        f"{name}-pessimistic-{g}": (name, {**TAUS, "gate": g, "pessimistic": True})
        for name in ("sapo", "sspo")
        for g in ("sigmoid", "log_tanh")
    },
}


SEQUENCE_MEAN = [c for c in CASES if c not in ("dr_grpo", "dapo", "cispo")]


every_case = pytest.mark.parametrize("case", CASES)


every_gate = pytest.mark.parametrize("gate", ALL_GATES)


def loss_and_gradient(name: str, inputs: Inputs, **params) -> tuple[Tensor, Tensor]:
    leaf = inputs.logprobs.clone().requires_grad_()
    loss, _ = LOSSES[name](leaf, *list(inputs)[1:], **params)
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


def run_case(case: str, inputs: Inputs) -> tuple[Tensor, Tensor]:
    name, params = CASES[case]
    return loss_and_gradient(name, inputs, **params)


def stats_of(case: str, inputs: Inputs) -> dict[str, Tensor]:
    name, params = CASES[case]
    return LOSSES[name](inputs.logprobs.clone().requires_grad_(), *list(inputs)[1:], **params)[1]


def coefficients_of(name: str, inputs: Inputs, **params) -> Tensor:
    _, grad = loss_and_gradient(name, inputs, **params)
    return token_coefficients(grad * len(grad), inputs.advantages, inputs.mask)


def assert_same(got, expected, rtol: float = 1e-12, atol: float = 1e-15) -> None:
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol)
