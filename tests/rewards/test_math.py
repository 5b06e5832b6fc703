r"""LaTeX answers: what earns the reward, and that no answer, kill or caller can break the checker."""

from __future__ import annotations

import random
import time

import pytest
from fuzz.hostile import BOMBS, PIECES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sspo.config.errors import ConfigError
from sspo.rewards import checker
from sspo.rewards.answers import as_integer
from sspo.rewards.base import check_golds
from sspo.rewards.math import MathReward
from sspo.rollout.engine import Completion
from support.checker import CONFIG, boxed, reason

# What earns the reward


@pytest.mark.parametrize(
    "gold, answer",
    [
        ("18", "18"),  # GSM8K
        ("1,450,000", "1450000"),
        ("1,450,000", r"\$1{,}450{,}000"),
        ("025", "25"),  # AIME
        ("27.0", "27"),  # AMC
        ("142.0", r"142^\circ"),
        (r"\frac{14}{3}", r"\dfrac{28}{6}"),  # MATH
        (r"\frac{14}{3}", "14/3"),
        (r"\frac43", "4/3"),
        (r"1\frac{4}{5}", "1.8"),
        (".35625", "0.35625"),
        (r"\frac{1}{3}", "0.333333"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\pi/2)"),
        ("(3,4]", r"\left(3, 4\right]"),
        (r"(-\infty, 2) \cup (3, \infty)", r"(3,\infty) \cup (-\infty,2)"),
        (r"x \in [-2,7]", "[-2,7]"),
        ("3, 5, 7", "7,5,3"),
        ("1,-2", r"-2 \text{ and } 1"),
        (r"3 \pm 2 \sqrt{2}", r"3+2\sqrt2, 3-2\sqrt2"),
        (r"\{1\pm\sqrt{5},-2\}", r"\{-2, 1-\sqrt{5}, 1+\sqrt{5}\}"),
        ("x=5", "5"),
        ("5", "x=5"),
        ("y = 2x + 3", "y = 3 + 2x"),
        ("(a+5)(b+2)", "ab + 2a + 5b + 10"),
        (r"90^\circ", "90"),
        (r"5.4 \text{ cents}", "5.4"),
        (r"15\mbox{ cm}^2", "15"),
        (r"\$18.90", "18.9"),
        (r"10,\!080", "10080"),
        (r"18\%", "18"),
        (r"18\%", "0.18"),
        ("62.5%", r"62.5\%"),
        (r"\text{Evelyn}", "Evelyn"),
        (r"\text{(C)}", "C"),
        ("2516_8", "2516_{8}"),
        ("2516_8", "2516"),
        (
            r"\begin{pmatrix} -1/3 \\ 2 \end{pmatrix}",
            r"\begin{pmatrix} -\frac13 \\ 2 \end{pmatrix}",
        ),
        ("6 - 5i", "-5i + 6"),
        ("7e37", r"7 \times 10^{37}"),  # Minerva
        ("9.6\n", "9.6"),
        ("1.6e-19", r"1.60 \times 10^{-19}"),
        (r"$(-\infty, 0) \cup\{1\}$.", r"(-\infty,0) \cup \{1\}"),  # OlympiadBench
        ("$69$,$84$", "84, 69"),
        ("$(1,8,19), (2,7,13), (4,5,7)$", "(1,8,19),(2,7,13),(4,5,7)"),
        (r"$k \geqslant 2$", r"k \ge 2"),
        ("0.0000672", "0.00006721"),  # one part in a thousand is rounding
        ("6m", r"m \cdot 6"),  # m is a variable: a unit stands apart
        (r"\frac{1}{\sqrt{2}}c", r"\frac{c}{\sqrt{2}}"),
        ("18 m", "18"),
        ("13535", r"13\,535"),
        ("13535", "13 535"),
        ("4.5e33", r"4.5e33 \text{ erg/s}"),
        ("9.6", r"\approx 9.6"),
        ("3,4", r"\(3\), \(4\)"),
        (r"62.5\%", "62.5"),
        ("62.5%", "0.625"),
    ],
)
def test_an_answer_that_means_the_gold_is_correct(reward, gold, answer):
    assert reason(reward, gold, answer) == "correct"
    assert reason(reward, gold, gold) == "correct"


@pytest.mark.parametrize(
    "gold, answer",
    [
        ("18", "-18"),
        ("18", "180"),
        ("1,234", "1,234.5"),
        ("12", "\uff11\uff12"),  # full-width digits
        (r"\frac{14}{3}", r"\frac{3}{14}"),
        (r"\frac{1}{3}", "0.33"),
        ("(1,2)", "(2,1)"),
        ("(3,4]", "[3,4]"),
        ("(3,4]", "(3,4)"),
        (r"(-\infty, 2) \cup (3, \infty)", r"(-\infty, 2)"),
        ("1,-2", "1"),  # one of two answers
        ("1,-2", "1,-2,3"),
        ("3, 5, 7", "3, 5"),
        (r"3 \pm 2 \sqrt{2}", r"3 + 2 \sqrt{2}"),
        ("x=5", "y=5"),
        ("y = 2x + 3", "y = 2x - 3"),
        ("2x + z = 1", "1"),  # gold first: the other way round math-verify takes them for equal
        (r"\text{even}", "odd"),
        (r"\text{(C)}", "D"),
        ("2516_8", "2516_9"),  # math-verify drops the base
        ("1.6e-19", "2e-19"),  # math-verify compares to 1e-15
        (r"1.6 \times 10^{-19}", "0"),
        ("0.0000672", "0.0000674"),  # ... or to six decimals
        ("6m", "6"),
        (r"\frac{1}{\sqrt{2}}c", r"\frac{1}{\sqrt{2}}"),
        ("548", r"13\,535"),  # math-verify adds them up
        (r"62.5\%", "625"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}1\\3\end{pmatrix}"),
        (r"\frac{1}{0}", "5"),
        (r"\foo{", "5"),  # a gold that cannot be parsed is no free point
        ("", "5"),
    ],
)
def test_an_answer_that_means_something_else_is_wrong(reward, gold, answer):
    assert reason(reward, gold, answer) == "wrong"


