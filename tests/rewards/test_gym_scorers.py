"""The scorers of reasoning-gym behind the reward: they run no code of a response, and always end."""

from __future__ import annotations

import json
import threading

import pytest

pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed (`make gym`)")

from sspo.rewards.factory import make_reward
from sspo.rewards.gym import GymReward
from sspo.rewards.scoring import EVALUATING, make_dataset
from sspo.rollout.engine import Completion
from support.gym import rewarded

pytestmark = [pytest.mark.gym, pytest.mark.slow]


@pytest.fixture(scope="module")
def scorer():
    reward = make_reward(rewarded("reasoning_gym").changed(time_limit=2.0, max_characters=1000))
    yield reward
    reward.close()


def gold_of(name: str) -> str:
    entry = make_dataset(name, {}, seed=3)[0]
    return json.dumps({"dataset": name, "arguments": {}, **entry})


def reason(reward: GymReward, gold: str, answer: str, finish_reason: str = "stop") -> str:
    found = reward(gold, Completion([], f"#### {answer}", finish_reason, []))
    assert found.value == float(found.reason == "correct")
    return found.reason


@pytest.mark.parametrize("name", sorted(EVALUATING))
@pytest.mark.parametrize("word", ["__import__('os').mkdir({!r})", "open({!r}, 'w')"])
def test_no_scorer_runs_code_that_an_answer_holds(tmp_path, scorer, name, word):
    place = tmp_path / "made"
    assert reason(scorer, gold_of(name), word.format(str(place))) == "wrong"
    spelt = "+".join(f"chr({ord(c)})" for c in word.format(str(place)))
    assert reason(scorer, gold_of(name), f"eval({spelt})"[:1000]) == "wrong"
    assert not place.exists()


def test_an_answer_in_another_form_that_the_scorer_takes_is_right(scorer):
    gold = gold_of("polynomial_multiplication")
    expression = json.loads(gold)["answer"]
    assert reason(scorer, gold, f"0 + ({expression})") == "correct"
    assert reason(scorer, gold, f"1 + ({expression})") == "wrong"


def test_part_of_the_score_is_no_reward(scorer):
    gold = gold_of("chain_sum")
    answer = json.loads(gold)["answer"]
    assert reason(scorer, gold, answer) == "correct"
    assert reason(scorer, gold, f"{answer} or so") == "wrong"


def test_a_formula_that_computes_too_long_ends(scorer):
    assert reason(scorer, gold_of("countdown"), "9**9**9**9") in ("timeout", "crashed")
    gold = gold_of("chain_sum")
    assert reason(scorer, gold, json.loads(gold)["answer"]) == "correct"


def test_cut_off_missing_and_too_long_answers_have_their_reason(scorer):
    gold = gold_of("chain_sum")
    assert reason(scorer, gold, "1", "length") == "truncated"
    assert reason(scorer, gold, "") == "no_answer"
    assert reason(scorer, gold, "1" * 1001) == "too_long"


@pytest.mark.parametrize("gold", ["", "[]", "{}", '{"dataset": "no_such"}'])
def test_a_gold_that_is_none_crashes_nothing_but_its_own_comparison(scorer, gold):
    assert reason(scorer, gold, "1") == "crashed"


def test_threads_share_the_checker(scorer):
    gold, found = gold_of("gcd"), {}
    answer = json.loads(gold)["answer"]

    def ask(n):
        found[n] = reason(scorer, gold, answer if n % 2 else f"{answer}{n}")

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: "correct" if n % 2 else "wrong" for n in range(8)}
