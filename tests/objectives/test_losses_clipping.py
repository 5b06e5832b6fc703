"""Where gradient stops, by the sign of the advantage and the side of the ratio; gates that only fade it."""

from __future__ import annotations

import math

import pytest
import torch

from sspo.objectives.losses import LOSSES, token_coefficients
from support.loop_losses import (
    SMOOTH_GATES,
    Inputs,
    gate_weight,
    loop_sequence_weight,
    pessimistic_value,
    ragged_batch,
    token_rows,
)
from support.loss_cases import (
    LENGTHS,
    PPO,
    TAUS,
    UNCLIPPED,
    assert_same,
    coefficients_of,
    every_gate,
    loss_and_gradient,
)

# Clipping: sign of the advantage times side of the ratio ----------------------------------------

# Rows: A > 0 and A < 0; columns: ratio below, inside and above the clip; 1 where gradient flows.
FLOWS = {(1, "below"): 1, (1, "inside"): 1, (1, "above"): 0}


FLOWS |= {(-1, "below"): 0, (-1, "inside"): 1, (-1, "above"): 1}


SIDES = {"below": -0.9, "inside": 0.05, "above": 0.9}


QUADRANTS = list(FLOWS)


def quadrant_batch() -> Inputs:
    """All six cells in one batch, so that a sign shared by the rows cannot go unnoticed.

    Each row has one token in its cell and one on-policy.
    """
    return token_rows([[SIDES[side], 0.0] for _, side in QUADRANTS], [a for a, _ in QUADRANTS])


@pytest.mark.parametrize("name", ("grpo", "dr_grpo", "dapo"))
def test_ppo_clip_stops_a_token_only_where_its_advantage_would_push_it_further(name):
    params = {**PPO, "max_response_tokens": 2} if name == "dr_grpo" else PPO
    c = coefficients_of(name, quadrant_batch(), **params)
    for row, (sign, side) in enumerate(QUADRANTS):
        expected = FLOWS[sign, side] * math.exp(SIDES[side])
        assert c[row, 0].item() == pytest.approx(expected, rel=1e-13)
        assert (c[row, 0] == 0.0) == (FLOWS[sign, side] == 0)
        assert c[row, 1].item() == pytest.approx(1.0, rel=1e-13)


def test_gmpo_clips_on_one_side_and_only_the_token_not_the_sequence():
    c = coefficients_of("gmpo", quadrant_batch(), clip=0.4)
    for row, (sign, side) in enumerate(QUADRANTS):
        flows = FLOWS[sign, side]
        s = math.exp((SIDES[side] if flows else sign * 0.4) / 2)
        assert c[row, 0].item() == pytest.approx(flows * s, rel=1e-13)
        assert (c[row, 0] == 0.0) == (flows == 0)
        assert c[row, 1].item() == pytest.approx(s, rel=1e-13)


def test_gspo_stops_the_whole_response_only_where_its_advantage_would_push_it_further():
    c = coefficients_of("gspo", quadrant_batch(), **PPO)
    for row, (sign, side) in enumerate(QUADRANTS):
        expected = FLOWS[sign, side] * math.exp(SIDES[side] / 2)
        assert c[row].tolist() == pytest.approx([expected, expected], rel=1e-13)
        assert (c[row] == 0.0).all() == (FLOWS[sign, side] == 0)


def test_gspo_clips_by_the_sequence_ratio_even_where_every_token_is_outside():
    inputs = token_rows([[3.0, -3.0], [3.0, -3.0]], [1.0, -1.0])
    c = coefficients_of("gspo", inputs, clip_low=3e-4, clip_high=4e-4)
    torch.testing.assert_close(c, torch.ones(2, 2).double(), rtol=1e-13, atol=0)


def test_cispo_caps_the_weight_from_above_only_and_never_stops_a_token():
    inputs = quadrant_batch()
    _, grad = loss_and_gradient("cispo", inputs, clip_high=0.28)
    c = token_coefficients(grad * len(grad), inputs.advantages, inputs.mask)
    for row, (_, side) in enumerate(QUADRANTS):
        expected = min(math.exp(SIDES[side]), 1.28)
        assert c[row].tolist() == pytest.approx([expected, 1.0], rel=1e-13)


