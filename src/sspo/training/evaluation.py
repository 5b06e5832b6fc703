"""From graded completions to accuracy: greedy and sampled pass@1, unbiased pass@k, maj@k."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import comb

from sspo.data.problems import Record


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


def summarize(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    """Means over problems of what ``problem_scores`` says of each."""
    return {name: sum(s[name] for s in scores) / len(scores) for name in scores[0]}
