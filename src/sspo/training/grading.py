"""Greedy and sampled completions of problems, each with its reward."""

from __future__ import annotations

from collections.abc import Sequence

from sspo.data.problems import Record
from sspo.models.prompts import encode_prompts
from sspo.rewards.base import RewardFunction, gold_of
from sspo.rollout.engine import Completion, RolloutEngine, Sampling, sample_seed


def evaluate_problems(
    problems: Sequence[Record],
    engine: RolloutEngine,
    tokenizer,
    reward: RewardFunction,
    *,
    samples: int,
    temperature: float,
    max_tokens: int,
    seed: int,
    context: int | None = None,
) -> list[Record]:
    """One greedy and ``samples`` sampled completions per problem.

    A response has at most ``max_tokens`` tokens, and no more than its prompt leaves of ``context``.

    Returns:
        A record per problem: ``id``, ``greedy`` (0/1), ``rewards`` (list of 0/1), ``answers``,
        ``lengths`` in tokens and ``truncated`` (0/1) of the samples, and the ``texts``, greedy first.

    Raises:
        RuntimeError: the engine returned another number of completions than asked for.
    """
    prompts = encode_prompts(tokenizer, [str(p["prompt"]) for p in problems])
    room = [min(max_tokens, context - len(p)) if context else max_tokens for p in prompts]
    records: dict[int, Record] = {}
    for limit in sorted(set(room)):
        rows = [i for i, tokens in enumerate(room) if tokens == limit]
        seeds = [
            sample_seed("evaluation", seed, problems[i]["id"], j - 1) if j else None
            for i in rows
            for j in range(1 + samples)
        ]
        repeated = [prompts[i] for i in rows for _ in range(1 + samples)]
        completions = engine.generate(repeated, Sampling(limit, temperature, seeds))
        if len(completions) != len(repeated):
            raise RuntimeError(f"asked for {len(repeated)} completions, got {len(completions)}")
        for place, i in enumerate(rows):
            greedy, *sampled = completions[place * (1 + samples) : (place + 1) * (1 + samples)]
            records[i] = _record(problems[i], greedy, sampled, reward)
    return [records[i] for i in range(len(problems))]


def _record(
    problem: Record, greedy: Completion, sampled: Sequence[Completion], reward: RewardFunction
) -> Record:
    gold = gold_of(problem)
    rewards = [reward(gold, c) for c in sampled]
    return {
        "id": problem["id"],
        "greedy": reward(gold, greedy).value,
        "rewards": [r.value for r in rewards],
        "answers": [r.answer for r in rewards],
        "lengths": [len(c.token_ids) for c in sampled],
        "truncated": [float(c.finish_reason == "length") for c in sampled],
        "texts": [c.text for c in (greedy, *sampled)],
    }
