"""VESPO, LUSPO, MASPO and DGPO against closed forms: how much each token weighs."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from support.loop_losses import ragged_batch, token_rows
from support.loss_cases import (
    DGPO,
    LENGTHS,
    MASPO,
    PPO,
    UNCLIPPED,
    VESPO,
    assert_same,
    coefficients_of,
    loss_and_gradient,
    stats_of,
)


def token_weights(name, log_ratios, advantage, old_logprob=-1.0, **params) -> list[float]:
    """Weight of each token relative to on-policy, where every response is one token."""
    inputs = token_rows([[x] for x in log_ratios], [advantage] * len(log_ratios))
    shift = old_logprob + 1.0
    inputs = replace(
        inputs, logprobs=inputs.logprobs + shift, old_logprobs=inputs.old_logprobs + shift
    )
    return coefficients_of(name, inputs, **params)[:, 0].tolist()


# VESPO -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("advantage, k, decay", [(1.0, 2.0, 3.0), (-1.0, 3.0, 2.0)])
def test_vespo_weighs_every_token_of_a_response_by_phi_of_the_whole_responses_ratio(
    advantage, k, decay
):
    rows = [[0.3, -0.1, 0.2], [-0.5, 0.1, 0.0], [0.0, 0.0, 0.0]]
    c = coefficients_of("vespo", token_rows(rows, [advantage] * 3), **VESPO)
    for row, found in zip(rows, c.tolist(), strict=True):
        w = math.exp(sum(row))
        phi = w**k * math.exp(decay * (1.0 - w))
        assert found == pytest.approx([phi] * 3, rel=1e-12)


def test_vespo_counts_an_advantage_of_zero_as_positive():
    inputs = token_rows([[0.5], [0.5], [0.5]], [1.0, 0.0, -1.0])
    weight = stats_of("vespo", inputs)["sequence_weight"]
    assert weight[0] == weight[1] and weight[1] != weight[2]


@pytest.mark.parametrize("sign", ("pos", "neg"))
def test_vespo_weighs_most_at_the_ratio_k_over_lambda_and_vanishes_on_both_sides(sign):
    params = {f"k_{sign}": 3.0, f"lambda_{sign}": 2.0}
    log_ratios = torch.linspace(-6.0, 3.0, 901).tolist()
    found = token_weights("vespo", log_ratios, 1.0 if sign == "pos" else -1.0, **VESPO | params)
    peak = log_ratios[found.index(max(found))]
    assert peak == pytest.approx(math.log(1.5), abs=0.011)
    assert found[0] < 1e-6 and found[-1] < 1e-6


def test_vespo_bounds_a_tokens_log_ratio_before_it_sums_and_the_sum_after():
    plain = {**VESPO, "k_pos": 0.1, "lambda_pos": 1e-12}
    bounded = coefficients_of(
        "vespo", token_rows([[30.0, -25.0], [-40.0, 0.0]], [1.0, 1.0]), **plain
    )
    assert bounded[0, 0].item() == pytest.approx(1.0)  # 20 - 20, not 30 - 25
    assert bounded[1, 0].item() == pytest.approx(1e-8**0.1)


# LUSPO -------------------------------------------------------------------------------------------


def test_luspo_is_gspo_with_every_response_counted_once_per_token():
    inputs = ragged_batch(3, spread=0.3)
    clip = {"clip_low": 0.1, "clip_high": 0.15}
    _, grad = loss_and_gradient("luspo", inputs, **clip)
    _, expected = loss_and_gradient("gspo", inputs, **clip)
    lengths = torch.tensor(LENGTHS, dtype=torch.float64).unsqueeze(1)
    torch.testing.assert_close(grad, lengths * expected, rtol=1e-14, atol=0)
    assert (grad == 0.0).all(dim=1).sum() > 1  # the advantage of 0, and a clipped response


# MASPO -------------------------------------------------------------------------------------------


def test_maspo_closes_on_the_sides_that_ppos_min_cuts_and_keeps_the_ratio_on_the_others():
    log_ratios = [-0.5, 0.0, 0.5]
    ratios = [math.exp(x) for x in log_ratios]
    width = math.exp(0.3)  # sigma / pi_old^0.3 at pi_old = 1 / e
    for advantage in (1.0, -1.0):
        factor = 1.03 if advantage > 0.0 else 1.0 / 1.03
        expected = [
            r * math.exp(-((r - 1.0) ** 2) / (2.0 * (width * factor) ** 2))
            if (r - 1.0) * advantage > 0.0
            else r
            for r in ratios
        ]
        found = token_weights("maspo", log_ratios, advantage, **MASPO)
        assert found == pytest.approx(expected, rel=1e-12)


def test_maspo_without_a_bound_on_its_width_is_the_ungated_token_objective():
    inputs = ragged_batch(spread=1.0)
    for sigma, tolerance in ((1e3, 1e-4), (1e9, 1e-14)):
        wide = MASPO | {"sigma": sigma, "sigma_high": sigma}
        ours = loss_and_gradient("maspo", inputs, **wide)
        assert_same(ours, loss_and_gradient("dapo", inputs, **UNCLIPPED), rtol=tolerance)


def test_maspo_gives_rare_tokens_a_wider_gate_up_to_its_bound():
    weights = [
        token_weights("maspo", [1.0], 1.0, old_logprob=old, **MASPO)[0]
        for old in (0.0, -1.0, -4.0, -7.0, -8.0, -300.0)
    ]
    assert weights == sorted(weights) and len({*weights}) == 5
    assert weights[-1] == weights[-2]  # 1 / pi_old^0.3 is above 10 from exp(-7.7) on
    factor = 1.03
    for weight, width in ((weights[0], factor), (weights[-1], 10.0 * factor)):
        expected = math.e * math.exp(-((math.e - 1.0) ** 2) / (2.0 * width**2))
        assert weight == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("advantage, factor", [(2.0, 1.5), (2.1, 1.5), (-2.0, 0.6), (-9.0, 0.6)])
def test_maspo_bounds_what_the_advantage_does_to_the_width(advantage, factor):
    params = MASPO | {"beta": 0.5, "alpha": 0.0, "advantage_low": 0.6, "advantage_high": 1.5}
    log_ratio = 0.7 if advantage > 0.0 else -0.7
    (found,) = token_weights("maspo", [log_ratio], advantage, **params)
    ratio = math.exp(log_ratio)
    expected = ratio * math.exp(-((ratio - 1.0) ** 2) / (2.0 * factor**2))
    assert found == pytest.approx(expected, rel=1e-12)


# DGPO --------------------------------------------------------------------------------------------


def test_dgpo_inside_its_bounds_is_the_token_mean_of_ppo():
    inputs = ragged_batch(spread=0.05)
    inside = (inputs.logprobs - inputs.old_logprobs).abs() < 0.2
    inputs = replace(inputs, mask=inputs.mask * inside)
    assert inputs.mask.sum() > 15
    ours = loss_and_gradient("dgpo", inputs, **DGPO)
    assert_same(ours, loss_and_gradient("dapo", inputs, **PPO), rtol=1e-14)


def test_dgpo_keeps_the_ratio_where_ppos_min_does_not_cut():
    for advantage, log_ratios in ((1.0, [-3.0, -0.5, 0.2]), (-1.0, [-0.2, 0.5, 3.0])):
        found = token_weights("dgpo", log_ratios, advantage, **DGPO)
        assert found == pytest.approx([math.exp(x) for x in log_ratios], rel=1e-14)


@pytest.mark.parametrize("n, m", [(1.0, 2.0), (3.0, 0.5)])
def test_dgpo_decays_as_a_power_of_the_ratio_beyond_its_bounds(n, m):
    params = {**PPO, "n": n, "m": m}
    down = token_weights("dgpo", [-0.5, -2.0, -4.0], -1.0, **params)
    expected = [math.exp(-x * (n + 1.0)) / 0.8**n for x in (0.5, 2.0, 4.0)]
    assert down == pytest.approx(expected, rel=1e-12)
    up = token_weights("dgpo", [0.5, 2.0, 4.0], 1.0, **params)
    expected = [math.exp(x * (1.0 - 1.0 / m)) * 1.28 ** (1.0 / m) for x in (0.5, 2.0, 4.0)]
    assert up == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("advantage, bound", [(1.0, math.log(1.28)), (-1.0, math.log(0.8))])
def test_dgpo_is_continuous_at_its_bounds(advantage, bound):
    inside, beyond = token_weights("dgpo", [bound * 0.999999, bound * 1.000001], advantage, **DGPO)
    assert inside == pytest.approx(beyond, rel=1e-5)
