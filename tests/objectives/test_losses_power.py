"""SSPO's power mean: 0 is the geometric mean to the bit, 1 is SAPO, and the others lie in order."""

from __future__ import annotations

import math

import pytest
import torch

from sspo.objectives.batch import prepare
from sspo.objectives.losses import LOSSES
from support.loop_losses import gate_value, gate_weight, ragged_batch, token_rows
from support.loss_cases import (
    LENGTHS,
    TAUS,
    assert_same,
    coefficients_of,
    every_gate,
    loss_and_gradient,
)

SIGMOID = {"gate": "sigmoid", **TAUS}
NEAR_0 = [sign * size for size in (1e-6, 1e-4, 1e-2) for sign in (-1.0, 1.0)]


def weights(inputs, power, **params):
    params = SIGMOID | params
    return LOSSES["sspo"](*inputs, power=power, **params)[1]["sequence_weight"]


@every_gate
def test_power_0_is_the_published_geometric_mean_to_the_bit(gate):
    inputs = ragged_batch(spread=1.0)
    published = loss_and_gradient("sspo", inputs, gate=gate, **TAUS)
    for power in (0, 0.0, -0.0):
        got = loss_and_gradient("sspo", inputs, gate=gate, power=power, **TAUS)
        assert torch.equal(got[0], published[0]) and torch.equal(got[1], published[1])


@pytest.mark.parametrize("pessimistic", (False, True))
@every_gate
def test_power_1_is_sapo_with_the_same_gate(gate, pessimistic):
    inputs = ragged_batch(spread=1.0)
    params = {"gate": gate, "pessimistic": pessimistic, **TAUS}
    ours = loss_and_gradient("sspo", inputs, power=1.0, **params)
    assert_same(ours, loss_and_gradient("sapo", inputs, **params), rtol=1e-13)


def test_power_minus_1_is_the_harmonic_mean_of_the_gates():
    inputs = token_rows([[0.7, -0.4, 0.1]], [1.0])
    gates = [gate_value("sigmoid", math.exp(x), 1.0) for x in (0.7, -0.4, 0.1)]
    loss, _ = loss_and_gradient("sspo", inputs, power=-1.0, **SIGMOID)
    assert loss.item() == pytest.approx(-3.0 / sum(1.0 / f for f in gates), rel=1e-13)


@pytest.mark.parametrize("power", NEAR_0)
def test_gradcheck_passes_near_power_0_from_both_sides(power):
    inputs = ragged_batch(2, spread=1.0)
    rest = list(inputs)[1:]
    leaf = inputs.logprobs.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: LOSSES["sspo"](x, *rest, power=power, **SIGMOID)[0], leaf
    )


@every_gate
def test_the_geometric_mean_is_the_limit_from_both_sides(gate):
    """log M_p = mean log f + (p / 2) var log f + O(p^2)."""
    inputs = ragged_batch(spread=1.0)
    at_0 = loss_and_gradient("sspo", inputs, gate=gate, **TAUS)
    differences = []
    for power in (-1e-4, 1e-4):
        near = loss_and_gradient("sspo", inputs, gate=gate, power=power, **TAUS)
        assert_same(near, at_0, rtol=2e-4, atol=1e-5)
        differences.append(
            (weights(inputs, power, gate=gate) / weights(inputs, 0.0, gate=gate)).log()
        )
    below, above = differences
    longer = (inputs.lengths > 1).squeeze(1)
    assert (below[longer] < 0.0).all() and (above[longer] > 0.0).all()
    torch.testing.assert_close(above, -below, rtol=1e-2, atol=1e-12)


@pytest.mark.parametrize("dtype, rtol", [(torch.float64, 1e-9), (torch.float32, 1e-6)])
def test_no_digits_are_lost_at_the_smallest_power(dtype, rtol):
    inputs = ragged_batch(spread=1.0).to(dtype)
    for power in (-1e-6, 1e-6):
        near, at_0 = (weights(inputs, p, gate="log_tanh").double() for p in (power, 0.0))
        expected = torch.zeros(6, dtype=torch.float64)
        batch = prepare(*inputs)
        log_f = torch.tanh(torch.where(batch.advantages > 0, 1.0, 1.6) * batch.log_ratio)
        log_f = (log_f / torch.where(batch.advantages > 0, 1.0, 1.6)).double()
        for i, n in enumerate(LENGTHS):
            expected[i] = 0.5 * power * log_f[i, :n].var(unbiased=False)
        torch.testing.assert_close((near / at_0).log(), expected, rtol=1e-3, atol=rtol)