@pytest.mark.parametrize("name", ("sapo", "sspo"))
@pytest.mark.parametrize("gate", SMOOTH_GATES)
def test_a_soft_gate_never_stops_a_token_in_any_quadrant(name, gate):
    inputs = quadrant_batch()
    c = coefficients_of(name, inputs, gate=gate, **TAUS)
    assert (c > 0.05).all()
    moved = coefficients_of("gspo", inputs, **UNCLIPPED)[:, 0]
    above = torch.tensor([side == "above" for _, side in QUADRANTS])
    assert (c[above, 0] < moved[above]).all()


@pytest.mark.parametrize("name", ("sapo", "sspo"))
@pytest.mark.parametrize("gate", SMOOTH_GATES)
def test_tau_pos_acts_on_positive_and_tau_neg_on_other_advantages(name, gate):
    inputs = ragged_batch(spread=1.0)
    positive = inputs.advantages > 0
    negative = inputs.advantages < 0
    base = loss_and_gradient(name, inputs, gate=gate, tau_pos=1.0, tau_neg=1.6)[1]
    other_pos = loss_and_gradient(name, inputs, gate=gate, tau_pos=2.0, tau_neg=1.6)[1]
    other_neg = loss_and_gradient(name, inputs, gate=gate, tau_pos=1.0, tau_neg=2.5)[1]
    assert torch.equal(base[~positive], other_pos[~positive])
    assert torch.equal(base[positive], other_neg[positive])
    assert ((base - other_pos)[positive].abs().amax(1) > 1e-6).all()
    assert ((base - other_neg)[negative].abs().amax(1) > 1e-6).all()


@pytest.mark.parametrize("name", ("sapo", "sspo"))
def test_an_advantage_of_zero_counts_as_negative(name):
    inputs = token_rows([[0.5, -0.2]], [0.0])
    params = {"gate": "sigmoid", "tau_pos": 1.0, "tau_neg": 3.0}
    _, stats = LOSSES[name](*inputs, **params)
    expected = loop_sequence_weight(name, inputs, **params)
    assert stats["sequence_weight"].tolist() == pytest.approx(expected, rel=1e-13)
    assert expected != pytest.approx(loop_sequence_weight(name, inputs, **params | {"tau_neg": 1}))


# The pessimistic gate (ours) ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ("sapo", "sspo"))
@every_gate
def test_the_pessimistic_option_left_out_or_off_is_the_published_method(name, gate):
    inputs = ragged_batch(spread=1.0)
    published = loss_and_gradient(name, inputs, gate=gate, **TAUS)
    off = loss_and_gradient(name, inputs, gate=gate, pessimistic=False, **TAUS)
    assert torch.equal(published[0], off[0]) and torch.equal(published[1], off[1])


def test_pessimistic_sspo_with_a_hard_log_clip_is_gmpo():
    inputs = ragged_batch(spread=1.0)
    hard = {"gate": "log_clip", "tau_pos": 2.5, "tau_neg": 2.5, "pessimistic": True}
    ours = loss_and_gradient("sspo", inputs, **hard)
    assert_same(ours, loss_and_gradient("gmpo", inputs, clip=0.4), rtol=1e-13)


def test_pessimistic_sapo_with_a_hard_log_clip_is_grpo_with_the_same_bounds():
    inputs = ragged_batch(spread=1.0)
    hard = {"gate": "log_clip", "tau_pos": 4.0, "tau_neg": 4.0, "pessimistic": True}
    bounds = {"clip_low": 1.0 - math.exp(-0.25), "clip_high": math.exp(0.25) - 1.0}
    ours = loss_and_gradient("sapo", inputs, **hard)
    assert_same(ours, loss_and_gradient("grpo", inputs, **bounds), rtol=1e-13)


