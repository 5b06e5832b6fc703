"""Coverage-guided search (atheris) for a text that breaks the rewards: ``make fuzz``.

Guided through the code of the project, with a stand-in for math-verify's process: what it would
be sent is checked instead. Arguments are libFuzzer's, for example ``-max_total_time=60 FOLDER``.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

import atheris

from sspo.rollout.engine import Completion

with atheris.instrument_imports(include=["sspo"]):
    from sspo.rewards import (
        answers as math_answers,
    )
    from sspo.rewards import (
        base as rewards,
    )
    from sspo.rewards import (
        math as math_reward,
    )
    from sspo.rewards import (
        worker as math_worker,
    )

LIMIT = 200


class StandIn:
    """Answers as the checker does, after checking that the question keeps its bounds."""

    def start(self) -> bool:
        return True

    def ask(self, gold: str, answer: str) -> str:
        assert len(gold) <= 2 * LIMIT and len(answer) <= 2 * LIMIT
        if math_worker.different_bases(gold, answer):
            return math_worker.WRONG
        return math_worker.CORRECT if gold == answer else math_worker.TIMEOUT


math_reward._Checker = lambda config: StandIn()
REWARD = math_reward.MathReward(SimpleNamespace(max_characters=LIMIT))


def check_one(data: bytes) -> None:
    provider = atheris.FuzzedDataProvider(data)
    gold = provider.ConsumeUnicode(provider.ConsumeIntInRange(0, 40))  # surrogates too
    finish = provider.PickValueInList(["stop", "stop", "length"])
    text = provider.ConsumeUnicode(provider.remaining_bytes())
    for reward in (rewards.exact_reward, REWARD):
        for given in (text, rf"\boxed{{{text}}}", f"####{text}"):
            found = reward(gold, Completion([], given, finish, []))
            assert found.value == float(found.reason == "correct")
            assert found.reason != "correct" or finish == "stop"
            assert reward(gold, Completion([], given, finish, [])) == found
    answer = math_answers.find_answer(text, LIMIT)
    assert answer is None or 0 < len(answer) <= LIMIT + 1
    plain = math_answers.normalize(text[:LIMIT])
    value = math_answers.as_integer(plain)
    assert value is None or (plain.isascii() and math_answers.as_integer(str(value)) == value)


if __name__ == "__main__":
    atheris.Setup(sys.argv, check_one)
    atheris.Fuzz()
