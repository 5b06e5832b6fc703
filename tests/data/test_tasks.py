"""Procedural problems: exact answers, disjoint splits, and solutions that err as their style says."""

from __future__ import annotations

import random
import re
from math import sqrt

import pytest

from sspo.data.tasks import (
    CHARACTERS,
    TASKS,
    SplitSpec,
    TraceStyle,
    crosses_ten,
    make_chain,
    make_count,
    make_splits,
    parse_chain,
    solve_chain,
    solve_count,
)

PERFECT = TraceStyle(careful_author=0.2, careful_step=0.4, slip=0.0, noise=0.0)
HUMAN = TraceStyle(careful_author=0.1, careful_step=0.3, slip=0.7, noise=0.02)
STEP = re.compile(r"([+-])([1-9])(?::(\d+)([+-])(\d+))?=(\d+)")
SPLITS = {
    "test": SplitSpec(size=60, min_operations=2, max_operations=4),
    "train": SplitSpec(size=120, min_operations=2, max_operations=4),
    "warmup": SplitSpec(size=90, min_operations=1, max_operations=3),
}


def totals(prompt: str) -> list[int]:
    """Running totals of ``7+8-3=``, by regular expression and addition only."""
    terms = [int(term) for term in re.findall(r"[+-]?\d+", prompt)]
    return [sum(terms[:i]) for i in range(1, len(terms) + 1)]


def read_solution(solution: str) -> tuple[list[re.Match], int]:
    """The operations of a solution and its final answer; every character must belong to one."""
    work, mark, answer = solution.partition("#")
    steps = list(STEP.finditer(work))
    assert mark and "".join(step[0] for step in steps) == work
    return steps, int(answer)


def problems(count: int, operations: int = 6) -> list[dict]:
    rng = random.Random(1)
    return [make_chain(rng, operations) for _ in range(count)]


def sums(count: int) -> list[str]:
    """Prompts without subtraction, whose solutions are never rejected for a negative total."""
    rng = random.Random(2)
    return ["+".join(str(rng.randint(1, 9)) for _ in range(8)) + "=" for _ in range(count)]


def steps_of(prompts: list[str], style: TraceStyle) -> list[tuple[int, re.Match]]:
    """(written total before, operation) of every operation of every solution."""
    rng = random.Random(3)
    found = []
    for prompt in prompts:
        before = int(prompt[0])
        for step in read_solution(solve_chain(prompt, rng, style))[0]:
            found.append((before, step))
            before = int(step[6])
    return found


def assert_share(hits: list[bool], probability: float) -> None:
    """The share of hits is within five binomial standard deviations of the probability."""
    count = len(hits)
    assert count > 1000  # or the bound says little
    bound = 5 * sqrt(probability * (1 - probability) / count)
    assert abs(sum(hits) / count - probability) < bound


# Problems


@pytest.mark.parametrize("operations", [1, 3, 7])
def test_answers_equal_an_independent_evaluation_and_totals_stay_non_negative(operations):
    for problem in problems(500, operations):
        running = totals(problem["prompt"])
        assert len(running) == operations + 1 == problem["operations"] + 1
        assert int(problem["answer"]) == running[-1]
        assert min(running) >= 0


def test_problems_hold_both_signs_and_totals_above_ten():
    text = "".join(p["prompt"] for p in problems(200))
    assert set(text) == set("123456789+-=")
    assert max(int(p["answer"]) for p in problems(200)) > 20


@pytest.mark.parametrize("operations", [1, 4, 7])
def test_prompt_tokens_is_the_longest_prompt_in_tokens(tokenizer, operations):
    prompts = [p["prompt"] for p in problems(50, operations)]
    longest = max(len(ids) for ids in tokenizer(prompts)["input_ids"])
    assert TASKS["chain"].prompt_tokens(operations) == longest


def test_prompts_and_solutions_use_the_task_s_characters_only():
    rng = random.Random(0)
    made = problems(300)
    text = "".join(p["prompt"] + solve_chain(p["prompt"], rng, HUMAN) for p in made)
    assert set(text) == set(CHARACTERS) == set(TASKS["chain"].characters)


def test_parse_chain_inverts_the_prompt():
    assert parse_chain("7+8-3=") == (7, [("+", 8), ("-", 3)])
    assert parse_chain("5=") == (5, [])


@pytest.mark.parametrize("prompt", ["7+8-3", "", "12+3=", "7*8=", "a+1=", "7+8-=", "="])
def test_parse_chain_refuses_what_is_not_a_chain(prompt):
    with pytest.raises(ValueError, match="is not a chain such as '7\\+8-3='"):
        parse_chain(prompt)


