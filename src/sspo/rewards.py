"""The reward at the end of a response: 1 for the right answer, 0 for anything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sspo.rollout.engine import Completion

Reason = Literal["correct", "wrong", "no_answer", "truncated"]

ANSWER_MARK = "#"


@dataclass(frozen=True)
class Reward:
    """``value`` is 0 or 1; ``reason`` says why, for the metrics."""

    value: float
    reason: Reason


def extract_answer(text: str) -> str | None:
    """What follows the last ``#`` (as in GSM8K's ``####``), or None without one."""
    _, mark, answer = text.rpartition(ANSWER_MARK)
    return answer.strip() if mark else None


def exact_reward(answer: str, completion: Completion) -> Reward:
    """1 when the response ended by itself and its answer equals ``answer`` character for character.

    Total: any completion gives 0 or 1, never an exception.
    """
    if completion.finish_reason != "stop":
        return Reward(0.0, "truncated")
    given = extract_answer(completion.text)
    if given is None:
        return Reward(0.0, "no_answer")
    return Reward(1.0, "correct") if given == answer.strip() else Reward(0.0, "wrong")
