"""Put many hostile completions through both rewards and report counts by reason, time and memory.

    python tests/fuzz/run_hostile.py --count 1000000 --minutes 25

Stops at the count or when the time is up, and says how many there were. Fails when a value is not 0
or 1, when a reason and a value disagree, or when anything is raised.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hostile import completion

from sspo.config.settings import RewardConfig
from sspo.rewards.exact import exact_reward
from sspo.rewards.math import MathReward
from sspo.rollout.engine import Completion


@dataclass
class Tally:
    """What one reward did."""

    reasons: Counter = field(default_factory=Counter)
    seconds: float = 0.0
    slowest: float = 0.0

    def add(self, reward, gold: str, given: Completion) -> None:
        began = time.perf_counter()
        found = reward(gold, given)
        taken = time.perf_counter() - began
        assert found.value == float(found.reason == "correct"), (gold, given.text[:200], found)
        self.reasons[found.reason] += 1
        self.seconds += taken
        self.slowest = max(self.slowest, taken)

    def report(self) -> dict[str, object]:
        return {
            "reasons": dict(self.reasons.most_common()),
            "total": self.reasons.total(),
            "seconds": round(self.seconds, 1),
            "slowest_seconds": round(self.slowest, 3),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--time-limit", type=float, default=2.0, help="CPU seconds per comparison")
    parser.add_argument("--checker-share", type=float, default=0.006, help="need mathematics")
    parser.add_argument("--bomb-share", type=float, default=3e-5, help="try to exhaust it")
    parser.add_argument("--output", type=Path, help="JSON file for the report")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    reward = MathReward(
        RewardConfig(
            name="math", time_limit=arguments.time_limit, memory_mb=1024, max_characters=1000
        )
    )
    asked = count_questions(reward)
    exact, math = Tally(), Tally()
    began = last = time.monotonic()
    while math.reasons.total() < arguments.count and last - began < 60 * arguments.minutes:
        gold, text, finish = completion(rng, arguments.checker_share, arguments.bomb_share)
        given = Completion([], text, finish, [])
        exact.add(exact_reward, gold, given)
        math.add(reward, gold, given)
        if math.reasons.total() % 10_000 == 0:
            print(f"{time.monotonic() - began:.0f} s {dict(math.reasons)}", flush=True)
        last = time.monotonic()
    reward.close()
    report = {
        "minutes": round((last - began) / 60, 1),
        "exact": exact.report(),
        "math": math.report(),
        "asked_of_the_checker": asked["questions"],
        "peak_rss_mib": peak(resource.RUSAGE_SELF),
        "peak_rss_checker_mib": peak(resource.RUSAGE_CHILDREN),
    }
    print(json.dumps(report, indent=1))
    if arguments.output:
        arguments.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def count_questions(reward: MathReward) -> Counter:
    """Count what neither the fast path nor memory answers."""
    asked, ask = Counter(), reward._checker.ask

    def counted(gold: str, answer: str) -> str:
        asked["questions"] += 1
        return ask(gold, answer)

    reward._checker.ask = counted
    return asked


def peak(who: int) -> float:
    return round(resource.getrusage(who).ru_maxrss / 1024, 1)


if __name__ == "__main__":
    main()
