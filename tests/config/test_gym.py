"""The section ``gym_data``: what goes with it, what does not, and the configs that come of it."""

from __future__ import annotations

import copy

import pytest

from sspo.config.errors import ConfigError
from sspo.config.profile import check_profile
from sspo.experiment.expand import expand_profile
from support.gym import gym_section
from support.packages import pretend_installed
from support.profiles import REMOVE, changed

CHANGES = {
    "gym_data": gym_section({"gsm_symbolic": {"templates": [0, 1]}}, 300),
    "reward.name": "number",
    "pretrain.pieces": 500,
}


def expand(changes):
    config = changed({**copy.deepcopy(CHANGES), **changes})
    return expand_profile(check_profile(config, "mine.yaml"), "mine.yaml", installed=False)


def test_the_splits_take_the_place_of_the_tasks():
    configs = expand({})
    assert configs["data"]["gym_data"] == CHANGES["gym_data"]
    assert configs["data"]["reward"]["name"] == "number"
    assert configs["base"]["pieces"] == 500 and "characters" not in configs["base"]
    profile = check_profile(changed(copy.deepcopy(CHANGES)), "mine.yaml")
    assert profile.split_names() == ["test", "hard", "validation", "train", "warmup"]


def test_without_the_section_configs_are_as_before():
    configs = expand_profile(check_profile(changed({}), "mine.yaml"), "mine.yaml")
    assert "pieces" not in configs["base"] and configs["base"]["characters"]
    assert "gym_data" not in configs["data"] and "gym_data" not in configs["settings"]


def test_a_further_base_may_have_other_problems():
    other = {"splits": {"train": {"size": 7, "datasets": {"gcd": {}}}}}
    configs = expand({"bases": {"other": {"gym_data": other}}})
    train = configs["bases/other/data"]["gym_data"]["splits"]["train"]
    assert train["size"] == 7
    assert train["datasets"] == {"gcd": {}, "gsm_symbolic": {"templates": [0, 1]}}  # mappings merge


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"reward.name": "exact"}, "reward.name = 'exact': gym_data needs 'reasoning_gym' or 'number'"),
        ({"gym_data.prompt": "Solve."}, "gym_data.prompt = 'Solve.': must hold {problem} exactly once"),
        ({"gym_data.splits.hard": REMOVE}, "gym_data.splits.hard: missing; add it"),
        ({"gym_data.splits.warmup": REMOVE}, "gym_data.splits.warmup: missing; add it"),
        ({"gym_data.splits.test.datasets": {}}, "gym_data.splits.test.datasets = {}"),
        ({"gym_data.splits.test.sise": 3}, "gym_data.splits.test.sise: unknown key"),
        ({"validation.problems": 301}, "exceeds gym_data.splits.validation.size = 300"),
        ({"evaluation.splits": ["aime"]}, "no split 'aime' in gym_data.splits"),
        ({"pretrain.pieces": None}, "pretrain.pieces: missing; gym_data needs a tokenizer"),
        ({"pretrain.pieces": 100}, "pretrain.pieces = 100"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_one_line(changes, expected):
    with pytest.raises(ConfigError) as caught:
        expand(changes)
    message = str(caught.value)
    assert message.startswith("mine.yaml: ") and "\n" not in message
    assert expected in message


def test_a_missing_package_is_one_line_with_its_command(monkeypatch):
    pretend_installed(monkeypatch, "reasoning_gym", False)
    with pytest.raises(ConfigError, match=r"^mine.yaml: gym_data needs .* run `make gym`"):
        expand_profile(check_profile(changed(copy.deepcopy(CHANGES)), "mine.yaml"), "mine.yaml")
