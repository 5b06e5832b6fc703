"""What a mathematical response states as its answer, and that any text is read in linear time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sspo.rewards.answers import as_integer, find_answer, normalize, vote

LIMIT = 50


@pytest.mark.parametrize(
    "text, answer",
    [
        (r"\boxed{12}", "12"),
        (r"so \boxed{ 12 }.", "12"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\sqrt{\frac{a}{b^{2}}}} and more", r"\sqrt{\frac{a}{b^{2}}}"),
        (r"\boxed{1} then \boxed{2}", "2"),  # the last box wins
        (r"\boxed{\boxed{3}}", "3"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ x \right.}", r"\left\{ x \right."),  # an escaped brace closes nothing
        (r"\boxed{\begin{pmatrix}1\\{2}\end{pmatrix}}", r"\begin{pmatrix}1\\{2}\end{pmatrix}"),
        ("\\boxed {\n12\n}", "12"),
        (r"\boxed{5} as asked, in \boxed.", "5"),  # a mention without braces is no box
        (r"\boxed{5} #### 6", "5"),  # a box wins over a mark
        ("#### 18", "18"),
        ("16 - 3 = 13\n#### 1,234\nDone.", "1,234"),
        ("#### 1\n#### 2", "2"),
        (r"$\boxed{x = 5}$", "x = 5"),
        (r"\boxed{}", None),
        (r"\boxed{ }", None),
        (r"\boxed{5} or \boxed{6", None),  # the last box is never closed
        (r"\boxed{5} or \boxed{}", None),
        (r"\boxed 5", None),
        ("####", None),
        ("####\n5", None),
        ("### 5", None),
        ("the answer is 5", None),
        ("\\boxed\uff5b5\uff5d", None),  # full-width braces
        ("", None),
    ],
)
def test_the_last_box_counts_and_without_a_box_the_last_mark(text, answer):
    assert find_answer(text, LIMIT) == answer


def test_an_answer_is_cut_one_character_behind_the_limit():
    assert find_answer(r"\boxed{" + "9" * LIMIT + "}", LIMIT) == "9" * LIMIT
    for text in (r"\boxed{" + "9" * 60 + "}", r"\boxed{" + "9" * 60, "####" + "9" * 60):
        assert len(find_answer(text, LIMIT)) == LIMIT + 1


@pytest.mark.parametrize("rest", ["", "9", "}", "}9", "\\}"])
def test_what_stands_behind_the_limit_does_not_matter(rest):
    """Nor that nothing stands there: an answer that long is too long, whether it ends or not."""
    read = "9" * (LIMIT + 1)
    for start in (r"\boxed{", "####"):
        assert find_answer(start + read + rest, LIMIT) == read


def by_hand(text: str) -> str | None:
    """The content of the last closed group behind a box, character by character, without a limit."""
    places = [i for i in range(len(text)) if text.startswith("\\boxed{", i)]
    if not places:
        return None
    depth, answer, escaped = 1, "", False
    for character in text[places[-1] + len("\\boxed{") :]:
        if not escaped:
            depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return answer.strip() or None
        escaped = character == "\\" and not escaped
        answer += character
    return None


@settings(max_examples=300)
@given(st.lists(st.sampled_from(["\\boxed{", "{", "}", "\\", "\\{", "\\}", "1", " "]), max_size=12))
def test_boxes_are_read_as_by_hand(pieces):
    text = "".join(pieces)
    assert find_answer(text, 10**6) == by_hand(text)


@settings(max_examples=300)
@given(st.text(st.characters(exclude_characters="")), st.integers(1, 20))
def test_any_text_has_an_answer_of_bounded_length_or_none(text, limit):
    for response in (text, f"\\boxed{{{text}", f"\\boxed{{{text}}}", f"####{text}"):
        answer = find_answer(response, limit)
        assert answer is None or (0 < len(answer) <= limit + 1 and answer == answer.strip())


@pytest.mark.parametrize(
    "piece", ["\\boxed{", "\\boxed", "\\boxed ", "{", "}", "\\", "#", "####", " ", "$", "\n", "9"]
)
@pytest.mark.parametrize("end", ["", r"\boxed{5}"])
def test_a_million_repetitions_are_read_in_seconds(piece, end):
    began = time.process_time()
    answer = find_answer(piece * 1_000_000 + end, LIMIT)
    assert time.process_time() - began < 5.0
    assert answer == ("5" if end else None)


@pytest.mark.parametrize(
    "first, second, one",
    [
        (r"\frac{1}{2}", r"\dfrac{1}{2}", True),
        (r"\left( 1, 2 \right)", "(1,2)", True),
        ("1,000", "1000", True),
        ("025", "$25$", True),
        ("2x + 1", "2x+1", True),
        ("2 1/2", "21/2", False),
        (r"\frac{1}{2}", "0.5", False),
        ("x", "X", False),
    ],
)
def test_answers_that_are_only_typeset_otherwise_vote_as_one(first, second, one):
    assert (vote(first) == vote(second)) == one


@pytest.mark.parametrize(
    "answer, plain",
    [
        (" 12\n", "12"),
        ("12.", "12"),
        ("12 .", "12"),
        ("$12$", "12"),
        ("$$12$$", "12"),
        (r"\(12\)", "12"),
        (r"\[ 12 \]", "12"),
        ("$69$,$84$", "$69$,$84$"),
        (r"\$32", r"\$32"),
        ("a\n b", "a b"),
        ("7e37", r"7 \times 10^{37}"),
        ("-4.5E-33", r"-4.5 \times 10^{-33}"),
        ("2e", "2e"),
        ("2e3x", "2e3x"),
        ("", ""),
    ],
)
def test_normalize_takes_off_dressing_alone(answer, plain):
    assert normalize(answer) == plain


@settings(max_examples=300)
@given(st.text(max_size=40))
def test_no_text_breaks_normalize(text):
    assert len(normalize(text)) <= len(text) + len(r" \times 10^{}")


@pytest.mark.parametrize(
    "answer, value",
    [
        ("12", 12),
        ("-3", -3),
        ("025", 25),
        ("-0", 0),
        ("1,000", 1000),
        ("1,450,000", 1450000),
        ("0,123", None),  # a decimal comma
        ("1,23", None),
        ("1,2", None),
        ("1000,000", None),
        ("12.0", None),
        ("+5", None),
        ("1 000", None),
        ("\uff11\uff12", None),
        ("\u0663", None),
        ("9" * 19, None),
        ("", None),
        ("-", None),
    ],
)
def test_only_plain_integers_of_ascii_digits_are_integers(answer, value):
    assert as_integer(answer) == value
