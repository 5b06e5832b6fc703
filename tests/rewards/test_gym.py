"""The reward of reasoning-gym: which text is the answer; the trainer does without the library."""

from __future__ import annotations

import pytest

from sspo.rewards.gym import stated_answer
from support.checker import run_program


@pytest.mark.parametrize(
    "text, answer",
    [
        ("so\n#### 12", "12"),
        ("#1 #2", "2"),
        (r"\boxed{3} # 4", "4"),
        (r"\boxed{3} and more", "3"),
        (r"\boxed{3", None),
        ("first\nlast\n", "last"),
        ("#1 2\n3 4", "1 2\n3 4"),  # boards have several lines
        ("12 #", None),
        ("", None),
        (" \n ", None),
        ("#" + "x" * 50, "x" * 11),
        ("x" * 50, "x" * 11),
    ],
)
def test_the_answer_follows_the_mark_or_is_boxed_or_is_the_last_line(text, answer):
    assert stated_answer(text, 10) == answer


def test_the_trainer_never_imports_the_library():
    program = """
import sys
import sspo.rewards.gym, sspo.rewards.factory, sspo.data.gym, sspo.config.profile
print(sorted({"reasoning_gym", "sympy"} & {*sys.modules}))
"""
    assert "reasoning_gym" not in run_program(program)