@pytest.mark.parametrize("gate", SMOOTH_GATES)
def test_pessimistic_coefficients_equal_the_closed_form(gate):
    inputs = ragged_batch(6, spread=0.8)
    params = {"gate": gate, "pessimistic": True, **TAUS}
    token, sequence = (coefficients_of(name, inputs, **params) for name in ("sapo", "sspo"))
    ratios = (inputs.logprobs - inputs.old_logprobs).exp().tolist()
    for i, (advantage, n) in enumerate(zip(inputs.advantages.tolist(), LENGTHS, strict=True)):
        if advantage == 0.0:
            continue
        tau = TAUS["tau_pos"] if advantage > 0 else TAUS["tau_neg"]
        values = [pessimistic_value(gate, r, tau, advantage > 0) for r in ratios[i][:n]]
        followed = [r if advantage > 0 else 1.0 / r for r in ratios[i][:n]]
        weights = [
            gate_weight(gate, d, tau) / gate_weight(gate, 1.0, tau) if d > 1.0 else 1.0
            for d in followed
        ]
        s = math.prod(values) ** (1.0 / n)
        by_sequence = [s * w for w in weights]
        by_token = [f * w for f, w in zip(values, weights, strict=True)]
        assert sequence[i, :n].tolist() == pytest.approx(by_sequence, rel=1e-10, abs=1e-14)
        assert token[i, :n].tolist() == pytest.approx(by_token, rel=1e-10, abs=1e-14)


@pytest.mark.parametrize("gate", ("sigmoid", "erf", "log_tanh", "log_erf"))
def test_pessimistic_sapo_closes_the_two_quadrants_that_ppo_cuts_and_keeps_ppos_ratio_in_the_others(
    gate,
):
    far = 4.0
    inputs = token_rows([[far], [-far], [far], [-far]], [1.0, 1.0, -1.0, -1.0])
    c = coefficients_of("sapo", inputs, gate=gate, tau_pos=2.0, tau_neg=2.0, pessimistic=True)
    assert c[0, 0] < 0.05 and c[3, 0] < 0.05
    assert c[1, 0].item() == pytest.approx(math.exp(-far), rel=1e-13)
    assert c[2, 0].item() == pytest.approx(math.exp(far), rel=1e-13)


@pytest.mark.parametrize("gate", SMOOTH_GATES)
def test_pessimistic_weight_of_a_followed_token_is_the_same_for_both_signs_and_falls_to_zero(gate):
    steps = [0.0, 0.5, 1.0, 2.0, 4.0, 8.0]
    rows = [[d, *[0.0] * 9_999] for d in steps] + [[-d, *[0.0] * 9_999] for d in steps]
    inputs = token_rows(rows, [1.0] * 6 + [-1.0] * 6)
    params = {"gate": gate, "tau_pos": 2.0, "tau_neg": 2.0, "pessimistic": True}
    c = coefficients_of("sspo", inputs, **params)[:, 0]
    torch.testing.assert_close(c[:6], c[6:], rtol=5e-3, atol=0)
    assert c[0].item() == pytest.approx(1.0, rel=1e-12)
    assert (c[1:6].diff() <= 0).all() and c[5] < 0.02


@pytest.mark.parametrize("tau", (0.5, 1.0, 5.0, 50.0))
def test_no_temperature_closes_the_published_sigmoid_gate_for_a_token_pushed_down(tau):
    """w / w(1) = 2 r (1 - sigmoid(tau (r - 1))) lies between r and 2 r for every r < 1."""
    ratios = [0.9, 0.5, 0.1, 0.01]
    rows = [[math.log(r), *[0.0] * 99_999] for r in ratios]
    params = {"gate": "sigmoid", "tau_pos": tau, "tau_neg": tau}
    published = coefficients_of("sspo", token_rows(rows, [-1.0] * 4), **params)[:, 0]
    for weight, ratio in zip(published.tolist(), ratios, strict=True):
        assert ratio * 0.99 < weight < 2.0 * ratio
    mended = coefficients_of("sspo", token_rows(rows, [-1.0] * 4), pessimistic=True, **params)
    assert mended[-1, 0] < 1e-6
