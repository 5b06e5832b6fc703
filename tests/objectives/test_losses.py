"""Every objective against plain loops, published implementations, closed forms and invariances."""

from __future__ import annotations

import math

import pytest
import torch

from sspo.objectives.losses import LOSSES
from support.loop_losses import (
    TOKEN_MEANS,
    gate_value,
    gate_weight,
    loop_gradient,
    loop_loss,
    ragged_batch,
    token_rows,
)
from support.loss_cases import (
    CASES,
    LENGTHS,
    MAX_TOKENS,
    PPO,
    SEQUENCE_MEAN,
    STOPPED,
    TAUS,
    UNCLIPPED,
    assert_same,
    coefficients_of,
    every_case,
    every_gate,
    loss_and_gradient,
    run_case,
    stats_of,
)


def test_the_table_holds_exactly_the_documented_objectives_and_their_means():
    responses = ("grpo", "gspo", "gmpo", "sapo", "sspo", "luspo")
    expected = dict.fromkeys(responses, "responses") | dict.fromkeys(TOKEN_MEANS, "tokens")
    means = {name: objective.over for name, objective in LOSSES.items()}
    assert means == expected | {"dr_grpo": "length"}


def test_a_batch_holds_its_sequences_or_its_response_tokens():
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    held = {name: objective.units(mask) for name, objective in LOSSES.items()}
    assert held == dict.fromkeys(LOSSES, 2.0) | dict.fromkeys(TOKEN_MEANS, 3.0)


# Plain loops -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@every_case
def test_loss_equals_the_plain_python_loop(case, seed):
    name, params = CASES[case]
    inputs = ragged_batch(seed)
    loss, _ = run_case(case, inputs)
    assert loss.dtype == torch.float64 and loss.ndim == 0
    assert loss.item() == pytest.approx(loop_loss(name, inputs, **params), rel=1e-12, abs=1e-13)


@every_case
def test_gradient_equals_central_differences_of_the_plain_python_loop(case):
    name, params = CASES[case]
    inputs = ragged_batch(1)
    _, grad = run_case(case, inputs)
    expected = loop_gradient(name, inputs, **params)
    assert grad.abs().max() > 1e-2
    torch.testing.assert_close(grad, expected, rtol=1e-6, atol=1e-9)


# gradcheck does not see a stop-gradient; the loop above does.
@pytest.mark.parametrize("case", [c for c, (name, _) in CASES.items() if name not in STOPPED])
def test_autograd_passes_gradcheck_away_from_kinks(case):
    name, params = CASES[case]
    inputs = ragged_batch(2, spread=1.0)
    log_ratio = inputs.logprobs - inputs.old_logprobs
    sequence = (log_ratio * inputs.mask).sum(1) / inputs.lengths.squeeze(1)
    kinks = torch.tensor([math.log(0.8), math.log(1.28), 0.4, -0.4, 1.0, -1.0, 1 / 1.6, -1 / 1.6])
    log_ratio = log_ratio[inputs.mask > 0]
    assert (log_ratio.unsqueeze(1) - kinks).abs().min() > 1e-4
    assert (sequence.unsqueeze(1) - torch.tensor([0.9, 1.15]).log()).abs().min() > 1e-4
    rest = list(inputs)[1:]
    leaf = inputs.logprobs.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, *rest, **params)[0], leaf)


# Equalities between objectives -----------------------------------------------------------------


