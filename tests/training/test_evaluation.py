"""Accuracy from completions: pass@k, maj@k, counts, and what is asked of the engine."""

from __future__ import annotations

from itertools import combinations
from types import SimpleNamespace

import pytest

from sspo.rewards.exact import exact_reward
from sspo.rollout.engine import Completion
from sspo.training.evaluation import majority_correct, pass_at_k, problem_scores, summarize
from sspo.training.grading import evaluate_problems

PROBLEMS = [
    {"id": "p0", "prompt": "1+2=", "answer": "3"},
    {"id": "p1", "prompt": "7+8-3=", "answer": "12"},
]


class FakeEngine:
    """Answers from a script (prompt -> texts, greedy first), and notes what it was asked.

    A text without its end mark ``$`` is truncated.
    """

    def __init__(self, tokenizer, script, drop=0):
        self.tokenizer, self.script, self.drop = tokenizer, script, drop
        self.asked = []

    def generate(self, prompts, sampling):
        self.asked.append(SimpleNamespace(prompts=prompts, sampling=sampling))
        greedy = {prompt: texts[0] for prompt, texts in self.script.items()}
        left = {prompt: list(texts[1:]) for prompt, texts in self.script.items()}
        done = []
        for ids, seed in zip(prompts, sampling.seeds, strict=True):
            prompt = self.tokenizer.decode(ids)
            done.append(self.complete(greedy[prompt] if seed is None else left[prompt].pop(0)))
        return done[: len(done) - self.drop] if self.drop >= 0 else done + done[:1]

    def complete(self, text):
        ended = text.endswith("$")
        ids = [5] * len(text)
        return Completion(ids, text.rstrip("$"), "stop" if ended else "length", [-1.0] * len(ids))


SCRIPT = {
    "1+2=": ["+2=3#3$", "#3$", "+2=4#4$", "+2=3#3$", "+2"],
    "7+8-3=": ["#11$", "#12$", "#12", "none$", "#11$"],
}


def evaluate(tokenizer, engine, problems=PROBLEMS, samples=4, seed=0, context=None):
    return evaluate_problems(
        problems,
        engine,
        tokenizer,
        exact_reward,
        samples=samples,
        temperature=0.7,
        max_tokens=50,
        seed=seed,
        context=context,
    )


# pass@k


@pytest.mark.parametrize("n", range(1, 9))
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_sample(n):
    for c in range(n + 1):
        outcomes = [True] * c + [False] * (n - c)
        for k in range(1, n + 1):
            subsets = list(combinations(outcomes, k))
            expected = sum(map(any, subsets)) / len(subsets)
            assert pass_at_k(n, c, k) == pytest.approx(expected, abs=1e-12)


def test_pass_at_one_is_the_mean_and_large_counts_stay_exact():
    assert pass_at_k(7, 3, 1) == pytest.approx(3 / 7)
    assert pass_at_k(10_000, 1, 5000) == pytest.approx(0.5)
    assert pass_at_k(10_000, 0, 5000) == 0.0
    assert pass_at_k(10_000, 5001, 5000) == 1.0


@pytest.mark.parametrize("n, c, k", [(4, 2, 0), (4, 2, 5), (4, -1, 1), (4, 5, 1), (0, 0, 1)])
def test_pass_at_k_refuses_impossible_counts(n, c, k):
    with pytest.raises(ValueError, match=f"pass@{k} .* n={n}, c={c}"):
        pass_at_k(n, c, k)


# maj@k


@pytest.mark.parametrize(
    "answers, right, expected",
    [
        (["3", "3", "4"], "3", 1.0),
        (["3", "4", "4"], "3", 0.0),
        (["3", "4"], "3", 1 / 2),
        (["3", "4", "5"], "3", 1 / 3),
        (["3", "3", "4", "4", "5"], "3", 1 / 2),
        (["3", "3", "4", "4", "5"], "5", 0.0),
        (["3", None, None, None], "3", 1.0),  # None is no vote
        ([None, None], "3", 0.0),
        ([], "3", 0.0),
        (["", "", "3"], "3", 0.0),  # an empty answer is one
    ],
)
def test_majority_is_the_most_frequent_answer_and_ties_share(answers, right, expected):
    correct = [answer == right for answer in answers]
    assert majority_correct(answers, correct) == pytest.approx(expected)


def test_majority_refuses_lists_of_different_lengths():
    with pytest.raises(ValueError, match="shorter than"):
        majority_correct(["3", "3"], [True])


# Records and summaries


