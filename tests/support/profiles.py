"""Shipped profiles as dictionaries, changed as a test likes, and what is said when one is refused."""

from __future__ import annotations

import copy
import functools

import pytest
import yaml

from sspo.config.errors import ConfigError
from sspo.config.profile import check_profile
from sspo.experiment.expand import expand_profile
from support.paths import PROFILES

REMOVE = object()


# The numbers that messages below quote, whatever the default has come to be.
PINNED = {
    "experiment": {"methods": ["grpo", "gspo", "sapo", "sspo"], "seeds": [0, 1, 2]},
    "task": {
        "splits": {
            "test": {"size": 512, "min_operations": 3, "max_operations": 5},
            "hard": {"size": 512, "min_operations": 6, "max_operations": 7},
            "validation": {"size": 256, "min_operations": 3, "max_operations": 5},
            "train": {"size": 4096, "min_operations": 3, "max_operations": 5},
            "warmup": {"size": 4000, "min_operations": 2, "max_operations": 7},
        }
    },
    "model": {"hidden_size": 64, "heads": 2, "layers": 3, "context": 128},
    "pretrain": {"seed": 0},
    "rollout": {
        "engine": "torch",
        "prompts_per_step": 32,
        "group_size": 8,
        "max_response_tokens": 96,
    },
    "train": {"steps": 80, "updates_per_rollout": 4, "learning_rate": 1e-4},
    "evaluation": {"samples": 8, "pass_at": [1, 8]},
}


@functools.cache
def read(name: str) -> dict:
    return yaml.safe_load((PROFILES / name).read_text(encoding="utf-8"))


def merge(base: dict, over: dict) -> dict:
    """What Snakemake does with several config files: mappings merge, anything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def pinned() -> dict:
    return merge(read("default.yaml"), PINNED)


def changed(changes: dict[str, object]) -> dict:
    """The pinned configuration with ``{"train.steps": 3}`` applied; ``REMOVE`` deletes a key.

    A slash in a path stands before a key that is taken as it is.
    """
    result = copy.deepcopy(pinned())
    for path, value in changes.items():
        *parents, last = path.split("/")[0].split(".") + path.split("/")[1:]
        place = result
        for key in parents:
            place = place[key]
        if value is REMOVE:
            del place[last]
        else:
            place[last] = value
    return result


def expand(changes: dict[str, object] | None = None, source: str = "mine.yaml") -> dict:
    config = changed(changes or {})
    return expand_profile(check_profile(config, source), source)


def refusal(changes: dict[str, object]) -> str:
    with pytest.raises(ConfigError) as caught:
        expand(changes)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("mine.yaml: ")
    assert message.count("mine.yaml") == 1
    return message
