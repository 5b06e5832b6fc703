r"""The reward for answers in LaTeX, which are compared in the process of ``sspo.rewards.checker``."""

from __future__ import annotations

from sspo.rewards.answers import as_integer, find_answer, normalize, vote
from sspo.rewards.base import Reason, Reward
from sspo.rewards.checker import CheckedReward
from sspo.rollout.engine import Completion


class MathReward(CheckedReward):
    """1 if the response ended by itself and its answer means what the gold answer means.

    Any gold answer and completion give 0 or 1 within bounded time and memory; none raises.
    """

    def __call__(self, answer: str, completion: Completion) -> Reward:
        """The reward of a completion for the gold ``answer``."""
        limit = self.config.max_characters
        given = find_answer(completion.text, limit)
        stated = given and vote(given)
        reason = self._judge(answer, given, completion.finish_reason)
        return Reward(float(reason == "correct"), reason, stated)

    def _judge(self, gold: str, given: str | None, finish_reason: str) -> Reason:
        if finish_reason != "stop":
            return "truncated"
        if given is None:
            return "no_answer"
        if max(len(gold), len(given)) > self.config.max_characters:
            return "too_long"
        gold, given = normalize(gold), normalize(given)
        first, second = as_integer(gold), as_integer(given)
        # A shortcut: a test holds that the checker would give the same verdict.
        if first is not None and second is not None:
            return "correct" if first == second else "wrong"
        return self._checker.compare(gold, given)