def test_records_hold_every_completion_of_their_problem(tokenizer):
    first, second = evaluate(tokenizer, FakeEngine(tokenizer, SCRIPT))
    assert first == {
        "id": "p0",
        "greedy": 1.0,
        "rewards": [1.0, 0.0, 1.0, 0.0],
        "answers": ["3", "4", "3", None],
        "lengths": [3, 7, 7, 2],
        "truncated": [0.0, 0.0, 0.0, 1.0],
        "texts": ["+2=3#3", "#3", "+2=4#4", "+2=3#3", "+2"],
    }
    assert second["greedy"] == 0.0
    assert second["rewards"] == [1.0, 0.0, 0.0, 0.0]  # "#12" was cut off
    assert second["answers"] == ["12", "12", None, "11"]
    assert second["truncated"] == [0.0, 1.0, 0.0, 0.0]


def test_summary_of_two_problems_by_hand(tokenizer):
    records = evaluate(tokenizer, FakeEngine(tokenizer, SCRIPT))
    summary = summarize([problem_scores(record, (1, 2, 4)) for record in records])
    assert summary == pytest.approx(
        {
            "greedy": 1 / 2,
            "pass@1": (2 / 4 + 1 / 4) / 2,
            "pass@2": (5 / 6 + 3 / 6) / 2,
            "pass@4": 1.0,
            "maj@2": (1 / 2 + 1.0) / 2,  # 3 against 4; 12 twice
            "maj@4": 1.0,
            "response_tokens": ((3 + 7 + 7 + 2) / 4 + (4 + 3 + 5 + 4) / 4) / 2,
            "truncated": (1 / 4 + 1 / 4) / 2,
        }
    )


def test_scores_of_a_problem_average_to_the_summary(tokenizer):
    records = evaluate(tokenizer, FakeEngine(tokenizer, SCRIPT))
    scores = [problem_scores(record, (1, 4)) for record in records]
    assert "maj@1" not in scores[0]
    summary = summarize(scores)
    for name, value in summary.items():
        assert value == pytest.approx(sum(s[name] for s in scores) / 2)


def test_a_k_above_the_samples_raises_instead_of_shrinking(tokenizer):
    records = evaluate(tokenizer, FakeEngine(tokenizer, SCRIPT))
    with pytest.raises(ValueError, match="pass@8 .* n=4"):
        problem_scores(records[0], (1, 8))


# What the engine is asked


def test_the_engine_is_asked_once_greedily_and_samples_times_per_problem(tokenizer):
    engine = FakeEngine(tokenizer, SCRIPT)
    evaluate(tokenizer, engine)
    (asked,) = engine.asked
    ids = [tokenizer(p["prompt"])["input_ids"] for p in PROBLEMS]
    assert asked.prompts == [ids[0]] * 5 + [ids[1]] * 5
    assert [i for i, seed in enumerate(asked.sampling.seeds) if seed is None] == [0, 5]
    assert (asked.sampling.temperature, asked.sampling.max_tokens) == (0.7, 50)


def seeds_by_problem(tokenizer, problems, seed, samples=4):
    engine = FakeEngine(tokenizer, SCRIPT)
    evaluate(tokenizer, engine, problems, samples, seed)
    seeds = [seed for seed in engine.asked[0].sampling.seeds if seed is not None]
    return {p["id"]: seeds[i * samples : (i + 1) * samples] for i, p in enumerate(problems)}


def test_a_prompt_that_leaves_less_room_gets_shorter_responses(tokenizer):
    engine = FakeEngine(tokenizer, SCRIPT)
    records = evaluate(tokenizer, engine, context=54)  # 4 and 6 prompt tokens
    assert [a.sampling.max_tokens for a in engine.asked] == [48, 50]
    assert records == evaluate(tokenizer, FakeEngine(tokenizer, SCRIPT))


def test_seeds_differ_between_samples_problems_and_evaluations(tokenizer):
    first = seeds_by_problem(tokenizer, PROBLEMS, seed=0)
    other = seeds_by_problem(tokenizer, PROBLEMS, seed=1)
    seeds = [s for one in (first, other) for group in one.values() for s in group]
    assert len(set(seeds)) == len(seeds) == 16


def test_seeds_of_a_problem_do_not_depend_on_the_other_problems(tokenizer):
    assert seeds_by_problem(tokenizer, PROBLEMS, 0) == seeds_by_problem(
        tokenizer, PROBLEMS[::-1], 0
    )
    alone = seeds_by_problem(tokenizer, PROBLEMS[1:], 0)
    assert alone["p1"] == seeds_by_problem(tokenizer, PROBLEMS, 0)["p1"]


@pytest.mark.parametrize("drop", [1, 4, -1])
def test_missing_or_extra_completions_raise(tokenizer, drop):
    with pytest.raises(RuntimeError, match=f"asked for 10 completions, got {10 - drop}"):
        evaluate(tokenizer, FakeEngine(tokenizer, SCRIPT, drop))
