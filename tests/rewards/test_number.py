"""The reward of word problems: which number counts, what equals what, and that no text can break it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sspo.rewards.base import state_answer
from sspo.rewards.number import last_number, number_reward
from sspo.rollout.engine import Completion


def reason(gold: str, text: str, finish_reason: str = "stop") -> str:
    found = number_reward(gold, Completion([], text, finish_reason, []))
    assert found.value == float(found.reason == "correct")
    return found.reason


@pytest.mark.parametrize(
    "text, value",
    [
        ("5+3=8\n#### 8", "8"),
        ("so it costs $1,250.50.", "1250.5"),
        ("\\$12", "12"),
        ("\\boxed{-7}", "-7"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("x = -5", "-5"),
        ("+5", "5"),
        ("12-5", "5"),  # a difference, not a negative number
        ("12 - 5", "5"),
        ("(12)-5", "5"),
        ("1,2,3", "3"),  # a list
        ("1,234,567", "1234567"),
        ("12,34", "34"),
        (".5", "0.5"),
        ("-0.0", "0"),
        ("007", "7"),
        ("20 of 100%", "100"),
        ("**18**.", "18"),
        ("1" * 100, "1" * 100),
        ("", None),
        ("twelve", None),
        ("\uff11\uff12", None),  # full-width digits
    ],
)
def test_the_last_number_counts(text, value):
    assert last_number(text) == value


@pytest.mark.parametrize(
    "gold, text, expected",
    [
        ("12", "it is 12", "correct"),
        ("12", "12 or 13", "wrong"),
        ("1,000", "1000.00", "correct"),
        ("0.1", "0.10", "correct"),
        ("0.1", "0.1000000000000000000000000000000000001", "wrong"),  # exact, unlike floats
        ("-3", "3", "wrong"),
        ("12", "many", "no_answer"),
        ("x = 12", "12", "wrong"),  # no gold answer of this reward
        ("", "12", "wrong"),
    ],
)
def test_values_are_compared_exactly(gold, text, expected):
    assert reason(gold, text) == expected


def test_a_response_that_was_cut_off_earns_nothing():
    assert reason("12", "12", "length") == "truncated"


@given(st.integers())
def test_every_integer_verifies_against_itself_and_not_against_its_successor(number):
    assert number_reward(str(number), state_answer(f"{number:,}")).value == 1.0
    assert number_reward(str(number), state_answer(str(number + 1))).value == 0.0


@given(st.text(), st.text())
def test_any_two_texts_give_a_value(gold, text):
    assert reason(gold, text) in ("correct", "wrong", "no_answer")


def test_a_very_long_number_is_read_in_bounded_time():
    assert reason("1", "9," * 200_000 + "1") == "correct"
    assert reason("1", "9" * 200_000) == "wrong"