def test_crosses_ten_is_a_change_of_the_tens_digit():
    for total in range(60):
        for operand in range(1, 10):
            assert crosses_ten(total, "+", operand) == ((total + operand) // 10 != total // 10)
            assert crosses_ten(total, "-", operand) == ((total - operand) // 10 != total // 10)


# Splits


def test_splits_are_disjoint_of_the_asked_size_and_difficulty():
    made = make_splits("chain", SPLITS, HUMAN, seed=0)
    assert list(made) == list(SPLITS)
    prompts = [record["prompt"] for records in made.values() for record in records]
    assert len(set(prompts)) == len(prompts) == 60 + 120 + 90
    for name, spec in SPLITS.items():
        assert len(made[name]) == spec.size
        operations = {record["operations"] for record in made[name]}
        assert operations == set(range(spec.min_operations, spec.max_operations + 1))
    ids = [record["id"] for records in made.values() for record in records]
    assert len(set(ids)) == len(ids)


def test_only_the_warmup_split_has_solutions():
    made = make_splits("chain", SPLITS, HUMAN, seed=0)
    assert all("solution" in record for record in made["warmup"])
    assert not any("solution" in record for record in made["test"] + made["train"])


def test_splits_are_a_function_of_the_seed():
    first = make_splits("chain", SPLITS, HUMAN, seed=0)
    random.seed(99)
    assert make_splits("chain", SPLITS, HUMAN, seed=0) == first
    other = make_splits("chain", SPLITS, HUMAN, seed=1)
    for name in SPLITS:
        shared = {r["prompt"] for r in first[name]} & {r["prompt"] for r in other[name]}
        assert len(shared) < SPLITS[name].size / 2


def test_style_changes_solutions_and_no_problem():
    first = make_splits("chain", SPLITS, HUMAN, seed=0)
    other = make_splits("chain", SPLITS, PERFECT, seed=0)
    assert [r["prompt"] for r in first["warmup"]] == [r["prompt"] for r in other["warmup"]]
    assert [r["solution"] for r in first["warmup"]] != [r["solution"] for r in other["warmup"]]


def test_a_split_too_large_raises_with_its_name():
    distinct = 9 * 9 + sum(range(1, 10))  # one operation: t + o, and t - o for o <= t
    whole = {"hard": SplitSpec(size=distinct, min_operations=1, max_operations=1)}
    assert len(make_splits("chain", whole, PERFECT, seed=0)["hard"]) == distinct
    with pytest.raises(ValueError, match=f"split 'hard': only {distinct} distinct"):
        make_splits(
            "chain",
            {"hard": SplitSpec(size=distinct + 1, min_operations=1, max_operations=1)},
            PERFECT,
            seed=0,
        )
    with pytest.raises(ValueError, match="split 'second': only 0 distinct"):
        make_splits(
            "chain",
            {**whole, "second": SplitSpec(size=1, min_operations=1, max_operations=1)},
            PERFECT,
            seed=0,
        )


def test_an_unknown_task_raises_and_names_the_known_ones():
    with pytest.raises(ValueError, match="unknown task 'sudoku'; choose one of chain"):
        make_splits("sudoku", SPLITS, PERFECT, seed=0)


# Solutions


def test_without_slips_and_noise_every_written_total_is_right():
    rng = random.Random(0)
    for problem in problems(500):
        steps, answer = read_solution(solve_chain(problem["prompt"], rng, PERFECT))
        assert [int(step[6]) for step in steps] == totals(problem["prompt"])[1:]
        assert [step[1] + step[2] for step in steps] == re.findall(r"[+-]\d", problem["prompt"])
        assert answer == int(problem["answer"])


@pytest.mark.parametrize("style", [PERFECT, HUMAN])
def test_the_answer_is_the_last_written_total_right_or_wrong(style):
    rng = random.Random(0)
    for problem in problems(200):
        steps, answer = read_solution(solve_chain(problem["prompt"], rng, style))
        assert answer == int(steps[-1][6])


def test_careful_steps_go_through_the_next_ten():
    careful = TraceStyle(careful_author=1.0, careful_step=0.0, slip=1.0, noise=0.0)
    seen = set()
    for before, step in steps_of([p["prompt"] for p in problems(400)], careful):
        sign, operand, middle, result = step[1], int(step[2]), int(step[3]), int(step[6])
        change = operand if sign == "+" else -operand
        rest = int(step[4] + step[5])
        assert middle + rest == result == before + change
        crossing = result // 10 != before // 10
        if crossing:
            assert middle % 10 == 0
            assert min(before, result) <= middle <= max(before, result)
        else:
            assert (middle, rest) == (before, change)
        seen.add((sign, crossing))
    assert len(seen) == 4


@pytest.mark.parametrize(
    "prompt, solution",
    [
        ("9+3+9=", "+3=2+9=1#1"),  # 9+3 -> 2 and 2+9 -> 1: the carry is forgotten
        ("8+4=", "+4=2#2"),
        ("9+3-2=", "+3=2-2=0#0"),  # the slip stays in the running total
        ("9+1=", "+1=0#0"),
    ],
)
def test_a_plain_addition_that_crosses_a_ten_forgets_the_carry(prompt, solution):
    always = TraceStyle(careful_author=0.0, careful_step=0.0, slip=1.0, noise=0.0)
    assert solve_chain(prompt, random.Random(0), always) == solution


@pytest.mark.parametrize(
    "total, sign, operand, wrong", [(12, "+", 9, 11), (15, "-", 8, 13), (20, "-", 1, 21)]
)
def test_slips_are_the_forgotten_carry_and_the_smaller_digit_taken_from_the_larger(
    total, sign, operand, wrong
):
    # Totals above ten have to be reached without a slip first, so only some solutions slip last.
    start, rest = 9, total - 9
    operations = "".join(f"+{min(9, rest - i)}" for i in range(0, rest, 9))
    prompt = f"{start}{operations}{sign}{operand}="
    style = TraceStyle(careful_author=0.0, careful_step=0.0, slip=0.5, noise=0.0)
    rng = random.Random(0)
    results = set()
    for _ in range(200):
        steps, _ = read_solution(solve_chain(prompt, rng, style))
        before = int(steps[-2][6])
        if before == total:
            results.add(int(steps[-1][6]))
    right = total + operand if sign == "+" else total - operand
    assert results == {right, wrong}


def test_share_of_careful_steps_is_the_style_s():
    style = TraceStyle(careful_author=0.0, careful_step=0.3, slip=0.5, noise=0.0)
    assert_share([step[3] is not None for _, step in steps_of(sums(1000), style)], 0.3)


def test_share_of_careful_authors_is_the_style_s_and_they_are_careful_throughout():
    style = TraceStyle(careful_author=0.2, careful_step=0.0, slip=0.5, noise=0.0)
    rng = random.Random(0)
    shares = []
    for prompt in sums(2000):
        steps, _ = read_solution(solve_chain(prompt, rng, style))
        shares.append(sum(step[3] is not None for step in steps) / len(steps))
    assert set(shares) == {0.0, 1.0}
    assert_share([share == 1.0 for share in shares], 0.2)


def test_share_of_slips_is_the_style_s_on_plain_crossings_and_zero_elsewhere():
    style = TraceStyle(careful_author=0.0, careful_step=0.3, slip=0.7, noise=0.0)
    slips, others = [], []
    for before, step in steps_of(sums(1500), style):
        right = before + int(step[2])
        wrong = int(step[6]) != right
        (slips if right // 10 != before // 10 and step[3] is None else others).append(wrong)
    assert_share(slips, 0.7)
    assert not any(others)


def test_slips_can_be_kept_to_large_operands():
    style = TraceStyle(careful_author=0.0, careful_step=0.3, slip=0.7, slip_from=8, noise=0.0)
    slips, others = [], []
    for before, step in steps_of(sums(3000), style):
        right = before + int(step[2])
        crosses = right // 10 != before // 10 and step[3] is None
        (slips if crosses and int(step[2]) >= 8 else others).append(int(step[6]) != right)
    assert_share(slips, 0.7)
    assert not any(others)


def test_share_of_noise_is_the_style_s_on_every_kind_of_step():
    style = TraceStyle(careful_author=0.0, careful_step=0.5, slip=0.5, noise=0.1)
    plain, careful, offs = [], [], []
    for before, step in steps_of(sums(2500), style):
        right = before + int(step[2])
        off = min((int(step[6]) - x for x in (right, right - 10)), key=abs)
        (plain if step[3] is None else careful).append(off != 0)
        offs.append(off)
    assert_share(plain, 0.1)
    assert_share(careful, 0.1)
    assert set(offs) == {-1, 0, 1}
    assert_share([off > 0 for off in offs if off], 0.5)


def test_written_totals_are_never_negative_however_wrong():
    style = TraceStyle(careful_author=0.0, careful_step=0.5, slip=0.5, noise=0.5)
    rng = random.Random(0)
    for problem in problems(300):
        assert "=-" not in solve_chain(problem["prompt"], rng, style)


# count


def count_problems(count: int, letters: int = 12) -> list[dict]:
    rng = random.Random(3)
    return [make_count(rng, letters) for _ in range(count)]


def solve_counts(style: TraceStyle, problems: list[dict]) -> list[str]:
    rng = random.Random(4)
    return [solve_count(p["prompt"], rng, style) for p in problems]


@pytest.mark.parametrize("letters", [1, 7, 16])
def test_a_count_problem_asks_how_often_a_letter_occurs(letters):
    for problem in count_problems(200, letters):
        text, wanted = re.fullmatch(r"([abc]+)\?([abc])=", problem["prompt"]).groups()
        assert len(text) == problem["operations"] == letters
        assert int(problem["answer"]) == sum(letter == wanted for letter in text)
        assert len(problem["prompt"]) == TASKS["count"].prompt_tokens(letters)


def test_careful_counting_writes_every_letter_with_the_count_so_far():
    problems = count_problems(200)
    for problem, solution in zip(
        problems,
        solve_counts(
            TraceStyle(careful_author=1.0, careful_step=0.0, slip=1.0, noise=0.0), problems
        ),
        strict=True,
    ):
        text, wanted = problem["prompt"][:-3], problem["prompt"][-2]
        steps = [f"{text[i]}{text[: i + 1].count(wanted)}" for i in range(len(text))]
        assert solution == "".join(steps) + f"#{problem['answer']}"


def test_plain_counting_numbers_the_matches():
    for problem, solution in zip(
        count_problems(200),
        solve_counts(
            TraceStyle(careful_author=0.0, careful_step=0.0, slip=0.0, noise=0.0),
            count_problems(200),
        ),
        strict=True,
    ):
        wanted, total = problem["prompt"][-2], int(problem["answer"])
        assert solution == "".join(f"{wanted}{i + 1}" for i in range(total)) + f"#{total}"


def test_slips_of_plain_counting_overlook_all_but_the_first_match_of_a_run():
    problems = count_problems(300)
    for problem, solution in zip(
        problems,
        solve_counts(
            TraceStyle(careful_author=0.0, careful_step=0.0, slip=1.0, noise=0.0), problems
        ),
        strict=True,
    ):
        text, wanted = problem["prompt"][:-3], problem["prompt"][-2]
        assert solution.split("#")[1] == str(len(re.findall(f"{wanted}+", text)))


def test_share_of_slips_of_counting_is_the_style_s():
    problems = [{"prompt": "aa?a=", "answer": "2"}] * 4000
    solutions = solve_counts(
        TraceStyle(careful_author=0.0, careful_step=0.0, slip=0.3, noise=0.0), problems
    )
    assert_share([solution == "a1#1" for solution in solutions], 0.3)
    careful = solve_counts(
        TraceStyle(careful_author=0.5, careful_step=0.0, slip=0.3, noise=0.0), problems
    )
    assert_share([solution == "a1#1" for solution in careful], 0.15)


def test_share_of_careful_steps_and_noise_of_counting_are_the_style_s():
    problems = [{"prompt": "b?a=", "answer": "0"}] * 4000
    steps = solve_counts(
        TraceStyle(careful_author=0.0, careful_step=0.25, slip=0.0, noise=0.0), problems
    )
    assert_share([solution == "b0#0" for solution in steps], 0.25)
    noisy = solve_counts(
        TraceStyle(careful_author=1.0, careful_step=0.0, slip=0.0, noise=0.2), problems
    )
    assert_share([solution == "b1#1" for solution in noisy], 0.1)  # downwards stops at zero


@pytest.mark.parametrize("prompt", ["", "?a=", "abd?a=", "ab?d=", "ab?a", "aba="])
def test_solve_count_refuses_what_is_not_a_count_problem(prompt):
    with pytest.raises(ValueError, match="not a count problem"):
        solve_count(
            prompt,
            random.Random(0),
            TraceStyle(careful_author=0.0, careful_step=0.0, slip=0.0, noise=0.0),
        )


def test_count_uses_its_own_characters_only():
    spec = {
        "train": SplitSpec(size=50, min_operations=5, max_operations=9),
        "warmup": SplitSpec(size=200, min_operations=5, max_operations=9),
    }
    splits = make_splits(
        "count", spec, TraceStyle(careful_author=0.2, careful_step=0.2, slip=0.5, noise=0.1), 0
    )
    text = "".join(r["prompt"] + r.get("solution", "") for rs in splits.values() for r in rs)
    assert set(text) <= set(TASKS["count"].characters)
