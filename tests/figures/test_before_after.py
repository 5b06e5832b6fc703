"""Before and after one run: the table's numbers, and that the figure shows what it is given."""

from __future__ import annotations

import pandas as pd

from sspo.figures.before_after import (
    accuracy_table,
    answers_to_show,
    draw_before_after,
    question,
    quoted,
)

CHAT = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1 + 1 =<|im_end|>\n<|im_start|>"


def record(rewards, lengths, *texts) -> dict:
    return {"rewards": rewards, "lengths": lengths, "texts": ["greedy", *texts]}


def test_the_table_has_means_over_samples_and_an_interval_over_problems():
    mixed = [record([1, 0], [2, 4]), record([0, 0], [6, 8])]
    sure = [record([1, 1], [1, 1]), record([1, 1], [1, 1])]
    rows = accuracy_table({"test": {"before": mixed, "after": sure}}).splitlines()
    assert rows[2] == "| test (2) | before | 0.25 | 0.00 to 0.50 | 5.0 |"
    # All right, n = 2: the exact binomial bound 0.025^(1/2).
    assert rows[3] == "| test (2) | after | 1.00 | 0.16 to 1.00 | 1.0 |"


def test_shown_are_the_first_problems_with_sampled_answers_not_chosen_ones():
    problems = [{"prompt": CHAT.replace("1 + 1", f"{n} + 1")} for n in (5, 6, 7)]
    before = [record([0], [1], f"before {n}") for n in (5, 6, 7)]
    after = [record([1], [1], f"after {n}") for n in (5, 6, 7)]
    assert answers_to_show(problems, before, after) == [
        ("5 + 1 =", "before 5", "after 5"),
        ("6 + 1 =", "before 6", "after 6"),
    ]


def test_a_question_is_what_the_user_says_and_else_the_whole_prompt():
    assert question(CHAT) == "1 + 1 ="
    assert question("Q: 1 + 1\nA:") == "Q: 1 + 1 A:"


def test_long_answers_are_cut_and_empty_ones_said():
    assert quoted("a b\n c", 80, 2) == "a b c"
    assert quoted("word " * 9, 9, 2) == "word word\nword word\n..."
    assert quoted(" \n") == "(nothing)"


def test_the_figure_shows_both_curves_and_every_answer_even_with_signs_of_mathematics():
    metrics = pd.DataFrame(
        {"step": [0, 1, 2], "reward": [None, 0.25, 1.0], "response_tokens": [None, 40.0, 8.0]}
    )
    answers = [("1 + 1 =", "It costs $1 or $2^", "2")]
    figure = draw_before_after(metrics, answers, "SSPO", "#D55E00")
    reward, tokens = (axes.lines[0].get_xydata().tolist() for axes in figure.axes[:2])
    assert (reward, tokens) == ([[1, 0.25], [2, 1]], [[1, 40], [2, 8]])
    texts = {text.get_text() for text in figure.axes[2].texts}
    assert texts == {"1 + 1 =", "before", "after", "It costs $1 or $2^", "2"}
    figure.draw_without_rendering()
