"""The reward that a configuration asks for."""

from __future__ import annotations

from sspo.config.settings import RewardConfig
from sspo.rewards.base import RewardFunction
from sspo.rewards.exact import exact_reward
from sspo.rewards.number import number_reward


def make_reward(config: RewardConfig) -> RewardFunction:
    """Make the reward that ``reward.name`` chooses.

    Raises:
        ConfigError: the process that compares answers does not start.
    """
    if config.name == "exact":
        return exact_reward
    if config.name == "number":
        return number_reward
    if config.name == "reasoning_gym":
        from sspo.rewards.gym import GymReward

        return GymReward(config)
    from sspo.rewards.math import MathReward

    return MathReward(config)
