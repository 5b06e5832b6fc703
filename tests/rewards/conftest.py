"""One checker for the tests of a module."""

from __future__ import annotations

import pytest

from sspo.rewards.factory import make_reward
from support.checker import CONFIG


@pytest.fixture(scope="module")
def reward():
    reward = make_reward(CONFIG)
    yield reward
    reward.close()