@pytest.mark.parametrize("case", SEQUENCE_MEAN)
def test_on_policy_gradient_of_sequence_means_is_reinforce_per_token(case):
    inputs = ragged_batch().on_policy
    _, grad = run_case(case, inputs)
    expected = -inputs.mask * inputs.advantages.unsqueeze(1) / inputs.lengths / 6
    torch.testing.assert_close(grad, expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize(
    "case, denominator",
    [
        ("dr_grpo", 6 * MAX_TOKENS),
        *[(case, 22) for case, (name, _) in CASES.items() if name in TOKEN_MEANS],
        ("luspo", 6),
    ],
)
def test_on_policy_gradient_with_the_objectives_own_denominator(case, denominator):
    inputs = ragged_batch().on_policy
    assert inputs.mask.sum() == 22
    _, grad = run_case(case, inputs)
    expected = -inputs.mask * inputs.advantages.unsqueeze(1) / denominator
    torch.testing.assert_close(grad, expected, rtol=1e-13, atol=0)


def test_sspo_with_identity_gate_equals_unclipped_gspo():
    inputs = ragged_batch(spread=1.0)
    ours = loss_and_gradient("sspo", inputs, gate="log_identity", **TAUS)
    assert_same(ours, loss_and_gradient("gspo", inputs, **UNCLIPPED), rtol=1e-14)


def test_sspo_with_identity_gate_equals_unclipped_gmpo():
    inputs = ragged_batch(spread=1.0)
    ours = loss_and_gradient("sspo", inputs, gate="log_identity", **TAUS)
    assert_same(ours, loss_and_gradient("gmpo", inputs, clip=1e9), rtol=1e-14)


def test_sapo_with_identity_gate_equals_unclipped_grpo():
    inputs = ragged_batch(spread=1.0)
    ours = loss_and_gradient("sapo", inputs, gate="log_identity", **TAUS)
    assert_same(ours, loss_and_gradient("grpo", inputs, **UNCLIPPED), rtol=1e-14)


@every_gate
def test_sspo_equals_sapo_with_one_token_per_response(gate):
    inputs = token_rows([[-1.5], [-0.3], [0.0], [0.2], [2.0]], [1.0, -1.0, 0.5, -0.5, 0.3])
    ours = loss_and_gradient("sspo", inputs, gate=gate, **TAUS)
    assert_same(ours, loss_and_gradient("sapo", inputs, gate=gate, **TAUS), rtol=1e-14)


def test_gspo_equals_grpo_with_one_token_per_response():
    inputs = token_rows([[-1.5], [-0.3], [0.0], [0.2], [2.0]], [1.0, -1.0, 0.5, -0.5, 0.3])
    assert_same(loss_and_gradient("gspo", inputs, **PPO), loss_and_gradient("grpo", inputs, **PPO))


@every_gate
def test_sspo_gradient_is_advantage_over_length_times_sequence_weight_times_token_weight(gate):
    inputs = ragged_batch(3, spread=0.8)
    _, grad = loss_and_gradient("sspo", inputs, gate=gate, **TAUS)
    ratios = (inputs.logprobs - inputs.old_logprobs).exp().tolist()
    for i, (advantage, n) in enumerate(zip(inputs.advantages.tolist(), LENGTHS, strict=True)):
        tau = TAUS["tau_pos"] if advantage > 0 else TAUS["tau_neg"]
        row = ratios[i][:n]
        s = math.prod(gate_value(gate, r, tau) for r in row) ** (1.0 / n)
        expected = [-advantage / n * s * gate_weight(gate, r, tau) / 6 for r in row]
        assert grad[i, :n].tolist() == pytest.approx(expected, rel=1e-11, abs=1e-15)


@every_gate
def test_sspo_weighs_a_response_no_more_than_sapo_with_the_same_gate(gate):
    """Geometric against arithmetic mean; equal where all tokens of a response agree."""
    inputs = ragged_batch(spread=1.0)
    geometric = stats_of(f"sspo-{gate}", inputs)["sequence_weight"]
    arithmetic = stats_of(f"sapo-{gate}", inputs)["sequence_weight"]
    longer = inputs.lengths.squeeze(1) > 1
    assert (geometric[longer] < arithmetic[longer] - 1e-6).all()
    torch.testing.assert_close(geometric[~longer], arithmetic[~longer])


@pytest.mark.parametrize("ratio, coefficient", [(1.5, 1.13), (2.0, 1.08), (4.0, 0.38)])
def test_sspo_sigmoid_coefficient_of_one_moved_token_in_a_long_on_policy_response(
    ratio, coefficient
):
    inputs = token_rows([[math.log(ratio)] + [0.0] * 1999], [1.0])
    c = coefficients_of("sspo", inputs, gate="sigmoid", tau_pos=1.0, tau_neg=1.0)
    assert c[0, 0].item() == pytest.approx(coefficient, abs=6e-3)
    torch.testing.assert_close(c[0, 1:], torch.ones(1999).double(), rtol=1e-3, atol=0)
