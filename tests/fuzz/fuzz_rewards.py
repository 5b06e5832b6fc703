"""Coverage-guided search (atheris) for a text that breaks the rewards: ``make fuzz``.

Guided through the code of the project, with a stand-in for the process that compares formulas: what it
would be sent is read and checked instead. Arguments are libFuzzer's, such as ``-max_total_time=60 FOLDER``.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

import atheris

from sspo.rollout.engine import Completion

with atheris.instrument_imports(include=["sspo"]):
    from sspo.rewards import answers, exact, math, notation, number

LIMIT = 200


class StandIn:
    """Answers as the checker does, after checking that the question keeps its bounds."""

    def compare(self, gold: str, answer: str) -> str:
        assert len(gold) <= 2 * LIMIT and len(answer) <= 2 * LIMIT
        first, second = notation.read_answer(gold), notation.read_answer(answer)
        return "correct" if first == second else "timeout"


math.Checker = lambda config: StandIn()
REWARD = math.MathReward(SimpleNamespace(max_characters=LIMIT))


def check_one(data: bytes) -> None:
    provider = atheris.FuzzedDataProvider(data)
    gold = provider.ConsumeUnicode(provider.ConsumeIntInRange(0, 40))  # surrogates too
    finish = provider.PickValueInList(["stop", "stop", "length"])
    text = provider.ConsumeUnicode(provider.remaining_bytes())
    for reward in (exact.exact_reward, number.number_reward, REWARD):
        for given in (text, rf"\boxed{{{text}}}", f"####{text}"):
            found = reward(gold, Completion([], given, finish, []))
            assert found.value == float(found.reason == "correct")
            assert found.reason != "correct" or finish == "stop"
            assert reward(gold, Completion([], given, finish, [])) == found
    answer = answers.find_answer(text, LIMIT)
    assert answer is None or 0 < len(answer) <= LIMIT + 1
    plain = answers.normalize(text[:LIMIT])
    value = answers.as_integer(plain)
    assert value is None or (plain.isascii() and answers.as_integer(str(value)) == value)


if __name__ == "__main__":
    atheris.Setup(sys.argv, check_one)
    atheris.Fuzz()
