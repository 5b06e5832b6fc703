"""What all rewards share: the choice by configuration, stated answers, golds checked at load."""

from __future__ import annotations

import pytest

from sspo.config.errors import ConfigError
from sspo.config.settings import RewardConfig
from sspo.rewards.base import Reward, check_golds, failure_shares, state_answer
from sspo.rewards.exact import exact_reward
from sspo.rewards.factory import make_reward
from sspo.rollout.engine import Completion


def test_the_configuration_chooses_the_reward():
    assert (
        make_reward(RewardConfig(name="exact", time_limit=1.0, memory_mb=512, max_characters=1000))
        is exact_reward
    )


def test_the_checker_of_latex_gets_the_configuration(monkeypatch):
    monkeypatch.setattr("sspo.rewards.math.MathReward", lambda config: config)
    config = RewardConfig(name="math", time_limit=1.0, memory_mb=512, max_characters=1000)
    assert make_reward(config) is config


def test_golds_that_state_themselves_pass():
    problems = [{"id": str(n), "answer": answer} for n, answer in enumerate(("12", " 3", "-0"))]
    check_golds(problems, exact_reward, "train.jsonl")


@pytest.mark.parametrize("row", [1, 2, 3])
def test_a_gold_that_no_response_can_earn_names_file_row_and_problem(row):
    problems = [{"id": f"p{n}", "answer": "1#2" if n == row else "12"} for n in (1, 2, 3)]
    with pytest.raises(ConfigError) as caught:
        check_golds(problems, exact_reward, "data/train.jsonl")
    message = str(caught.value)
    assert message.startswith(f"data/train.jsonl:{row}: answer '1#2' of problem 'p{row}' ")
    assert message.endswith("(wrong); fix or drop the row, or choose another reward.name")
    assert "\n" not in message


def test_a_refused_gold_is_quoted_by_its_first_80_characters():
    gold = "1#" + "x" * 100
    with pytest.raises(ConfigError, match=f"answer '{gold[:80]}' of problem"):
        check_golds([{"id": "a", "answer": gold}], exact_reward, "train.jsonl")


@pytest.mark.parametrize("reason", ["timeout", "crashed", "no_answer", "too_long", "wrong"])
def test_a_gold_that_is_not_correct_for_any_reason_is_refused(reason):
    with pytest.raises(ConfigError, match=rf"x:1: .*\({reason}\)"):
        check_golds([{"id": "a", "answer": "1"}], lambda gold, given: Reward(0.0, reason), "x")


def test_a_stated_answer_is_a_finished_completion_without_tokens():
    assert state_answer("7") == Completion([], r"\boxed{7} #7", "stop", [])


def test_stating_an_answer_earns_it():
    for answer in ("12", "", "{", "\\frac12"):
        assert exact_reward(answer, state_answer(answer)) == Reward(1.0, "correct")


def test_shares_of_failures_and_of_correct_responses_add_up_to_one():
    reasons = ["correct"] * 5 + ["wrong"] * 2 + ["timeout", "truncated", "no_answer"]
    shares = failure_shares([Reward(float(r == "correct"), r) for r in reasons])
    assert shares == {
        "wrong": 0.2, "no_answer": 0.1, "truncated": 0.1, "too_long": 0.0, "timeout": 0.1,
        "crashed": 0.0,
    }  # fmt: skip
