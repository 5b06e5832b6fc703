"""The reward that a configuration asks for."""

from __future__ import annotations

from sspo.config.settings import RewardConfig
from sspo.rewards.base import RewardFunction
from sspo.rewards.exact import exact_reward


def make_reward(config: RewardConfig) -> RewardFunction:
    """Make the reward that ``reward.name`` chooses.

    Raises:
        ConfigError: the checker of LaTeX answers does not start.
    """
    if config.name == "exact":
        return exact_reward
    from sspo.rewards.math import MathReward

    return MathReward(config)
