r"""The reward of reasoning-gym's problems: the scorer of the generator, run by ``sspo.rewards.checker``."""

from __future__ import annotations

from sspo.rewards.answers import BOX, find_answer
from sspo.rewards.base import ANSWER_MARK, Reward
from sspo.rewards.checker import CheckedReward
from sspo.rollout.engine import Completion


def stated_answer(text: str, limit: int) -> str | None:
    r"""What follows the last ``#`` (``#### 12``), else the last ``\boxed{}``, else the last line.

    Args:
        text: a response.
        limit: at most ``limit + 1`` characters are returned, so that the caller sees when it is too long.
    """
    _, mark, answer = text.rpartition(ANSWER_MARK)
    if not mark and BOX in text:
        return find_answer(text, limit)
    if not mark:
        answer = text.strip().rpartition("\n")[2]
    return answer.strip()[: limit + 1] or None


class GymReward(CheckedReward):
    """1 if the response ended by itself and the generator's scorer gives its answer the full score.

    Any gold and completion give 0 or 1 within bounded time and memory; none raises. Scores between 0 and
    1, which scorers give for answers in part or in another form, count as 0.
    """

    def __call__(self, gold: str, completion: Completion) -> Reward:
        """The reward of a completion; ``gold`` is the JSON that ``sspo.data.gym`` writes."""
        limit = self.config.max_characters
        given = stated_answer(completion.text, limit)
        if completion.finish_reason != "stop":
            return Reward(0.0, "truncated", given)
        if given is None:
            return Reward(0.0, "no_answer")
        if len(given) > limit:
            return Reward(0.0, "too_long", given)
        reason = self._checker.compare(gold, given)
        return Reward(float(reason == "correct"), reason, given)
