"""Sections ``gym_data`` whose splits are all alike, and the rewards that go with them."""

from __future__ import annotations

from sspo.config.gym import GymDataConfig
from sspo.config.reading import JsonDict, parse
from sspo.config.settings import RewardConfig

SPLITS = ("test", "hard", "validation", "train", "warmup")


def gym_section(datasets: JsonDict, size: int, splits: tuple[str, ...] = SPLITS) -> JsonDict:
    """Those splits with these generators; the others hold one problem."""
    return {
        "seed": 0,
        "prompt": "Q: {problem}\nA:",
        "splits": {
            name: {"size": size, "datasets": datasets}
            if name in splits
            else {"size": 1, "datasets": {"products": {}}}
            for name in SPLITS
        },
    }


def gym_data(datasets: JsonDict, size: int, splits: tuple[str, ...] = SPLITS) -> GymDataConfig:
    return parse(GymDataConfig, gym_section(datasets, size, splits))


def rewarded(name: str) -> RewardConfig:
    return RewardConfig(name=name, time_limit=20.0, memory_mb=1024, max_characters=2000)
