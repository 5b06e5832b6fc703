"""The exact study against autograd, enumeration of whole groups, closed forms and hand counts."""

import itertools
import math

import pytest
import torch

from sspo.evidence.exact.gradients import (
    QUADRANTS,
    describe,
    enumerate_world,
    estimate,
    exact_advantages,
    exact_study,
    expected_reward,
    moved,
    policy_gradient,
    response_logprobs,
)
from sspo.objectives.advantages import group_advantages
from sspo.objectives.losses import LOSSES
from support.exact_methods import CONFIG, METHODS, NO_CLIP, method

every_method = pytest.mark.parametrize("name", METHODS)


def random_logits(world, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(world.table, generator=generator, dtype=torch.float64)


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return torch.cosine_similarity(a.flatten(), b.flatten(), dim=0).item()


# The world


def test_fixed_lengths_enumerate_every_word_and_every_prefix():
    world = enumerate_world(3, 4, 2, variable=False)
    assert world.tokens.shape == (81, 4) and len({tuple(w) for w in world.tokens.tolist()}) == 81
    assert world.mask.all()
    assert world.table == (2, 1 + 3 + 9 + 27, 3)


def test_variable_lengths_end_with_token_zero_or_at_the_limit():
    world = enumerate_world(3, 3, 1, variable=True)
    # lengths 1, 2, 3: 1, 2, 4 ended words and 8 cut off
    lengths = world.mask.sum(dim=1).tolist()
    assert sorted(lengths) == [1.0] + [2.0] * 2 + [3.0] * 12
    assert world.table == (1, 1 + 2 + 4, 3)
    cut = (world.tokens[:, 2] != 0) & (world.mask[:, 2] > 0)
    assert cut.sum() == 8 and (world.rewards[:, cut] == 0.0).all()


@pytest.mark.parametrize("variable", [False, True])
def test_rewards_follow_the_rule_and_every_prompt_has_right_and_wrong_responses(variable):
    world = enumerate_world(3, 3, 2, variable)
    for x in range(2):
        for word, mask, reward in zip(
            world.tokens.tolist(), world.mask.tolist(), world.rewards[x].tolist(), strict=True
        ):
            ended = 0 in word[: int(sum(mask))] if variable else True
            assert reward == float(sum(word) % 3 == x and ended)
        assert 0.0 < world.rewards[x].mean() < 1.0


@pytest.mark.parametrize("variable", [False, True])
def test_probabilities_of_all_responses_add_up_to_one(variable):
    world = enumerate_world(3, 4, 2, variable)
    total = response_logprobs(world, random_logits(world)).sum(dim=-1).exp().sum(dim=-1)
    torch.testing.assert_close(total, torch.ones(2).double(), rtol=1e-13, atol=0)


def test_log_probabilities_are_products_of_softmax_rows_looked_up_by_prefix():
    world = enumerate_world(2, 2, 1, variable=False)
    table = random_logits(world).softmax(dim=-1)[0]
    # prefixes in order: (), (0,), (1,); words in order: 00, 01, 10, 11
    p = response_logprobs(world, random_logits(world)).sum(dim=-1).exp()[0].tolist()
    expected = [table[0, a] * table[1 + a, b] for a in (0, 1) for b in (0, 1)]
    assert p == pytest.approx([e.item() for e in expected])


# The true gradient


@pytest.mark.parametrize("variable", [False, True])
def test_policy_gradient_equals_central_differences_and_the_score_function(variable):
    world = enumerate_world(3, 3, 2, variable)
    logits = random_logits(world)
    truth = policy_gradient(world, logits)
    for index in [(0, 0, 0), (1, 2, 1), (0, 3, 2)]:
        sides = []
        for step in (1e-6, -1e-6):
            shifted = logits.clone()
            shifted[index] += step
            sides.append(expected_reward(world, shifted).item())
        difference = (sides[0] - sides[1]) / 2e-6
        assert truth[index].item() == pytest.approx(difference, abs=1e-9)
    leaf = logits.clone().requires_grad_()
    logprobs = response_logprobs(world, leaf).sum(dim=-1)
    advantages = exact_advantages(world, logits, normalize_std=False)
    surrogate = (logprobs.exp().detach() * advantages * logprobs).sum(dim=-1).mean()
    (score,) = torch.autograd.grad(surrogate, leaf)
    torch.testing.assert_close(truth, score, rtol=1e-10, atol=1e-14)


def test_exact_advantages_have_mean_zero_and_where_asked_variance_one():
    world = enumerate_world(3, 3, 2, variable=True)
    logits = random_logits(world)
    chance = response_logprobs(world, logits).sum(dim=-1).exp()
    for normalize in (False, True):
        advantages = exact_advantages(world, logits, normalize)
        assert (chance * advantages).sum(dim=-1).abs().max() < 1e-14
    assert (chance * advantages.square()).sum(dim=-1).tolist() == pytest.approx([1.0, 1.0])


# The estimate


def autograd_mean(world, logits, old, setting) -> torch.Tensor:
    """The expected ascent direction from the loss of every response by itself."""
    leaf = logits.clone().requires_grad_()
    now, then = response_logprobs(world, leaf), response_logprobs(world, old)
    advantages = exact_advantages(world, old, setting["normalize_std"])
    chance = then.sum(dim=-1).exp() / len(then)
    lengths = world.mask.sum(dim=-1)
    total = 0.0
    for x, n in itertools.product(range(now.shape[0]), range(now.shape[1])):
        row = (
            now[x, n : n + 1],
            then[x, n : n + 1],
            advantages[x, n : n + 1],
            world.mask[n : n + 1],
        )
        loss, _ = LOSSES[setting["objective"]](*row, **setting["params"])
        share = chance[x, n]
        if LOSSES[setting["objective"]].over == "tokens":
            share = share * lengths[n] / (chance * lengths).sum()
        total = total - share * loss
    return torch.autograd.grad(total, leaf)[0]


@pytest.mark.parametrize("variable", [False, True])
@every_method
def test_expected_gradient_equals_autograd_of_every_response_by_itself(name, variable):
    world = enumerate_world(3, 3, 2, variable)
    logits, old = random_logits(world), random_logits(world) + 0.3 * random_logits(world, 1)
    found = estimate(world, logits, old, METHODS[name])
    expected = autograd_mean(world, logits, old, METHODS[name])
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(found.mean, expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", ["grpo", "sspo", "cispo"])
def test_variance_equals_that_of_the_gradients_written_out_one_by_one(name):
    world = enumerate_world(3, 3, 2, variable=True)
    logits, old = random_logits(world), random_logits(world) + 0.3 * random_logits(world, 1)
    found = estimate(world, logits, old, METHODS[name])
    leaf = logits.clone().requires_grad_()
    now = response_logprobs(world, leaf)
    weights, gradients = [], []
    for x, n in itertools.product(range(now.shape[0]), range(now.shape[1])):
        part = (found.coefficient[x, n] * now[x, n]).sum()
        gradients.append(torch.autograd.grad(part, leaf, retain_graph=True)[0].flatten())
        weights.append(found.weight[x, n])
    gradients, weights = torch.stack(gradients), torch.stack(weights)
    mean = weights @ gradients
    expected = (weights @ (gradients - mean).square()).sum().item()
    torch.testing.assert_close(mean, found.mean.flatten(), rtol=1e-9, atol=1e-13)
    assert found.variance == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("group", [2, 3])
@pytest.mark.parametrize("name", ["grpo", "gspo", "gmpo", "sapo", "sspo", "sspo_pessimistic"])
def test_enumerating_whole_groups_gives_the_same_direction_as_single_responses(name, group):
    """The choice that the module explains, for one prompt and the trainer's own advantages."""
    world = enumerate_world(2, 2, 1, variable=True)
    logits, old = random_logits(world), random_logits(world) + 0.5 * random_logits(world, 1)
    setting = METHODS[name]
    leaf = logits.clone().requires_grad_()
    now, then = response_logprobs(world, leaf)[0], response_logprobs(world, old)[0]
    chance, total = then.sum(dim=-1).exp(), 0.0
    for members in itertools.product(range(len(chance)), repeat=group):
        chosen = list(members)
        advantages = group_advantages(world.rewards[:, chosen]).flatten()
        inputs = (now[chosen], then[chosen], advantages, world.mask[chosen])
        loss, _ = LOSSES[setting["objective"]](*inputs, **setting["params"])
        total = total - chance[chosen].prod() * loss
    (over_groups,) = torch.autograd.grad(total, leaf)
    single = estimate(world, logits, old, setting).mean
    assert cosine(over_groups, single) == pytest.approx(1.0, abs=1e-9)


# On-policy: which objectives are the policy gradient, and which are not


@every_method
def test_on_policy_with_one_prompt_and_one_length_every_objective_is_the_policy_gradient(name):
    world = enumerate_world(3, 4, 1, variable=False)
    logits = random_logits(world)
    found = describe(world, logits, logits, METHODS[name])
    assert found["cosine"] == pytest.approx(1.0, abs=1e-12)
    assert found["gain"] == pytest.approx(1.0) and found["relative_bias"] < 1e-6


PER_RESPONSE = ("grpo", "gspo", "gmpo", "sapo", "sspo", "sspo_arctan", "sspo_pessimistic")


@every_method
def test_on_policy_with_several_lengths_the_mean_over_a_responses_tokens_is_not(name):
    """1 / n_i weighs short responses more; a constant or a token mean does not."""
    world = enumerate_world(3, 4, 1, variable=True)
    logits = random_logits(world)
    found = describe(world, logits, logits, METHODS[name])["cosine"]
    assert (found < 0.995) if name in PER_RESPONSE else (found == pytest.approx(1.0, abs=1e-12))


@every_method
def test_on_policy_with_several_prompts_the_division_by_the_standard_deviation_is_not(name):
    """It weighs prompts by 1 / std R; Dr. GRPO leaves it out."""
    world = enumerate_world(3, 4, 2, variable=False)
    logits = 2.0 * random_logits(world)
    found = describe(world, logits, logits, METHODS[name])["cosine"]
    assert (found == pytest.approx(1.0, abs=1e-12)) if name == "dr_grpo" else (found < 0.9999)
    plain = METHODS[name] | {"normalize_std": False}
    assert describe(world, logits, logits, plain)["cosine"] == pytest.approx(1.0, abs=1e-12)


def test_one_token_responses_without_a_clip_stay_unbiased_at_any_drift():
    """There r is the whole importance weight, and E_old[r A grad log pi] is the policy gradient."""
    world = enumerate_world(4, 1, 1, variable=False)
    old = random_logits(world)
    logits = moved(world, old, random_logits(world, 1), 1.0)
    found = describe(world, logits, old, NO_CLIP)
    assert found["cosine"] == pytest.approx(1.0, abs=1e-12)
    assert describe(world, logits, old, METHODS["grpo"])["relative_bias"] > 0.01


# Drift and quadrants


@pytest.mark.parametrize("drift", [0.0, 0.05, 0.8])
def test_moved_policies_lie_at_the_asked_drift_on_the_line(drift):
    world = enumerate_world(3, 3, 2, variable=True)
    old, direction = random_logits(world), random_logits(world, 1)
    logits = moved(world, old, direction, drift)
    log_ratio = response_logprobs(world, logits) - response_logprobs(world, old)
    chance = response_logprobs(world, old).sum(dim=-1, keepdim=True).exp() * world.mask
    rms = ((chance * log_ratio.square()).sum() / chance.sum()).sqrt().item()
    assert rms == pytest.approx(drift, abs=1e-9)
    if drift:
        assert cosine(logits - old, direction) == pytest.approx(1.0)


def test_a_direction_that_moves_nothing_is_refused():
    world = enumerate_world(3, 3, 1, variable=False)
    with pytest.raises(ValueError, match="lower the drift"):
        moved(world, random_logits(world), torch.ones(world.table).double(), 0.1)


def far_apart():
    world = enumerate_world(3, 3, 2, variable=True)
    old = random_logits(world)
    return world, moved(world, old, random_logits(world, 1), 1.0), old


@every_method
def test_quadrant_masses_add_up_to_all_of_it_and_are_nothing_on_policy(name):
    world, logits, old = far_apart()
    found = describe(world, logits, old, METHODS[name])
    after, before = (estimate(world, x, old, METHODS[name]) for x in (logits, old))
    mass = [(e.coefficient.abs() * e.weight.unsqueeze(-1)).sum().item() for e in (after, before)]
    total = sum(found[f"mass_{quadrant}"] for quadrant in QUADRANTS)
    assert total == pytest.approx(mass[0] / mass[1], rel=1e-9)
    still = describe(world, old, old, METHODS[name])
    assert all(still[f"mass_{q}"] == 0.0 and still[f"weight_{q}"] is None for q in QUADRANTS)


def test_weights_by_quadrant_of_a_hand_made_case():
    """Two one-token responses, the right one up to p', the wrong one down: r is p'/p on each."""
    world = enumerate_world(2, 1, 1, variable=False)  # right: token 0
    old = torch.zeros(1, 1, 2).double()
    up = torch.tensor([[[math.log(0.8 / 0.2), 0.0]]]).double()  # pi = 0.8, 0.2: r = 1.6, 0.4
    found = describe(world, up, old, NO_CLIP)
    # E_old[r A grad log pi] is the true gradient over std R under pi_old: 0.5, and 0.4 on-policy.
    assert found["gain"] == pytest.approx(0.4 / 0.5)
    assert found["weight_pos_up"] == pytest.approx(1.6)
    assert found["weight_neg_down"] == pytest.approx(0.4)
    assert found["weight_pos_down"] is None and found["weight_neg_up"] is None
    assert found["mass_pos_up"] == pytest.approx(0.8)  # half of the on-policy mass, times r
    assert found["mass_neg_down"] == pytest.approx(0.2)
    clipped = describe(world, up, old, METHODS["grpo"])
    assert clipped["weight_pos_up"] == clipped["weight_neg_down"] == 0.0
    soft = describe(world, up, old, method("sapo", tau_pos=1.0, tau_neg=1.0))
    gate = 4.0 / (1.0 + math.exp(0.6)) / (1.0 + math.exp(-0.6))  # 4 s (1 - s) at r - 1 = -0.6
    assert soft["weight_neg_down"] == pytest.approx(0.4 * gate)


def test_hard_clips_stop_most_of_the_followed_quadrants_and_published_soft_gates_do_not():
    world, logits, old = far_apart()
    found = {name: describe(world, logits, old, m) for name, m in METHODS.items()}
    for name in ("sapo", "sspo", "sspo_arctan"):
        assert found[name]["weight_neg_down"] > 1.1 * found["grpo"]["weight_neg_down"]
    # Soft gates are the less biased estimates all the same: what a clip cuts is signal.
    for name in ("sapo", "sspo", "sspo_arctan"):
        assert found[name]["cosine"] > found["grpo"]["cosine"]


# The study


def test_study_has_a_row_per_combination_and_is_the_same_every_time():
    frame = exact_study(CONFIG)
    key = ["method", "lengths", "direction", "draw", "drift"]
    assert len(frame) == 2 * 2 * 2 * 2 * 2 and not frame.duplicated(key).any()
    assert frame.equals(exact_study(CONFIG))
    assert set(frame["lengths"]) == {"fixed", "variable"}
    assert set(frame["direction"]) == {"random", "ascent"}
    by_draw = frame.pivot(index=[k for k in key if k != "draw"], columns="draw", values="variance")
    assert (by_draw[0] != by_draw[1]).all()
    other = exact_study(CONFIG.changed(seed=9))
    assert not frame["cosine"].equals(other["cosine"])


def test_study_on_policy_is_unbiased_up_to_prompts_and_lengths_and_drift_adds_bias():
    frame = exact_study(CONFIG)
    by_drift = frame.groupby(["lengths", "drift"])["relative_bias"].mean()
    assert by_drift["fixed", 0.0] < by_drift["variable", 0.0]
    for lengths in ("fixed", "variable"):
        assert by_drift[lengths, 0.4] > by_drift[lengths, 0.0]
    assert frame.loc[frame["drift"] == 0.0, "gain"].tolist() == pytest.approx([1.0] * 16)
