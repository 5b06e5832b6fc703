"""Group-relative advantages on small matrices worked out by hand, and their invariances."""

from __future__ import annotations

import statistics

import pytest
import torch

from sspo.objectives.advantages import degenerate_groups, group_advantages

HALF = 0.5 / (1.0 / 3.0) ** 0.5  # +-0.5 over the sample deviation of (1, 1, 0, 0)


def random_rewards(groups: int = 5, size: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(groups, size, generator=generator, dtype=torch.float64)


def test_advantages_of_hand_checked_groups():
    rewards = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]], dtype=torch.float64)
    expected = torch.tensor([[1.5, -0.5, -0.5, -0.5], [HALF, HALF, -HALF, -HALF], [0, 0, 0, 0]])
    torch.testing.assert_close(group_advantages(rewards), expected.double(), rtol=3e-6, atol=0)


def test_advantages_without_normalisation_are_centred_rewards():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [3.0, 1.0, 0.0, 0.0]])
    expected = torch.tensor([[0.75, -0.25, -0.25, -0.25], [0.0] * 4, [2.0, 0.0, -1.0, -1.0]])
    assert torch.equal(group_advantages(rewards, normalize_std=False), expected)


@pytest.mark.parametrize("eps", (1e-6, 0.1))
def test_normalisation_divides_by_sample_deviation_plus_eps(eps):
    rewards = random_rewards()
    for row, got in zip(rewards.tolist(), group_advantages(rewards, eps=eps).tolist(), strict=True):
        mean, deviation = statistics.fmean(row), statistics.stdev(row)
        assert got == pytest.approx([(r - mean) / (deviation + eps) for r in row], rel=1e-12)


@pytest.mark.parametrize("normalize_std", (True, False))
def test_equal_rewards_give_exactly_zero_even_where_their_mean_rounds(normalize_std):
    off_by_rounding = 0
    for size in (2, 3, 5, 6, 7, 8, 10, 16):
        for value in (0.0, 1.0, -1.0, 0.1, 0.7, 1.0 / 3.0, 1e-3, 12345.678):
            rewards = torch.full((2, size), value)
            off_by_rounding += bool((rewards != rewards.mean(dim=1, keepdim=True)).any())
            advantages = group_advantages(rewards, normalize_std=normalize_std)
            assert torch.equal(advantages, torch.zeros(2, size))
    assert off_by_rounding > 0  # otherwise this test would not see a missing safeguard


def test_nearly_equal_rewards_are_not_mistaken_for_equal_ones():
    rewards = torch.tensor([[1.0, 1.0, 1.0, 1.0 + 1e-3]], dtype=torch.float64)
    assert not degenerate_groups(rewards).item()
    assert group_advantages(rewards)[0, 3].item() == pytest.approx(1.5, rel=3e-3)


def test_advantages_sum_to_zero_and_have_unit_deviation_within_each_group():
    advantages = group_advantages(random_rewards(), eps=0.0)
    torch.testing.assert_close(advantages.sum(dim=1), torch.zeros(5).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(advantages.std(dim=1), torch.ones(5).double(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("normalize_std", (True, False))
def test_advantages_ignore_a_shift_of_the_rewards(normalize_std):
    rewards = random_rewards()
    shifted = group_advantages(rewards + 7.5, normalize_std=normalize_std)
    expected = group_advantages(rewards, normalize_std=normalize_std)
    torch.testing.assert_close(shifted, expected, rtol=1e-11, atol=1e-13)


def test_scale_of_the_rewards_matters_only_without_normalisation():
    rewards = random_rewards()
    scaled = group_advantages(40.0 * rewards)
    torch.testing.assert_close(scaled, group_advantages(rewards), rtol=2e-5, atol=0)
    raw = group_advantages(40.0 * rewards, normalize_std=False)
    expected = 40.0 * group_advantages(rewards, normalize_std=False)
    torch.testing.assert_close(raw, expected, rtol=1e-11, atol=1e-13)


def test_a_group_is_judged_by_its_own_rewards_only():
    rewards = random_rewards()
    other = rewards.clone()
    other[1:] = 1.0 - 3.0 * other[1:]
    assert torch.equal(group_advantages(rewards)[0], group_advantages(other)[0])
    assert not torch.equal(group_advantages(rewards)[1], group_advantages(other)[1])


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
def test_advantages_keep_dtype_and_shape(dtype):
    advantages = group_advantages(random_rewards(3, 4).to(dtype))
    assert advantages.dtype == dtype and advantages.shape == (3, 4)


@pytest.mark.parametrize("shape", ((4, 1), (4, 0), (4,), (2, 2, 2)))
def test_groups_without_a_spread_or_of_the_wrong_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"group_size >= 2.*got \(" + str(shape[0])):
        group_advantages(torch.zeros(shape))


def test_degenerate_groups_are_those_with_one_reward_value():
    rewards = torch.tensor(
        [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [0.1, 0.1, 0.1]]
    )
    assert degenerate_groups(rewards).tolist() == [True, True, False, False, True]
    zero = (group_advantages(rewards) == 0.0).all(dim=1)
    assert torch.equal(zero, degenerate_groups(rewards))
