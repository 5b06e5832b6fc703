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


POWERS = (-3.0, -1.0, 0.5, 1.0, 8.0)


UNCLIPPED = {"clip_low": 1.0 - 1e-12, "clip_high": 1e12}


VESPO = {"k_pos": 2.0, "lambda_pos": 3.0, "k_neg": 3.0, "lambda_neg": 2.0}


MASPO = {
    "sigma": 1.0,
    "alpha": 0.3,
    "beta": 0.03,
    "sigma_high": 10.0,
    "advantage_low": 0.1,
    "advantage_high": 10.0,
}


DGPO = {**PPO, "n": 1.0, "m": 2.0}


# Every bound of the width binds somewhere in the ragged batches.
NARROW = {
    "sigma": 0.3,
    "alpha": 0.8,
    "beta": 2.0,
    "sigma_high": 0.6,
    "advantage_low": 0.4,
    "advantage_high": 2.5,
}


CASES = {
    "grpo": ("grpo", PPO),
    "dr_grpo": ("dr_grpo", {**PPO, "max_response_tokens": MAX_TOKENS}),
    "dapo": ("dapo", PPO),
    "cispo": ("cispo", {"clip_high": 0.28}),
    "gspo": ("gspo", {"clip_low": 0.1, "clip_high": 0.15}),
    "gmpo": ("gmpo", {"clip": 0.4}),
    "vespo": ("vespo", VESPO),
    "luspo": ("luspo", {"clip_low": 0.1, "clip_high": 0.15}),
    "maspo": ("maspo", MASPO),
    "maspo-narrow": ("maspo", NARROW),
    "dgpo": ("dgpo", DGPO),
    "dgpo-steep": ("dgpo", {**PPO, "n": 2.5, "m": 0.5}),
    **{f"sapo-{g}": ("sapo", {**TAUS, "gate": g}) for g in ALL_GATES},
    **{f"sspo-{g}": ("sspo", {**TAUS, "gate": g}) for g in ALL_GATES},
    **{
        f"{name}-pessimistic-{g}": (name, {**TAUS, "gate": g, "pessimistic": True})
        for name in ("sapo", "sspo")
        for g in ("sigmoid", "log_tanh")
    },
    **{f"sspo-power-{p:g}": ("sspo", {**TAUS, "gate": "sigmoid", "power": p}) for p in POWERS},
}


# Cases that average over a response's own tokens and then over responses.
SEQUENCE_MEAN = [
    c for c, (name, _) in CASES.items() if LOSSES[name].over == "responses" and name != "luspo"
]


# Objectives with a weight that autograd does not differentiate.
STOPPED = ("cispo", "vespo", "maspo", "dgpo")


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
