"""The reward of word problems compares the last number of a response with the right one.

As lm-eval's filter "flexible-extract" for GSM8K does, with an exact comparison of values.
"""

from __future__ import annotations

import re
from collections import deque
from decimal import Decimal

from sspo.rewards.base import Reward, graded
from sspo.rollout.engine import Completion

# A sign after a digit, a letter or a bracket is an operation (12-5); commas part groups of three digits.
_NUMBER = re.compile(
    r"((?<![\w.)])[-+])?\$?((?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
)


def last_number(text: str) -> str | None:
    """The last number, in ASCII digits and as short as it can be; None without one.

    ``so it costs $1,250.50.`` -> ``1250.5``.
    """
    found = deque(_NUMBER.finditer(text), maxlen=1)
    if not found:
        return None
    last = found[0]
    value = format(Decimal((last[1] or "") + last[2].replace(",", "")), "f")
    value = value.rstrip("0").rstrip(".") if "." in value else value
    return "0" if value == "-0" else value


def number_reward(answer: str, completion: Completion) -> Reward:
    """1 if the response ended by itself and its last number equals ``answer``, which is a number alone.

    Any completion gives 0 or 1; none raises.
    """
    gold = last_number(answer) if _NUMBER.fullmatch(answer.strip()) else None
    return graded(completion, last_number(completion.text), lambda given: given == gold)