@pytest.mark.parametrize(
    "text, finish_reason, expected",
    [
        (r"\boxed{12}", "stop", "correct"),
        ("3 * 4 = 12\n#### 12", "stop", "correct"),
        (r"\boxed{12}", "length", "truncated"),
        ("", "length", "truncated"),
        ("12", "stop", "no_answer"),
        ("# 12", "stop", "no_answer"),
        (r"\boxed{}", "stop", "no_answer"),
        (r"\boxed{12", "stop", "no_answer"),
        (r"\boxed{" + "1" * 1001 + "}", "stop", "too_long"),
        ("####" + "1" * 10**6, "stop", "too_long"),
        (r"\boxed{12} or \boxed{13}", "stop", "wrong"),
    ],
)
def test_every_failure_has_its_reason(reward, text, finish_reason, expected):
    assert reward("12", Completion([], text, finish_reason, [])).reason == expected


def test_the_stated_answer_is_handed_on_for_votes(reward):
    assert reward("12", boxed("13")).answer == "13"
    assert reward("12", boxed("13", "length")).answer == "13"
    assert reward("12", Completion([], "13", "stop", [])).answer is None
    assert reward("12", boxed(r"\dfrac{1} {2}")).answer == r"\frac{1}{2}"


# Totality


@pytest.mark.slow
@pytest.mark.parametrize(
    "bomb",
    [pytest.param(b, marks=() if i % 4 == 0 else pytest.mark.fuzz) for i, b in enumerate(BOMBS)],
    ids=lambda bomb: bomb[:20],
)
def test_a_bomb_ends_within_its_limits(reward, bomb):
    process, began = reward._checker._process, time.monotonic()
    assert reason(reward, r"\frac{1}{7}", bomb) in {"wrong", "timeout", "crashed"}
    assert time.monotonic() - began < checker.PATIENCE * CONFIG.time_limit
    assert reward._checker._process is process  # its fork ended, not the checker
    assert reason(reward, r"\frac{1}{2}", "0.5") == "correct"


def test_a_gold_that_cannot_be_computed_times_out_rather_than_passes(reward):
    assert reason(reward, "9^{9^{9^9}}", "9^{9^{9^9}}") == "timeout"


@settings(
    max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(st.lists(st.sampled_from(PIECES), max_size=10), st.text(max_size=10))
def test_any_gold_and_any_text_give_zero_or_one(reward, pieces, text):
    for gold, answer in (("".join(pieces), text), (text, "".join(pieces)), (text, text)):
        assert reward(gold, boxed(answer)).value in (0.0, 1.0)
        assert reward(gold, Completion([], answer, "stop", [])).value in (0.0, 1.0)


# One value per pair of texts


@settings(
    max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(st.data())
def test_the_fast_path_of_integers_agrees_with_the_checker(reward, data):
    plain = st.integers(-(10**12), 10**12)
    written = st.one_of(
        plain.map(str), plain.map(lambda n: f"{n:,}"), st.integers(0, 99).map(lambda n: f"{n:04d}")
    )
    gold = data.draw(written)
    answer = data.draw(st.one_of(written, st.just(gold), st.just(str(as_integer(gold)))))
    verdict = reward._checker.compare(gold, answer)
    assert (verdict == "correct") == (as_integer(gold) == as_integer(answer))
    assert reason(reward, gold, answer) == verdict


@pytest.mark.slow
def test_a_value_does_not_depend_on_what_was_checked_before(reward):
    golds = ["x+1", r"\frac{1}{2}", "(1,2)", r"\{1,2\}", "x=0.5", "0.5"]
    pairs = [(gold, answer) for gold in golds for answer in golds]
    first = {pair: reason(reward, *pair) for pair in pairs}
    random.Random(0).shuffle(pairs)
    fresh = MathReward(CONFIG)
    assert {pair: reason(fresh, *pair) for pair in pairs} == first
    fresh.close()


def test_kept_verdicts_are_bounded_and_change_nothing(reward, monkeypatch):
    monkeypatch.setattr(checker, "REMEMBERED", 3)
    for _ in range(2):
        found = [reason(reward, f"x+{n}", f"{n % 4}+x") for n in range(8)]
        assert found == ["correct"] * 4 + ["wrong"] * 4
        assert len(reward._checker._verdicts) <= 3


# Gold answers at load


def test_golds_of_every_style_verify_against_themselves(reward):
    golds = ["18", "27.0", r"\frac{14}{3}", "$69$,$84$", "9.6\n", r"\text{Evelyn}", "3, 5, 7"]
    check_golds([{"id": str(i), "answer": g} for i, g in enumerate(golds)], reward, "train.jsonl")


@pytest.mark.parametrize("bad", [r"\frac{1}{", "}{", "9^{9^{9^9}}", "9" * 1001, "$"])
def test_a_gold_that_nothing_can_earn_names_file_and_row(reward, bad):
    problems = [{"id": "a", "answer": "1"}, {"id": "b", "answer": bad}]
    with pytest.raises(ConfigError, match=r"^data/train.jsonl:2: answer .* of problem 'b' "):
        check_golds(problems, reward, "data/train.jsonl")