@every_gate
def test_a_response_weighs_more_the_higher_the_power(gate):
    """The inequality of power means; responses of one token have one weight."""
    inputs = ragged_batch(spread=1.0)
    powers = (-1e6, -50.0, -1.0, -1e-3, 0.0, 1e-3, 1.0, 50.0, 1e6)
    found = torch.stack([weights(inputs, p, gate=gate) for p in powers])
    longer = (inputs.lengths > 1).squeeze(1)
    assert (found.diff(dim=0)[:, longer] > 0.0).all()
    torch.testing.assert_close(found[:, ~longer], found[:1, ~longer].expand(len(powers), -1))


@pytest.mark.parametrize("sign", (-1.0, 1.0))
def test_a_large_power_is_the_largest_gate_and_a_large_negative_one_the_smallest(sign):
    inputs = token_rows([[1.0, -1.0, 0.3]], [1.0])
    gates = [gate_value("log_tanh", math.exp(x), 1.0) for x in (1.0, -1.0, 0.3)]
    extreme = max(gates) if sign > 0 else min(gates)
    (found,) = weights(inputs, 1e6 * sign, gate="log_tanh").tolist()
    assert found == pytest.approx(extreme, rel=1e-5)
    c = coefficients_of("sspo", inputs, gate="log_tanh", power=1e6 * sign, **TAUS)[0]
    chosen = gates.index(extreme)
    weight = gate_weight("log_tanh", math.exp([1.0, -1.0, 0.3][chosen]), 1.0)
    assert c[chosen].item() == pytest.approx(3.0 * extreme * weight, rel=1e-5)
    assert all(c[i] == 0.0 for i in range(3) if i != chosen)


@pytest.mark.parametrize("power", (-1e6, -1e3, -2.0, -1e-6, 1e-6, 2.0, 1e3, 1e6))
@every_gate
def test_every_power_is_finite_in_float32_at_log_ratio_50(gate, power):
    patterns = [[50.0] * 4, [-50.0] * 4, [50.0, -50.0, 50.0, -50.0], [0.0, 0.0, 50.0, -50.0]]
    inputs = token_rows(patterns * 2, [1.0] * 4 + [-1.0] * 4).to(torch.float32)
    loss, grad = loss_and_gradient("sspo", inputs, gate=gate, power=power, **TAUS)
    assert torch.isfinite(loss) and torch.isfinite(grad).all()
    assert torch.isfinite(weights(inputs, power, gate=gate)).all()


@pytest.mark.parametrize("power", (-2.0, 0.5))
def test_a_response_without_tokens_weighs_what_it_weighs_at_power_0(power):
    inputs = ragged_batch()
    inputs.mask[2] = 0.0
    assert weights(inputs, power)[2] == weights(inputs, 0.0)[2]


@pytest.mark.parametrize("power", (-2.0, 0.5, 3.0))
@every_gate
def test_the_coefficient_is_the_mean_times_the_weight_times_the_tokens_share(gate, power):
    inputs = ragged_batch(6, spread=0.8)
    c = coefficients_of("sspo", inputs, gate=gate, power=power, **TAUS)
    ratios = (inputs.logprobs - inputs.old_logprobs).exp().tolist()
    for i, (advantage, n) in enumerate(zip(inputs.advantages.tolist(), LENGTHS, strict=True)):
        if advantage == 0.0:
            continue
        tau = TAUS["tau_pos"] if advantage > 0 else TAUS["tau_neg"]
        powers = [gate_value(gate, r, tau) ** power for r in ratios[i][:n]]
        mean = sum(powers) / n
        expected = [
            mean ** (1.0 / power) * gate_weight(gate, r, tau) * f / mean
            for r, f in zip(ratios[i][:n], powers, strict=True)
        ]
        assert c[i, :n].tolist() == pytest.approx(expected, rel=1e-11, abs=1e-15)
