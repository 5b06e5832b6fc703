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
            sample_seed("evaluation", seed, problems[i]["id"], j)
            for i in rows
            for j in range(samples)
        ]
        requests = Sampling(limit, temperature=0.0), Sampling(limit, temperature, seeds)
        completions = _complete(engine, [prompts[i] for i in rows], samples, *requests)
        for i, (greedy, sampled) in zip(rows, completions, strict=True):
            records[i] = _record(problems[i], greedy, sampled, reward)
    return [records[i] for i in range(len(problems))]


def _complete(
    engine: RolloutEngine,
    prompts: Sequence[list[int]],
    samples: int,
    once: Sampling,
    often: Sampling,
) -> list[tuple[Completion, list[Completion]]]:
    """A greedy completion and ``samples`` sampled ones per prompt."""
    greedy = engine.generate(prompts, once)
    repeated = [p for p in prompts for _ in range(samples)]
    sampled = engine.generate(repeated, often)
    if len(greedy) != len(prompts) or len(sampled) != len(repeated):
        raise RuntimeError(
            f"asked for {len(prompts)} greedy and {len(repeated)} sampled completions, "
            f"got {len(greedy)} and {len(sampled)}"
        )
    return [(g, sampled[i * samples : (i + 1) * samples]) for i, g in enumerate(greedy)]


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
