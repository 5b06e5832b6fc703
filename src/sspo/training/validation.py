"""The small evaluation during training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sspo.config.rollout import SamplingConfig
from sspo.config.settings import ValidationConfig
from sspo.data.problems import Record
from sspo.rewards.base import RewardFunction
from sspo.rollout.engine import RolloutEngine
from sspo.training.grading import evaluate_problems
from sspo.training.metrics import Metrics


def make_validation(
    problems: Sequence[Record],
    engine: RolloutEngine,
    tokenizer,
    reward: RewardFunction,
    validation: ValidationConfig,
    sampling: SamplingConfig,
    seed: int,
) -> Callable[[], Metrics]:
    """A function that measures greedy and sampled pass@1 on the first validation problems.

    The random numbers are the same at every call, so that a change in accuracy is the policy's.
    """
    chosen = problems[: validation.problems]

    def validate() -> Metrics:
        records = evaluate_problems(
            chosen,
            engine,
            tokenizer,
            reward,
            samples=validation.samples,
            temperature=sampling.temperature,
            max_tokens=sampling.max_response_tokens,
            seed=seed,
        )
        # One minus the wrong share, as ``pass_at_k`` computes it: the last bits are the same.
        wrong = [sum(value != 1.0 for value in r["rewards"]) / validation.samples for r in records]
        return {
            "greedy": sum(record["greedy"] for record in records) / len(records),
            "pass@1": sum(1.0 - share for share in wrong) / len(records),
        }

    return validate
