"""The exact reward: what counts as the answer, and that no text can break it; what all rewards share."""

from __future__ import annotations

import random
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sspo.rewards.base import Reward
from sspo.rewards.exact import exact_reward, extract_answer
from sspo.rollout.engine import Completion


def reward(answer: str, text: str, finish_reason: str = "stop") -> Reward:
    return exact_reward(answer, Completion([5, 1], text, finish_reason, [-0.5, -0.5]))


RIGHT, WRONG = Reward(1.0, "correct"), Reward(0.0, "wrong")
NO_ANSWER, TRUNCATED = Reward(0.0, "no_answer"), Reward(0.0, "truncated")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("+8=15-3=12#12", RIGHT),
        ("#12", RIGHT),
        ("nothing right before it counts =99#12", RIGHT),
        ("#99#12", RIGHT),  # the last mark wins
        ("#### 12", RIGHT),  # GSM8K's mark
        ("# 12\n", RIGHT),
        ("#12#99", WRONG),
        ("#12#", WRONG),
        ("#", WRONG),
        ("##", WRONG),
        ("#13", WRONG),
        ("#012", WRONG),
        ("#+12", WRONG),
        ("#-12", WRONG),
        ("#12.0", WRONG),
        ("#1 2", WRONG),
        ("#121", WRONG),
        ("#12=12", WRONG),
        ("#\uff11\uff12", WRONG),  # full-width digits
        ("12", NO_ANSWER),
        ("+8=15-3=12", NO_ANSWER),
        ("\uff0312", NO_ANSWER),  # full-width mark
        ("", NO_ANSWER),
    ],
)
def test_only_the_exact_answer_after_the_last_mark_is_rewarded(text, expected):
    assert reward("12", text) == expected


def test_white_space_around_the_gold_answer_does_not_matter():
    assert reward(" 12\n", "#12") == RIGHT


@pytest.mark.parametrize("text", ["#12", "", "no mark", "#13"])
@pytest.mark.parametrize("finish_reason", ["length", "abort", ""])
def test_a_response_that_did_not_end_by_itself_is_never_rewarded(text, finish_reason):
    found = reward("12", text, finish_reason)
    assert found == TRUNCATED
    assert found.answer == extract_answer(text)


@pytest.mark.parametrize(
    "text, answer",
    [("a#b", "b"), ("a#b#c", "c"), ("a# b c ", "b c"), ("a#", ""), ("a", None), ("", None)],
)
def test_extract_answer_takes_what_follows_the_last_mark(text, answer):
    assert extract_answer(text) == answer


def test_any_text_gives_zero_or_one_and_one_only_for_the_answer():
    rng = random.Random(0)
    kinds = [
        lambda: bytes(rng.randrange(256) for _ in range(20)).decode("utf-8", "replace"),
        lambda: bytes(rng.randrange(256) for _ in range(20)).decode("latin-1"),
        lambda: "".join(
            chr(rng.randrange(sys.maxunicode + 1)) for _ in range(20)
        ),  # surrogates too
        lambda: "".join(rng.choices("0123456789+-=:# \n\0", k=6)),
        lambda: "".join(rng.choices("#1 \u00a0\u2028", k=4)),
    ]
    values = []
    for _ in range(4000):
        text = rng.choice(kinds)()
        found = reward("1", text)
        position = text.rfind("#")
        right = position >= 0 and text[position + 1 :].strip() == "1"
        assert found.value == float(right)
        assert (found.reason == "correct") == right
        assert (found.reason == "no_answer") == (position < 0)
        values.append(found.value)
    assert 100 < sum(values) < 3900  # both outcomes were tried


def test_megabytes_of_text_are_judged():
    assert reward("12", "#" * 3_000_000 + "12") == RIGHT
    assert reward("12", "#12" + "9" * 3_000_000) == WRONG


@settings(max_examples=300)
@given(st.text(), st.text())
def test_any_gold_and_any_text_agree_with_splitting_by_hand(gold, text):
    given = text.split("#")[-1].strip() if "#" in text else None
    expected = NO_ANSWER if given is None else RIGHT if given == gold.strip() else WRONG
    found = reward(gold, text)
    assert found == expected
    assert found.answer == given
