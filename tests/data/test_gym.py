"""Problems of reasoning-gym: every generator is usable or refused with a reason, splits are disjoint."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed (`make gym`)")

from reasoning_gym.factory import DATASETS

from sspo.config.errors import ConfigError
from sspo.data.gym import check_generators, draw_splits, make_gym_splits
from sspo.data.overlap import normalized
from sspo.rewards.base import gold_of, state_answer
from sspo.rewards.factory import make_reward
from sspo.rewards.scoring import REFUSED, make_dataset
from support.gym import gym_data, gym_section, rewarded
from support.paths import SOURCE

pytestmark = pytest.mark.gym
SCORER, NUMBER = rewarded("reasoning_gym"), rewarded("number")
USABLE = sorted({*DATASETS} - {*REFUSED})


@pytest.fixture(scope="module")
def reward():
    reward = make_reward(SCORER)
    yield reward
    reward.close()


@pytest.fixture(scope="module")
def drawn():
    """Three problems of every usable generator."""
    datasets = {name: {} for name in USABLE}
    return make_gym_splits(gym_data(datasets, 3 * len(USABLE), ("test",)), SCORER)["test"]


def test_all_generators_of_the_library_are_used_or_refused():
    assert len(DATASETS) == 106
    assert len(USABLE) + len(REFUSED) == 106


@pytest.mark.slow
@pytest.mark.parametrize("name", USABLE)
def test_a_gold_verifies_against_itself_and_other_answers_do_not(name, drawn, reward):
    problems = [record for record in drawn if record["dataset"] == name]
    assert len(problems) == 3
    for problem in problems:
        assert reward(gold_of(problem), state_answer(problem["answer"])).reason == "correct"
        for wrong in ("surely not", "7919", "[]", "(" * 50, "\x00", "\ud83d"):
            assert reward(gold_of(problem), state_answer(wrong)).reason == "wrong"


@pytest.mark.parametrize("name", ["boxnet", "graph_color", "rubiks_cube", "rush_hour"])
def test_generators_without_an_answer_are_refused_because_they_have_none(name):
    assert make_dataset(name, {}, size=1)[0]["answer"] is None


def test_scorers_that_are_refused_do_take_wrong_answers_for_right():
    halting = make_dataset("game_of_life_halting", {}, size=1)
    assert halting.score_answer("surely not", halting[0]) == 1.0
    numbers = make_dataset("puzzle24", {}, size=1)
    assert numbers.score_answer("8*3*1*1", numbers[0]) == 1.0


def test_the_problems_are_the_same_in_every_process():
    """Whatever its hashes of strings are, on which some generators depend."""
    datasets = {name: {} for name in ("word_ladder", "ransom_note", "list_functions", "chain_sum")}
    program = f"""
import hashlib, json
from sspo.data.gym import make_gym_splits
from support.gym import gym_data, rewarded
if __name__ == "__main__":
    made = make_gym_splits(gym_data({datasets!r}, size=40), rewarded("reasoning_gym"))
    print(hashlib.sha256(json.dumps(made).encode()).hexdigest())
"""
    path = os.pathsep.join([str(SOURCE), str(SOURCE.parent / "tests")])
    found = {
        subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(found) == 1 and found.pop().strip()


def test_no_problem_occurs_twice_in_any_split():
    config = gym_data({"chain_sum": {"max_terms": 2, "max_digits": 1}, "gcd": {}}, size=30)
    made = draw_splits(config, NUMBER)
    prompts = [normalized(record["prompt"]) for records in made.values() for record in records]
    assert len({*prompts}) == len(prompts) == 30 * len(made)


def test_generators_take_turns_and_the_prompt_holds_the_problem():
    made = draw_splits(gym_data({"gcd": {}, "lcm": {}, "products": {}}, size=7), NUMBER)
    turns = ["gcd", "lcm", "products", "gcd", "lcm", "products", "gcd"]
    for split, records in made.items():
        assert [record["dataset"] for record in records] == turns
        assert [record["id"] for record in records] == [f"{split}-{i:05d}" for i in range(7)]
        assert all(r["prompt"].startswith("Q: ") and r["prompt"].endswith("\nA:") for r in records)
        assert all("gold" not in record for record in records)


def test_too_few_distinct_problems_are_one_line_with_the_fix():
    config = gym_data({"coin_flip": {"min_trials": 1, "max_trials": 1}}, size=50)
    with pytest.raises(
        ConfigError, match=r"^gym_data.splits.test.datasets.coin_flip: only \d+ of 50"
    ):
        draw_splits(config, NUMBER)


def test_problems_without_an_answer_for_the_reward_are_left_out():
    with pytest.raises(ConfigError, match=r"calendar_arithmetic: only 0 of 3 problems"):
        draw_splits(
            gym_data({"calendar_arithmetic": {"tasks": ["weekday_of_date"]}}, size=3), NUMBER
        )
    short = rewarded("reasoning_gym").changed(max_characters=2)
    made = draw_splits(gym_data({"products": {}}, size=9), short)
    assert all(len(r["answer"]) <= 2 for records in made.values() for r in records)


def test_templates_choose_what_word_problems_are_about():
    config = gym_data({"gsm_symbolic": {"templates": [10]}}, size=20)
    made = draw_splits(config, NUMBER)
    for record in made["warmup"]:
        assert record["solution"].endswith(f"\n#### {record['answer']}")
        assert record["solution"].count("####") == 1
    assert "solution" not in made["train"][0]
    starts = {tuple(record["prompt"].split()[-12:]) for record in made["train"]}
    assert len(starts) == 1  # one template, one closing sentence


def test_a_generator_without_a_worked_solution_gets_its_answer_as_one():
    made = draw_splits(gym_data({"products": {}}, size=3), NUMBER)
    assert [r["solution"] for r in made["warmup"]] == [
        f"#### {r['answer']}" for r in made["warmup"]
    ]


@pytest.mark.parametrize(
    "datasets, expected",
    [
        ({"chain_sums": {}}, ["chain_sums: unknown generator", "nearest are chain_sum"]),
        ({"chain_sum": {"min_term": 2}}, ["chain_sum.min_term: unknown argument", "min_terms"]),
        ({"chain_sum": {"seed": 2}}, ["chain_sum.seed", "gym_data.seed"]),
        ({"chain_sum": {"min_terms": 9, "max_terms": 2}}, ["chain_sum:", "'max_terms': 2", "change it"]),
        ({"chain_sum": {"min_terms": "two"}}, ["chain_sum:", "change it"]),
        ({"chain_sum": {"templates": [0]}}, ["chain_sum.templates: unknown argument"]),
        ({"gsm_symbolic": {"templates": [32]}}, ["gsm_symbolic.templates = [32]", "some of 0, 1"]),
        ({"gsm_symbolic": {"templates": [[0]]}}, ["gsm_symbolic.templates = [[0]]"]),
        ({"gsm_symbolic": {"templates": []}}, ["gsm_symbolic.templates = []"]),
        ({"rush_hour": {}}, ["rush_hour: this generator is not usable", "without an answer"]),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_refused_before_any_compute(datasets, expected):
    with pytest.raises(ConfigError) as caught:
        check_generators(gym_data(datasets, size=3))
    message = str(caught.value)
    assert message.startswith("gym_data.splits.test.datasets.") and "\n" not in message
    assert all(part in message for part in expected)


def test_every_usable_generator_passes_the_check():
    check_generators(gym_data({name: {} for name in USABLE}, size=3))
    assert gym_section({"gcd": {}}, 3)["prompt"].count("{problem}") == 1
