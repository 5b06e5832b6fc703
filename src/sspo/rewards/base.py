"""The reward of a whole response: 1 for the right answer, 0 for anything else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from sspo.config.errors import ConfigError
from sspo.rollout.engine import Completion

Reason = Literal["correct", "wrong", "no_answer", "truncated", "too_long", "timeout", "crashed"]

ANSWER_MARK = "#"


@dataclass(frozen=True)
class Reward:
    """What a response earns.

    Attributes:
        value: 0.0 or 1.0.
        reason: why, for the metrics.
        answer: the answer that the response states, in the form in which maj@k counts votes; None if it
            states none.
    """

    value: float
    reason: Reason
    answer: str | None = field(default=None, compare=False)


RewardFunction = Callable[[str, Completion], Reward]


def graded(completion: Completion, given: str | None, right: Callable[[str], bool]) -> Reward:
    """1 if a response ended by itself and states an answer, ``given``, that is ``right``."""
    if completion.finish_reason != "stop":
        return Reward(0.0, "truncated", given)
    if given is None:
        return Reward(0.0, "no_answer")
    return Reward(1.0, "correct", given) if right(given) else Reward(0.0, "wrong", given)


def check_golds(
    problems: Sequence[dict[str, object]], reward: RewardFunction, path: str | Path
) -> None:
    """Refuse gold answers that no response could match, before any compute is spent on them.

    Raises:
        ConfigError: a gold answer is not correct for itself; the message names file, row and reason.
    """
    for row, problem in enumerate(problems, start=1):
        reason = judge_gold(problem, reward)
        if reason != "correct":
            raise ConfigError(
                f"{path}:{row}: answer {str(problem['answer'])[:80]!r} of problem "
                f"{problem['id']!r} does not verify against itself ({reason}); fix or drop "
                "the row, or choose another reward.name"
            )


def gold_of(problem: Mapping[str, object]) -> str:
    """What a reward compares responses with: a problem's ``gold`` where it has one, else its ``answer``."""
    return str(problem.get("gold", problem["answer"]))


def judge_gold(problem: Mapping[str, object], reward: RewardFunction) -> Reason:
    """The reason that the reward gives for a response that states the gold answer itself."""
    return reward(gold_of(problem), state_answer(str(problem["answer"]))).reason


def state_answer(answer: str) -> Completion:
    """A response that does nothing but state an answer, in both forms that the rewards read."""
    return Completion([], rf"\boxed{{{answer}}} {ANSWER_MARK}{answer}", "stop", [])


def failure_shares(rewards: Iterable[Reward]) -> dict[str, float]:
    """Reason -> share of the responses that failed for it; with ``correct`` they would add up to 1."""
    reasons = [r.reason for r in rewards]
    return {
        reason: reasons.count(reason) / len(reasons)
        for reason in get_args(Reason)
        if reason != "correct"
    }
