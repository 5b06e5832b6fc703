"""Statistics and coefficients of a loss, and the KL estimate."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sspo.objectives.losses import k3_divergence, token_coefficients
from support.loop_losses import Inputs, gate_value, gate_weight, loop_sequence_weight, ragged_batch
from support.loss_cases import (
    CASES,
    LENGTHS,
    SEQUENCE_MEAN,
    TAUS,
    coefficients_of,
    every_case,
    every_gate,
    stats_of,
)

# Stats and coefficients --------------------------------------------------------------------------


@every_case
def test_stats_are_detached_per_response_tensors(case):
    stats = stats_of(case, ragged_batch())
    assert set(stats) == {"log_ratio", "sequence_weight"}
    assert stats["log_ratio"].shape == (6, 8) and stats["sequence_weight"].shape == (6,)
    assert not any(value.requires_grad for value in stats.values())


@every_case
def test_log_ratio_stat_is_new_minus_old_on_response_tokens_and_0_on_padding(case):
    inputs = ragged_batch()
    response = inputs.mask > 0
    got = stats_of(case, inputs)["log_ratio"]
    assert torch.equal(got[response], (inputs.logprobs - inputs.old_logprobs)[response])
    assert (got[~response] == 0.0).all()


@every_case
def test_sequence_weight_is_one_on_policy(case):
    weight = stats_of(case, ragged_batch().on_policy)["sequence_weight"]
    torch.testing.assert_close(weight, torch.ones(6).double(), rtol=1e-13, atol=0)


@every_case
def test_sequence_weight_equals_the_plain_python_loop_off_policy(case):
    name, params = CASES[case]
    inputs = ragged_batch(5)
    expected = loop_sequence_weight(name, inputs, **params)
    got = stats_of(case, inputs)["sequence_weight"].tolist()
    assert got == pytest.approx(expected, rel=1e-12)
    assert max(abs(w - 1.0) for w in expected) > 0.05


def defined(inputs: Inputs) -> Tensor:
    return (inputs.mask > 0) & (inputs.advantages != 0.0).unsqueeze(1)


@pytest.mark.parametrize("case", SEQUENCE_MEAN)
def test_token_coefficients_are_one_on_policy(case):
    inputs = ragged_batch().on_policy
    name, params = CASES[case]
    c = coefficients_of(name, inputs, **params)[defined(inputs)]
    torch.testing.assert_close(c, torch.ones_like(c), rtol=1e-13, atol=0)


@every_case
def test_token_coefficients_are_nan_exactly_where_mask_or_advantage_is_zero(case):
    inputs = ragged_batch()
    name, params = CASES[case]
    c = coefficients_of(name, inputs, **params)
    assert torch.equal(torch.isnan(c), ~defined(inputs))


@every_gate
def test_token_coefficients_of_sspo_are_sequence_weight_times_token_weight(gate):
    inputs = ragged_batch(6, spread=0.8)
    c = coefficients_of("sspo", inputs, gate=gate, **TAUS)
    ratios = (inputs.logprobs - inputs.old_logprobs).exp().tolist()
    for i, (advantage, n) in enumerate(zip(inputs.advantages.tolist(), LENGTHS, strict=True)):
        if advantage == 0.0:
            continue
        tau = TAUS["tau_pos"] if advantage > 0 else TAUS["tau_neg"]
        s = math.prod(gate_value(gate, r, tau) for r in ratios[i][:n]) ** (1.0 / n)
        expected = [s * gate_weight(gate, r, tau) for r in ratios[i][:n]]
        assert c[i, :n].tolist() == pytest.approx(expected, rel=1e-11, abs=1e-15)


def test_token_coefficients_scale_a_hand_checked_gradient():
    grad = torch.tensor([[-0.5, -0.25, 9.0], [1.0, 0.0, 0.5], [0.0, 0.0, 0.0]])
    mask = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    advantages = torch.tensor([1.0, -2.0, 0.0])
    expected = torch.tensor([[1.0, 0.5, math.nan], [1.5, 0.0, 0.75], [math.nan] * 3])
    for kind in (mask, mask.bool(), mask.long()):
        c = token_coefficients(grad, advantages, kind)
        torch.testing.assert_close(c, expected, rtol=0, atol=0, equal_nan=True)


# KL ----------------------------------------------------------------------------------------------


def test_k3_divergence_equals_ratio_minus_log_ratio_minus_one():
    logprobs = torch.tensor([[-1.0, -2.0, -0.5, -3.0]], dtype=torch.float64)
    reference = torch.tensor([[-1.0, -1.0, -4.0, -3.001]], dtype=torch.float64)
    expected = [
        math.exp(r - p) - (r - p) - 1.0
        for p, r in zip(logprobs[0].tolist(), reference[0].tolist(), strict=True)
    ]
    got = k3_divergence(logprobs, reference)
    assert got[0, 0].item() == 0.0
    assert got[0].tolist() == pytest.approx(expected, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
def test_k3_divergence_is_non_negative_also_for_rounding_size_differences(dtype):
    sizes = torch.logspace(-12, 2, 4001, dtype=dtype)
    differences = torch.cat([-sizes, torch.zeros(1, dtype=dtype), sizes])
    divergence = k3_divergence(torch.zeros_like(differences), differences)
    assert torch.isfinite(divergence).all() and (divergence >= 0).all()
    assert (divergence[differences.abs() > 1e-2] > 0).all()


def test_k3_divergence_is_unbiased_for_kl_under_the_policy():
    """By enumeration: sum_y pi(y) k3(y) = KL(pi || ref), and not KL(ref || pi)."""
    pi = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    ref = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    estimate = (pi * k3_divergence(pi.log(), ref.log())).sum().item()
    exact = sum(p * math.log(p / q) for p, q in zip(pi.tolist(), ref.tolist(), strict=True))
    reverse = sum(q * math.log(q / p) for p, q in zip(pi.tolist(), ref.tolist(), strict=True))
    assert estimate == pytest.approx(exact, rel=1e-12)
    assert abs(estimate - reverse) > 0.01


def test_k3_gradient_pulls_the_policy_towards_the_reference():
    logprobs = torch.tensor([-1.0, -1.0], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([-0.5, -2.0], dtype=torch.float64)
    (grad,) = torch.autograd.grad(k3_divergence(logprobs, reference).sum(), logprobs)
    expected = [1.0 - math.exp(0.5), 1.0 - math.exp(-1.0)]
    assert grad.tolist() == pytest.approx(expected, rel=1e-12)


def test_k3_divergence_counts_a_difference_beyond_60_nats_as_60():
    """A token that the reference rules out, at log 0, costs 59 nats and not infinity."""
    reference = torch.tensor([-math.inf, -300.0, -60.0, 60.0, 300.0], dtype=torch.float64)
    divergence = k3_divergence(torch.zeros(5, dtype=torch.float64), reference)
    away, towards = math.exp(-60.0) + 59.0, math.exp(60.0) - 61.0
    assert divergence.tolist() == pytest.approx([away] * 3 + [towards] * 2, rel=1e-12)


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16))
def test_k3_divergence_of_half_precision_inputs_is_computed_in_float32(dtype):
    logprobs = torch.tensor([[-1.0, -20.0, -0.75]]).to(dtype)
    reference = torch.tensor([[-1.125, -1.0, -0.5]]).to(dtype)
    expected = k3_divergence(logprobs.float(), reference.float())
    got = k3_divergence(logprobs, reference)
    assert got.dtype == torch.float32
    assert torch.equal(got, expected)
