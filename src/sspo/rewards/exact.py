"""The reward of the procedural tasks compares the answer after the last mark with the right one."""

from __future__ import annotations

from sspo.rewards.base import ANSWER_MARK, Reward, graded
from sspo.rollout.engine import Completion


def extract_answer(text: str) -> str | None:
    """The text after the last ``#`` (as in GSM8K's ``####``); None without one."""
    _, mark, answer = text.rpartition(ANSWER_MARK)
    return answer.strip() if mark else None


def exact_reward(answer: str, completion: Completion) -> Reward:
    """1 if the response ended by itself and its answer equals ``answer`` character for character.

    Any completion gives 0 or 1; none raises.
    """
    return graded(
        completion, extract_answer(completion.text), lambda given: given == answer.strip()
    )
