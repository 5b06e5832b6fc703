"""From completions to accuracy: greedy and sampled pass@1, unbiased pass@k, maj@k."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import comb

from sspo.data.problems import Record
from sspo.rewards.base import RewardFunction
from sspo.rollout.engine import Completion, RolloutEngine, Sampling, sample_seed


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Chance that k of n samples, drawn without replacement, hold a correct one (arXiv 2107.03374).

    Unbiased: 1 - C(n - c, k) / C(n, k).

    Raises:
        ValueError: k outside 1..n or c outside 0..n.
    """
    if not 1 <= k <= samples or not 0 <= correct <= samples:
        raise ValueError(
            f"pass@{k} needs 1 <= k <= n and 0 <= c <= n, got n={samples}, c={correct}"
        )
    return 1.0 - comb(samples - correct, k) / comb(samples, k)


def majority_correct(answers: Sequence[str | None], correct: Sequence[bool]) -> float:
    """Whether the most frequent answer is correct; ties share the vote, None is no vote.

    Returns:
        A number in [0, 1]: the correct share of the answers tied for first place; 0 without votes.
    """
    votes = Counter(a for a in answers if a is not None)
    if not votes:
        return 0.0
    most = max(votes.values())
    winners = {a for a, n in votes.items() if n == most}
    right = {a for a, c in zip(answers, correct, strict=True) if c and a in winners}
    return len(right) / len(winners)


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
    prompts = tokenizer([str(p["prompt"]) for p in problems])["input_ids"]
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


def problem_scores(record: Record, pass_at: Sequence[int]) -> dict[str, float]:
    """One problem's scores: ``greedy``, ``pass@k``, ``maj@k`` (k > 1), length, truncation.

    pass@k is unbiased over all samples, maj@k is over the first k.
    """
    rewards, answers = record["rewards"], record["answers"]
    correct, count = [value == 1.0 for value in rewards], len(rewards)
    scores = {"greedy": record["greedy"]}
    scores |= {f"pass@{k}": pass_at_k(count, sum(correct), k) for k in pass_at}
    scores |= {f"maj@{k}": majority_correct(answers[:k], correct[:k]) for k in pass_at if k > 1}
    scores["response_tokens"] = sum(record["lengths"]) / count
    scores["truncated"] = sum(record["truncated"]) / count
    return scores


def summarize(records: Sequence[Record], pass_at: Sequence[int]) -> dict[str, float]:
    """Means of ``problem_scores`` over problems."""
    scores = [problem_scores(record, pass_at) for record in records]
    return {name: sum(s[name] for s in scores) / len(scores) for name in scores[0]}


def _record(
    problem: Record, greedy: Completion, sampled: Sequence[Completion], reward: RewardFunction
) -> Record:
    gold = str(problem["answer"])
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
