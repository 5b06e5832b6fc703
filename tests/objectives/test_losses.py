"""Every objective against plain loops, published implementations, closed forms and invariances."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sspo.objectives.losses import LOSSES, check_objective, k3_divergence, token_coefficients
from support.loop_losses import (
    ALL_GATES,
    SMOOTH_GATES,
    Inputs,
    gate_value,
    gate_weight,
    loop_gradient,
    loop_loss,
    loop_sequence_weight,
    pessimistic_value,
    ragged_batch,
    token_rows,
)

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


def test_the_table_holds_exactly_the_documented_objectives_and_their_means():
    responses = dict.fromkeys(("grpo", "gspo", "gmpo", "sapo", "sspo"), "responses")
    means = {name: objective.over for name, objective in LOSSES.items()}
    assert means == responses | {"dr_grpo": "length", "dapo": "tokens", "cispo": "tokens"}


def test_a_batch_holds_its_sequences_or_its_response_tokens():
    mask = torch.tensor([[1, 1, 0], [1, 0, 0]])
    held = {name: objective.units(mask) for name, objective in LOSSES.items()}
    assert held == dict.fromkeys(LOSSES, 2.0) | {"dapo": 3.0, "cispo": 3.0}


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


@every_case
def test_autograd_passes_gradcheck_away_from_kinks(case):
    name, params = CASES[case]
    inputs = ragged_batch(2, spread=1.0)
    if name == "cispo":
        # Finite differences do not see a stop-gradient, so hold the weight at its cap.
        inputs = replace(inputs, old_logprobs=inputs.logprobs - 0.5)
    log_ratio = inputs.logprobs - inputs.old_logprobs
    sequence = (log_ratio * inputs.mask).sum(1) / inputs.lengths.squeeze(1)
    kinks = torch.tensor([math.log(0.8), math.log(1.28), 0.4, -0.4, 1.0, -1.0, 1 / 1.6, -1 / 1.6])
    log_ratio = log_ratio[inputs.mask > 0]
    assert (log_ratio.unsqueeze(1) - kinks).abs().min() > 1e-4
    assert (sequence.unsqueeze(1) - torch.tensor([0.9, 1.15]).log()).abs().min() > 1e-4
    rest = list(inputs)[1:]
    leaf = inputs.logprobs.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, *rest, **params)[0], leaf)


# Published implementations, in their own vectorised style ---------------------------------------


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


# Equalities between objectives -----------------------------------------------------------------


@pytest.mark.parametrize("case", SEQUENCE_MEAN)
def test_on_policy_gradient_of_sequence_means_is_reinforce_per_token(case):
    inputs = ragged_batch().on_policy
    _, grad = run_case(case, inputs)
    expected = -inputs.mask * inputs.advantages.unsqueeze(1) / inputs.lengths / 6
    torch.testing.assert_close(grad, expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize(
    "case, denominator", [("dr_grpo", 6 * MAX_TOKENS), ("dapo", 22), ("cispo", 22)]
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


# Invariances -----------------------------------------------------------------------------------


@pytest.mark.parametrize("garbage", (math.nan, math.inf, -math.inf, 1e30))
@every_case
def test_content_of_masked_positions_changes_neither_loss_nor_gradient(case, garbage):
    inputs = ragged_batch()
    loss, grad = run_case(case, inputs)
    padding = inputs.mask == 0
    for dirty in ("logprobs", "old_logprobs"):
        clean = getattr(inputs, dirty)
        spoiled = replace(inputs, **{dirty: clean.masked_fill(padding, garbage)})
        spoiled_loss, spoiled_grad = run_case(case, spoiled)
        assert torch.equal(spoiled_loss, loss) and torch.equal(spoiled_grad, grad)
        for key, value in stats_of(case, spoiled).items():
            assert torch.equal(value, stats_of(case, inputs)[key])
    assert (grad[padding] == 0.0).all()


@every_case
def test_appended_masked_tokens_change_neither_loss_nor_gradient(case):
    inputs = ragged_batch()
    pad = torch.nn.functional.pad
    longer = Inputs(
        pad(inputs.logprobs, (0, 5), value=-3.0),
        pad(inputs.old_logprobs, (0, 5), value=-1.0),
        inputs.advantages,
        pad(inputs.mask, (0, 5)),
    )
    loss, grad = run_case(case, longer)
    assert (grad[:, 8:] == 0.0).all()
    assert_same((loss, grad[:, :8]), run_case(case, inputs), rtol=1e-13)


@every_case
def test_masked_tokens_inside_a_response_act_as_if_absent(case):
    """Left padding and gaps: only the mask says what counts."""
    inputs = ragged_batch()
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    mixed = Inputs(*(t[:, order] if t.ndim == 2 else t for t in inputs))
    loss, grad = run_case(case, mixed)
    assert_same((loss, grad[:, order.argsort()]), run_case(case, inputs), rtol=1e-12)


@every_case
def test_batch_order_changes_neither_loss_nor_gradient(case):
    inputs = ragged_batch()
    order = torch.tensor([3, 5, 0, 2, 4, 1])
    loss, grad = run_case(case, inputs.rows(order))
    expected_loss, expected_grad = run_case(case, inputs)
    assert_same((loss, grad), (expected_loss, expected_grad[order]), rtol=1e-13)
    for key, value in stats_of(case, inputs.rows(order)).items():
        torch.testing.assert_close(value, stats_of(case, inputs)[key][order], rtol=1e-14, atol=0)


@pytest.mark.parametrize("sizes", ([1, 2, 3], [4, 2], [1] * 6))
@every_case
def test_micro_batches_weighted_by_unit_reproduce_loss_gradient_and_stats(case, sizes):
    inputs = ragged_batch(4)
    name, _ = CASES[case]
    pieces = [inputs.rows(part) for part in torch.arange(6).split(sizes)]
    token = LOSSES[name].over == "tokens"
    counts = [p.mask.sum().item() if token else len(p.advantages) for p in pieces]
    results = [run_case(case, piece) for piece in pieces]
    shares = [count / sum(counts) for count in counts]
    loss = sum(share * piece for share, (piece, _) in zip(shares, results, strict=True))
    grad = torch.cat([share * piece for share, (_, piece) in zip(shares, results, strict=True)])
    expected = run_case(case, inputs)
    assert_same((loss, grad), expected, rtol=1e-12)
    for key, value in stats_of(case, inputs).items():
        parts = torch.cat([stats_of(case, piece)[key] for piece in pieces])
        torch.testing.assert_close(parts, value, rtol=1e-14, atol=0)


@every_case
def test_zero_advantages_give_exactly_zero_gradient(case):
    inputs = replace(ragged_batch(spread=2.0), advantages=torch.zeros(6).double())
    loss, grad = run_case(case, inputs)
    assert loss.item() == 0.0 and torch.equal(grad, torch.zeros_like(grad))


@every_case
def test_the_tokens_of_a_zero_advantage_response_do_not_matter(case):
    inputs = ragged_batch()
    loss, grad = run_case(case, inputs)
    moved = inputs.logprobs.clone()
    moved[3] -= 2.0
    assert inputs.advantages[3] == 0.0 and (grad[3] == 0.0).all()
    assert_same(run_case(case, replace(inputs, logprobs=moved)), (loss, grad), rtol=0, atol=0)


# Numbers -----------------------------------------------------------------------------------------


@every_case
def test_loss_and_gradient_are_finite_in_float32_at_log_ratio_50(case):
    patterns = [[50.0] * 4, [-50.0] * 4, [50.0, -50.0, 50.0, -50.0], [0.0, 0.0, 50.0, -50.0]]
    inputs = token_rows(patterns * 3, [1.0] * 4 + [-1.0] * 4 + [0.0] * 4).to(torch.float32)
    loss, grad = run_case(case, inputs)
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss) and torch.isfinite(grad).all()
    assert all(torch.isfinite(value).all() for value in stats_of(case, inputs).values())


@pytest.mark.parametrize("dtype, rtol", [(torch.float64, 1e-12), (torch.float32, 3e-5)])
@every_case
def test_loss_equals_the_plain_python_loop_at_log_ratio_50(case, dtype, rtol):
    """Nothing between the bound of 60 and zero is cut off but by the objective itself."""
    name, params = CASES[case]
    for row in ([50.0, 50.0], [-50.0, -50.0], [50.0, -20.0], [-50.0, 10.0]):
        for advantage in (1.0, -1.0):
            inputs = token_rows([row], [advantage])
            loss, _ = run_case(case, inputs.to(dtype))
            expected = loop_loss(name, inputs, **params)
            assert loss.item() == pytest.approx(expected, rel=rtol, abs=1e-300)


@every_case
def test_log_ratios_beyond_the_bound_stay_finite(case):
    inputs = token_rows([[300.0, 0.0], [-300.0, 0.0]] * 2, [1.0, 1.0, -1.0, -1.0])
    loss, grad = run_case(case, inputs.to(torch.float32))
    assert torch.isfinite(loss) and torch.isfinite(grad).all()


@every_case
def test_a_log_ratio_beyond_60_nats_counts_as_60(case):
    inputs = token_rows([[300.0, 0.0], [-300.0, 0.0]] * 2, [1.0, 1.0, -1.0, -1.0])
    at_the_bound = token_rows([[60.0, 0.0], [-60.0, 0.0]] * 2, [1.0, 1.0, -1.0, -1.0])
    for key, value in stats_of(case, inputs).items():
        torch.testing.assert_close(value, stats_of(case, at_the_bound)[key], rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16))
@every_case
def test_half_precision_inputs_are_computed_in_float32(case, dtype):
    inputs = ragged_batch().to(dtype)
    loss, grad = run_case(case, inputs)
    expected_loss, expected_grad = run_case(case, inputs.to(torch.float32))
    assert loss.dtype == torch.float32 and grad.dtype == dtype
    assert torch.equal(loss, expected_loss)
    assert torch.equal(grad, expected_grad.to(dtype))
    assert all(v.dtype == torch.float32 for v in stats_of(case, inputs).values())


@every_case
def test_float64_stays_float64(case):
    inputs = ragged_batch()
    loss, grad = run_case(case, inputs)
    assert loss.dtype == grad.dtype == torch.float64
    assert all(v.dtype == torch.float64 for v in stats_of(case, inputs).values())
    single, _ = run_case(case, inputs.to(torch.float32))
    assert single.dtype == torch.float32
    assert single.item() == pytest.approx(loss.item(), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("dtype", (torch.bool, torch.int64, torch.float32))
@every_case
def test_mask_may_have_any_dtype(case, dtype):
    inputs = ragged_batch()
    recast = replace(inputs, mask=inputs.mask.to(dtype))
    assert_same(run_case(case, recast), run_case(case, inputs), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.int64, torch.float32))
@every_case
def test_advantages_may_have_any_dtype(case, dtype):
    inputs = replace(ragged_batch(), advantages=torch.tensor([1, -1, 2, 0, -2, 1]).double())
    recast = replace(inputs, advantages=inputs.advantages.to(dtype))
    assert_same(run_case(case, recast), run_case(case, inputs), rtol=0, atol=0)


@every_case
def test_a_mask_of_half_precision_counts_every_token(case):
    """bfloat16 has no 1001: counted in it, a response of that length would have 1000 tokens."""
    inputs = token_rows([[0.1] * 1001], [1.0])
    recast = replace(inputs, mask=inputs.mask.bfloat16())
    assert_same(run_case(case, recast), run_case(case, inputs), rtol=0, atol=0)
    assert LOSSES["dapo"].units(recast.mask) == 1001
    grad = torch.full_like(inputs.logprobs, -1.0 / 1001)
    coefficients = token_coefficients(grad, inputs.advantages, recast.mask)
    torch.testing.assert_close(coefficients, torch.ones_like(grad))


@every_case
def test_a_response_without_tokens_has_no_gradient_and_changes_no_other(case):
    inputs = ragged_batch()
    mask = inputs.mask.clone()
    mask[2] = 0.0
    others = [i for i in range(len(mask)) if i != 2]
    loss, grad = run_case(case, replace(inputs, mask=mask))[:2]
    _, expected = run_case(case, type(inputs)(*(tensor[others] for tensor in inputs)))[:2]
    by_responses = case in SEQUENCE_MEAN or case == "dr_grpo"
    share = len(others) / len(mask) if by_responses else 1.0
    assert torch.isfinite(loss)
    torch.testing.assert_close(grad[others], share * expected)
    assert not grad[2].any()


@every_case
def test_the_precision_is_that_of_the_new_logprobs(case):
    inputs = ragged_batch().to(torch.float32)
    recast = replace(inputs, old_logprobs=inputs.old_logprobs.double())
    assert_same(run_case(case, recast), run_case(case, inputs), rtol=0, atol=0)
    assert all(v.dtype == torch.float32 for v in stats_of(case, recast).values())


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


# Errors ------------------------------------------------------------------------------------------


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
]


@pytest.mark.parametrize("name, params", VALID, ids=lambda v: v if isinstance(v, str) else "")
def test_check_objective_accepts_the_published_settings(name, params):
    before = dict(params)
    assert check_objective(name, params) is None
    assert params == before


SSPO = {"gate": "sigmoid", "tau_pos": 1.0, "tau_neg": 1.0}
DR_GRPO = {"clip_low": 0.2, "clip_high": 0.2, "max_response_tokens": 8}
INVALID = [
    ("ppo", {}, "'ppo'; choose one of grpo, dr_grpo, dapo, cispo, gspo, gmpo, sapo, sspo$"),
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
