"""Batches and settings that a loss refuses, and what it says."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
import torch

from sspo.objectives.losses import LOSSES, check_objective
from support.loop_losses import ALL_GATES, ragged_batch
from support.loss_cases import CASES, DGPO, MASPO, PPO, VESPO, every_case


@pytest.mark.parametrize(
    "field, shape",
    [
        ("logprobs", (6, 7)),
        ("old_logprobs", (6, 7)),
        ("old_logprobs", (8,)),
        ("mask", (6, 1)),
        ("mask", (1, 8)),
        ("mask", (8,)),
        ("advantages", (6, 1)),
        ("advantages", (1,)),
        ("advantages", (6, 8)),
        ("advantages", ()),
    ],
)
@every_case
def test_mismatched_shapes_are_refused_not_broadcast(case, field, shape):
    name, params = CASES[case]
    inputs = replace(ragged_batch(), **{field: torch.ones(shape, dtype=torch.float64)})
    with pytest.raises(ValueError, match="must (share one|be)"):
        LOSSES[name](*inputs, **params)


def test_a_refused_shape_is_named():
    inputs = ragged_batch()
    shapes = "logprobs, old_logprobs and mask must share one (B, T) shape, got "
    with pytest.raises(ValueError, match="^" + re.escape(shapes + "(6, 8), (6, 8), (6, 7)") + "$"):
        LOSSES["grpo"](*replace(inputs, mask=torch.ones(6, 7)), **PPO)
    with pytest.raises(ValueError, match=r"^advantages must be \(6,\), got \(8,\)$"):
        LOSSES["grpo"](*replace(inputs, advantages=torch.ones(8)), **PPO)


@every_case
def test_tensors_without_a_token_dimension_are_refused(case):
    name, params = CASES[case]
    flat = torch.zeros(4)
    with pytest.raises(ValueError, match=r"\(B, T\)"):
        LOSSES[name](flat, flat, flat, flat, **params)


def test_a_length_is_needed_by_the_mean_over_it_and_taken_by_no_other():
    inputs = ragged_batch()
    with pytest.raises(ValueError, match="^max_response_tokens = None must be a whole number"):
        LOSSES["dr_grpo"](*inputs, **PPO)
    with pytest.raises(TypeError, match="max_response_tokens"):
        LOSSES["grpo"](*inputs, **PPO, max_response_tokens=8)


VALID = [
    ("grpo", {"clip_low": 0.2, "clip_high": 0.2}),
    ("grpo", {"clip_low": 0.2, "clip_high": 0.27}),
    ("dr_grpo", {"clip_low": 0.2, "clip_high": 0.2, "max_response_tokens": 3000}),
    ("dr_grpo", {"clip_low": 0.2, "clip_high": 0.2, "max_response_tokens": 1}),
    ("dapo", {"clip_low": 0.2, "clip_high": 0.28}),
    ("cispo", {"clip_high": 4.0}),
    ("gspo", {"clip_low": 3e-4, "clip_high": 4e-4}),
    ("gmpo", {"clip": 0.4}),
    ("sapo", {"tau_pos": 1.0, "tau_neg": 1.05}),
    *[("sapo", {"tau_pos": 1.0, "tau_neg": 1.05, "gate": g}) for g in ALL_GATES],
    *[("sspo", {"tau_pos": 1.0, "tau_neg": 1.05, "gate": g}) for g in ALL_GATES],
    ("sspo", {"tau_pos": 2.2, "tau_neg": 2.2, "gate": "log_tanh", "pessimistic": True}),
    *[
        ("sspo", {"tau_pos": 1.0, "tau_neg": 1.0, "gate": "sigmoid", "power": power})
        for power in (0, 0.0, 1, -1e6, -1e-6, 1e-6, 1e6)
    ],
    ("vespo", VESPO),
    ("vespo", VESPO | {"k_pos": 0.0, "k_neg": 0.0}),
    ("luspo", {"clip_low": 2e-3, "clip_high": 2.5e-3}),
    ("maspo", MASPO),
    ("maspo", MASPO | {"alpha": 0.0, "beta": 0.0, "sigma_high": 1.0}),
    ("maspo", MASPO | {"advantage_low": 1.0, "advantage_high": 1.0}),
    ("dgpo", DGPO),
]


@pytest.mark.parametrize("name, params", VALID, ids=lambda v: v if isinstance(v, str) else "")
def test_check_objective_accepts_the_published_settings(name, params):
    before = dict(params)
    assert check_objective(name, params) is None
    assert params == before


SSPO = {"gate": "sigmoid", "tau_pos": 1.0, "tau_neg": 1.0}


DR_GRPO = {"clip_low": 0.2, "clip_high": 0.2, "max_response_tokens": 8}


INVALID = [
    (
        "ppo",
        {},
        "'ppo'; choose one of grpo, dr_grpo, dapo, cispo, gspo, gmpo, sapo, sspo, vespo, luspo, "
        "maspo, dgpo$",
    ),
    ("SSPO", SSPO, "SSPO"),
    ("", {}, "objective"),
    (
        "grpo",
        {"clip_low": 0.2, "clip_high": 0.2, "clip": 0.2},
        "'clip'; it takes clip_low, clip_high$",
    ),
    ("sspo", SSPO | {"clip_low": 0.2}, "'clip_low'"),
    ("sspo", SSPO | {"tau": 1.0}, "'tau'"),
    ("gmpo", {"clip": 0.4, "mask": 1}, "'mask'"),
    ("grpo", {"clip_low": 0.2}, "needs.*'clip_high'"),
    ("dr_grpo", {"clip_low": 0.2, "clip_high": 0.2}, "needs.*'max_response_tokens'"),
    ("dapo", {"clip_high": 0.28}, "needs.*'clip_low'"),
    ("cispo", {}, "needs.*'clip_high'"),
    ("gmpo", {}, "needs.*'clip'"),
    ("sapo", {"tau_pos": 1.0}, "needs.*'tau_neg'"),
    ("sspo", {"tau_pos": 1.0, "tau_neg": 1.0}, "needs.*'gate'"),
    ("sspo", SSPO | {"tau_pos": -1.0}, "^tau_pos = -1.0 must be positive and finite$"),
    ("sspo", SSPO | {"tau_neg": 0.0}, "tau_neg = 0.0"),
    ("sapo", {"tau_pos": 1.0, "tau_neg": -1.05}, "tau_neg = -1.05"),
    ("sspo", SSPO | {"tau_neg": math.nan}, "tau_neg"),
    ("sspo", SSPO | {"tau_neg": math.inf}, "tau_neg"),
    ("sapo", {"tau_pos": math.inf, "tau_neg": 1.0}, "tau_pos"),
    ("grpo", {"clip_low": 1.0, "clip_high": 0.2}, "^clip_low = 1.0 must be between 0 and 1$"),
    ("gspo", {"clip_low": 1.5, "clip_high": 0.2}, "clip_low = 1.5"),
    ("dapo", {"clip_low": -0.2, "clip_high": 0.2}, "clip_low = -0.2"),
    ("gspo", {"clip_low": 0.0, "clip_high": 0.2}, "clip_low = 0.0"),
    ("dapo", {"clip_low": 0.2, "clip_high": 0.0}, "^clip_high = 0.0 must be positive$"),
    (
        "dr_grpo",
        DR_GRPO | {"max_response_tokens": 0},
        "^max_response_tokens = 0 must be a whole number of at least 1$",
    ),
    ("cispo", {"clip_high": -1.0}, "clip_high = -1.0"),
    ("cispo", {"clip_high": 0.0}, "^clip_high = 0.0 must be positive$"),
    ("gmpo", {"clip": 0.0}, "^clip = 0.0 must be positive$"),
    ("gmpo", {"clip": math.nan}, "clip"),
    ("sspo", SSPO | {"gate": "sigmiod"}, "gate 'sigmiod'"),
    ("sapo", {"tau_pos": 1.0, "tau_neg": 1.0, "gate": ""}, "gate ''"),
    ("sspo", SSPO | {"gate": None}, "gate"),
    ("sspo", SSPO | {"gate": ["sigmoid"]}, "gate"),
    ("sspo", SSPO | {"pessimistic": 1}, "^pessimistic = 1 must be true or false$"),
    ("sapo", {"tau_pos": 1.0, "tau_neg": 1.0, "pessimistic": "no"}, "pessimistic = no"),
    ("sspo", SSPO | {"power": math.nan}, "power"),
    ("sspo", SSPO | {"power": math.inf}, "power"),
    ("sspo", SSPO | {"power": 1e-7}, "^power = 1e-07 must be 0, or between 1e-6 and 1e6 in size$"),
    ("sspo", SSPO | {"power": -1000000.5}, "^power = -1000000.5 must be 0, or between"),
    ("sspo", SSPO | {"power": "1"}, "power"),
    ("sapo", {"tau_pos": 1.0, "tau_neg": 1.0, "power": 1.0}, "'power'"),
    ("vespo", VESPO | {"k_pos": -1.0}, "^k_pos = -1.0 must be 0 or positive, and finite$"),
    ("vespo", VESPO | {"k_neg": math.inf}, "k_neg = inf"),
    ("vespo", VESPO | {"lambda_pos": 0.0}, "^lambda_pos = 0.0 must be positive and finite$"),
    ("vespo", VESPO | {"lambda_neg": math.inf}, "lambda_neg = inf"),
    ("luspo", {"clip_low": 2e-3, "clip_high": 0.0}, "clip_high = 0.0"),
    ("maspo", MASPO | {"sigma": 0.0}, "^sigma = 0.0 must be positive and finite$"),
    ("maspo", MASPO | {"sigma": math.inf}, "sigma = inf"),
    ("maspo", MASPO | {"sigma_high": 0.5}, "^sigma_high = 0.5 must be at least sigma$"),
    ("maspo", MASPO | {"sigma_high": math.inf}, "sigma_high = inf"),
    ("maspo", MASPO | {"alpha": -0.1}, "^alpha = -0.1 must be 0 or positive, and finite$"),
    ("maspo", MASPO | {"alpha": math.inf}, "alpha = inf"),
    ("maspo", MASPO | {"beta": -0.1}, "^beta = -0.1 must be 0 or positive, and finite$"),
    ("maspo", MASPO | {"advantage_low": 0.0}, "^advantage_low = 0.0 must be positive and finite$"),
    (
        "maspo",
        MASPO | {"advantage_high": 0.05},
        "^advantage_high = 0.05 .* at least advantage_low$",
    ),
    ("maspo", MASPO | {"advantage_high": math.inf}, "advantage_high = inf"),
    ("dgpo", DGPO | {"n": 0.0}, "^n = 0.0 must be positive and finite$"),
    ("dgpo", DGPO | {"n": math.inf}, "n = inf"),
    ("dgpo", DGPO | {"m": 0.0}, "^m = 0.0 must be positive and finite$"),
    ("dgpo", DGPO | {"m": math.inf}, "m = inf"),
    ("dgpo", DGPO | {"clip_low": 1.0}, "clip_low = 1.0"),
    ("sspo", SSPO | {"tau_pos": "1.0"}, "tau_pos"),
    ("sspo", SSPO | {"tau_neg": None}, "tau_neg"),
    ("grpo", {"clip_low": "0.2", "clip_high": 0.2}, "clip_low"),
    ("gspo", {"clip_low": 0.2, "clip_high": [0.2]}, "clip_high"),
    ("dr_grpo", DR_GRPO | {"max_response_tokens": "8"}, "max_response_tokens"),
    ("gmpo", {"clip": "0.4"}, "clip"),
]


@pytest.mark.parametrize(
    "name, params, message", INVALID, ids=[f"{name}-{message}" for name, _, message in INVALID]
)
def test_check_objective_refuses_and_names_what_is_wrong(name, params, message):
    with pytest.raises(ValueError, match=message):
        check_objective(name, params)
