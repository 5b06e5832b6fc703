"""Real data to splits: no benchmark problem is trained on, and what is dropped is counted.

Tests on the real files run where SSPO_BENCHMARK_DATA names a folder that holds them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from sspo.config.errors import ConfigError
from sspo.config.profile import check_profile
from sspo.config.settings import RewardConfig
from sspo.config.study import MathDataConfig
from sspo.data.overlap import overlap
from sspo.data.problems import read_jsonl, read_problems, write_jsonl
from sspo.data.sources import DATA_SETS
from sspo.data.splits import make_math_splits
from sspo.experiment.expand import expand_profile
from sspo.rewards.base import state_answer
from sspo.rewards.factory import make_reward
from sspo.rollout.engine import Completion
from sspo.training.evaluation import problem_scores
from sspo.training.grading import evaluate_problems
from support.math_data import (
    ANY_LENGTH,
    PROMPT,
    SYSTEM,
    data_config,
    gsm8k,
    ids,
    make,
    prepare,
    word_problem,
)
from support.paths import ROOT
from support.profiles import merge, read

# The part of Qwen2.5's chat template that a system line and one question go through.
QWEN_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + "
    "'<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
REAL = Path(os.environ.get("SSPO_BENCHMARK_DATA", "missing"))


def refusal(*arguments, **named) -> str:
    with pytest.raises(ConfigError) as caught:
        make(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def math_reward():
    reward = make_reward(
        RewardConfig(name="math", time_limit=5.0, memory_mb=1024, max_characters=1000)
    )
    yield reward
    reward.close()


# Splits


def test_splits_are_train_validation_and_one_per_benchmark_in_the_format_of_the_tasks(tmp_path):
    aime = [{"problem": "Find $x$.", "answer": "025"}]
    splits, report = make(
        tmp_path, {"gsm8k_train": gsm8k(*range(10))}, {"aime24": aime}, validation=3
    )
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 7,
        "validation": 3,
        "aime24": 1,
    }
    assert splits["aime24"] == [
        {"id": "aime24-00000", "prompt": PROMPT.replace("{problem}", "Find $x$."), "answer": "25"}
    ]
    for name, split in splits.items():
        write_jsonl(tmp_path / f"made-{name}.jsonl", split)
        assert read_problems(tmp_path / f"made-{name}.jsonl") == split
    assert report.rows == report.selected == {"aime24": 1, "gsm8k_train": 10}
    assert not any(report.dropped["aime24"].values()) and report.shared == {}


def test_validation_is_part_of_train_chosen_by_the_seed_and_held_out(tmp_path):
    train = {"gsm8k_train": gsm8k(*range(40))}
    test = {"gsm8k_test": gsm8k(99)}
    splits, _ = make(tmp_path, train, test, validation=10)
    assert sorted(ids(splits["train"] + splits["validation"])) == [
        f"gsm8k_train-{i:05d}" for i in range(40)
    ]
    assert overlap(splits["train"], splits["validation"]) == []
    assert make(tmp_path, train, test, validation=10)[0] == splits
    other, _ = make(tmp_path, train, test, validation=10, seed=1)
    assert ids(other["validation"]) != ids(splits["validation"])


def test_the_first_validation_problems_are_a_draw_from_all_data_sets(tmp_path):
    deepmath = [{"question": word_problem(i, "Bella"), "final_answer": "1"} for i in range(40, 80)]
    train = {"gsm8k_train": gsm8k(*range(40)), "deepmath": deepmath}
    splits, _ = make(tmp_path, train, {"gsm8k_test": gsm8k(99)}, validation=20)
    first = {name.split("-")[0] for name in ids(splits["validation"])[:8]}
    assert first == {"gsm8k_train", "deepmath"}


def test_a_near_copy_of_a_validation_problem_is_not_trained_on(tmp_path):
    rows = gsm8k(1, 2) + gsm8k(1, 2, who="Bella")
    splits, report = make(tmp_path, {"gsm8k_train": rows}, {"gsm8k_test": gsm8k(9)}, validation=2)
    texts = [p["prompt"] for p in splits["validation"]]
    kept = {1, 2} - {n for n in (1, 2) for text in texts if f"has {n} clips" in text}
    assert len(splits["train"]) == 2 * len(kept)
    assert report.dropped["validation"] == {"exact": 0, "near": 2 - 2 * len(kept)}


def test_train_may_be_several_data_sets_and_repeats_count_once(tmp_path):
    deepmath = [
        {"question": word_problem(1).upper(), "final_answer": "1"},
        {"question": "Evaluate the limit.", "final_answer": r"\frac{2}{3}"},
    ]
    train = {"gsm8k_train": gsm8k(1, 2, 1), "deepmath": deepmath}
    splits, report = make(tmp_path, train, {"gsm8k_test": gsm8k(9)})
    assert sorted(ids(splits["train"] + splits["validation"])) == [
        "deepmath-00001",
        "gsm8k_train-00000",
        "gsm8k_train-00001",
    ]
    assert report.repeated == {"gsm8k_test": 0, "gsm8k_train": 1, "deepmath": 1}


def test_training_problems_whose_answer_no_response_could_earn_are_dropped_and_counted(
    tmp_path, math_reward
):
    rows = [
        {"question": f"Problem {i}", "final_answer": a}
        for i, a in enumerate(["1", "}{", r"\frac", "2"])
    ]
    splits, report = make(
        tmp_path, {"deepmath": rows}, {"gsm8k_test": gsm8k(9)}, reward=math_reward
    )
    kept = ids(splits["train"] + splits["validation"])
    bad = [i for i in (1, 2) if f"deepmath-{i:05d}" not in kept]
    assert {"deepmath-00000", "deepmath-00003"} <= set(kept)
    assert report.unverifiable == len(bad) >= 1


def test_a_benchmark_with_such_an_answer_is_refused_by_its_id(tmp_path, math_reward):
    bad = [{"problem": "Find $x$.", "answer": "}{"}]
    message = refusal(tmp_path, {"gsm8k_train": gsm8k(1, 2)}, {"aime24": bad}, reward=math_reward)
    assert "aime24-00000" in message and "'}{'" in message


def test_too_few_training_problems_for_validation_are_refused(tmp_path):
    message = refusal(
        tmp_path, {"gsm8k_train": gsm8k(1, 2)}, {"gsm8k_test": gsm8k(9)}, validation=2
    )
    assert "math_data.train: 2 problems are left" in message and "validation = 2" in message


# Traps of public data sets


def test_a_gsm8k_train_set_that_contains_the_whole_test_set_loses_it(tmp_path):
    train = {"gsm8k_train": gsm8k(*range(30))}
    splits, report = make(tmp_path, train, {"gsm8k_test": gsm8k(*range(20, 30))})
    assert report.dropped["gsm8k_test"] == {"exact": 10, "near": 0}
    assert len(splits["train"]) + len(splits["validation"]) == 20
    assert overlap(splits["train"] + splits["validation"], splits["gsm8k_test"]) == []


def test_a_test_problem_with_another_name_in_it_is_dropped_as_near(tmp_path):
    train = {"gsm8k_train": gsm8k(1, 2, 3) + gsm8k(7, who="Bella")}
    splits, report = make(tmp_path, train, {"gsm8k_test": gsm8k(7)})
    assert report.dropped["gsm8k_test"] == {"exact": 0, "near": 1}
    assert "gsm8k_train-00003" not in ids(splits["train"] + splits["validation"])


def test_math_lvl3to5_rows_that_are_math_500_leave_nothing_to_train_on(tmp_path):
    rows = [{"problem": f"Find the value of $x_{{{i}}}$.", "answer": "3"} for i in range(5)]
    levels = [{**row, "level": 3 + i % 3} for i, row in enumerate(rows)]
    message = refusal(tmp_path, {"math_lvl3to5": levels}, {"math500": rows})
    assert message.startswith("math_data.train: 0 problems are left")


def test_two_benchmarks_that_share_problems_are_counted(tmp_path):
    math500 = [{"problem": f"Find $x_{{{i}}}$.", "answer": "3"} for i in range(3)]
    olympiad = [{"question": row["problem"], "final_answer": ["3"]} for row in math500[:2]]
    _, report = make(
        tmp_path, {"gsm8k_train": gsm8k(1, 2)}, {"math500": math500, "olympiadbench": olympiad}
    )
    assert report.shared == {"math500 & olympiadbench": 2}


def test_aime_2024_repeated_32_times_is_30_problems(tmp_path):
    aime = [{"problem": f"Find $x_{{{i}}}$.", "answer": f"{i:03d}"} for i in range(30)] * 32
    splits, report = make(tmp_path, {"gsm8k_train": gsm8k(1, 2)}, {"aime24": aime})
    assert len(splits["aime24"]) == 30
    assert report.rows["aime24"] == 960 and report.repeated["aime24"] == 930


def test_one_benchmark_problem_with_two_answers_is_refused(tmp_path):
    aime = [{"problem": "Find $x$.", "answer": "025"}, {"problem": "find $x$.", "answer": "026"}]
    message = refusal(tmp_path, {"gsm8k_train": gsm8k(1, 2)}, {"aime24": aime})
    for fragment in ("aime24-00000", "aime24-00001", "'25'", "'26'"):
        assert fragment in message


@pytest.mark.parametrize(
    "name, answer, right, wrong",
    [
        ("aime24", "025", "25", "52"),
        ("aime24", "025", "025", "250"),
        ("amc23", 142.0, "142", "143"),
        ("amc23", "142.0", "142.0", "14.2"),
        ("gsm8k_test", "... #### 1,018", "1018", "1"),
        ("olympiadbench", ["$(1,8,19), (2,7,13)$"], "(2,7,13), (1,8,19)", "(1,8,19)"),
        ("olympiadbench", ["$(-6,6)$, $(2,6)$"], "(-6,6),(2,6)", "(6,-6),(2,6)"),
        ("olympiadbench", [r"$(-\infty, 0) \cup\{1\}$."], r"(-\infty,0)\cup\{1\}", r"(-\infty,0)"),
        ("olympiadbench", ["$[1,4)$"], "[1,4)", "(1,4)"),
        ("olympiadbench", ["$69$,$84$"], "84, 69", "69"),
        ("olympiadbench", ["$221,$8$"], "221, 8", "221"),
        ("minerva", ["9.6\n"], "9.6", "9.9"),
    ],
)
def test_golds_of_every_kind_can_be_earned_and_missed(
    tmp_path, math_reward, name, answer, right, wrong
):
    problem, column = DATA_SETS[name].problem[0], DATA_SETS[name].answer[0]
    row = {problem: "Find all.", column: answer}
    splits, _ = make(tmp_path, {"gsm8k_train": gsm8k(1, 2)}, {name: [row]}, reward=math_reward)
    gold = splits[name][0]["answer"]
    assert math_reward(gold, state_answer(right)).value == 1.0
    assert math_reward(gold, state_answer(wrong)).value == 0.0


# Prompt and configuration


def test_the_prompt_is_what_qwen_s_chat_template_makes_of_system_line_and_problem(tokenizer):
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": r"Find {x}."}]
    rendered = tokenizer.apply_chat_template(
        messages, chat_template=QWEN_TEMPLATE, tokenize=False, add_generation_prompt=True
    )
    assert PROMPT.replace("{problem}", r"Find {x}.") == rendered


def documented() -> dict:
    """The configuration that docs/reproducing.md shows, over the default."""
    text = (ROOT / "docs" / "reproducing.md").read_text(encoding="utf-8")
    blocks = [b.partition("```")[0] for b in text.split("```yaml\n")[1:]]
    [block] = [b for b in blocks if "math_data:" in b]
    return merge(read("default.yaml"), yaml.safe_load(block))


def expand(config: dict) -> dict:
    return expand_profile(check_profile(config, "mine.yaml"), "mine.yaml")


def test_the_documented_configuration_is_valid_and_its_prompt_is_qwen_s():
    config = documented()
    data = expand(config)["data"]
    assert data == {
        "math_data": config["math_data"],
        "reward": config["reward"],
        "max_response_tokens": config["rollout"]["max_response_tokens"],
    }
    assert data["math_data"]["prompt"] == PROMPT
    assert check_profile(config, "mine.yaml").split_names()[:2] == ["train", "validation"]


AIME_POOLS = {"test": ["aime"], "hard": ["aime"]}


@pytest.mark.parametrize(
    "changes, fragments",
    [
        ({"math_data": {"train": ["gsm9k"]}}, ["math_data.train", "'gsm9k'", "gsm8k_train"]),
        (
            {
                "math_data": {"benchmarks": ["aime"]},
                "evaluation": {"splits": ["aime"], "pools": AIME_POOLS},
            },
            ["math_data.benchmarks", "'aime'", "aime24"],
        ),
        ({"math_data": {"source": "hub"}}, ["math_data.revisions", "nlile/hendrycks-MATH"]),
        (
            {"math_data": {"source": "hub", "revisions": {"openai/gsm8k": "main"}}},
            ["math_data.revisions.openai/gsm8k", "'main'", "not a branch"],
        ),
        ({"math_data": {"prompt": "Solve."}}, ["math_data.prompt", "{problem}"]),
        ({"math_data": {"prompt": "{problem} {problem}"}}, ["math_data.prompt", "exactly once"]),
        ({"math_data": {"seeds": 1}}, ["math_data.seeds", "seed"]),
        ({"reward": {"name": "exact"}}, ["reward.name", "'exact'", "'math'"]),
        ({"experiment": {"control": True}}, ["experiment.control", "worked solutions"]),
        (
            {"evaluation": {"splits": ["aime"], "pools": AIME_POOLS}},
            ["evaluation.splits", "math_data.benchmarks"],
        ),
        ({"validation": {"problems": 10_000}}, ["validation.problems", "math_data.validation"]),
    ],
    ids=str,
)
def test_a_configuration_that_cannot_run_is_one_line_with_key_and_fix(changes, fragments):
    with pytest.raises(ConfigError) as caught:
        expand(merge(documented(), changes))
    message = str(caught.value)
    assert message.startswith("mine.yaml: ") and "\n" not in message
    for fragment in fragments:
        assert fragment in message


# The whole script


class Parrot:
    """An engine that answers every prompt with 25."""

    def generate(self, prompts, sampling):
        return [Completion([1], r"\boxed{25}", "stop", [0.0]) for _ in prompts]


@pytest.mark.slow
def test_prepare_data_writes_splits_that_the_evaluation_reads_unchanged(
    tmp_path, tokenizer, math_reward
):
    write_jsonl(tmp_path / "gsm8k_train.jsonl", gsm8k(*range(12)))
    write_jsonl(tmp_path / "gsm8k_test.jsonl", gsm8k(10, 11))
    aime = [{"problem": f"Find $x_{i}$.", "answer": a} for i, a in enumerate(["025", "026"] * 2)]
    write_jsonl(tmp_path / "aime24.jsonl", aime[:2] + aime[:2])
    config = data_config(tmp_path, ["gsm8k_train"], ["gsm8k_test", "aime24"], 3)
    ran = prepare(tmp_path, config)
    assert ran.returncode == 0, ran.stderr
    summary = json.loads((tmp_path / "made" / "summary.json").read_text())
    assert summary == {
        "problems": {"train": 7, "validation": 3, "gsm8k_test": 2, "aime24": 2},
        "rows": {"gsm8k_test": 2, "aime24": 4, "gsm8k_train": 12},
        "selected": {"gsm8k_test": 2, "aime24": 4, "gsm8k_train": 12},
        "repeated": {"gsm8k_test": 0, "aime24": 2, "gsm8k_train": 0},
        "unverifiable": 0,
        "dropped": {
            "gsm8k_test": {"exact": 2, "near": 0},
            "aime24": {"exact": 0, "near": 0},
            "validation": {"exact": 0, "near": 0},
        },
        "shared": {},
        "too_long": {"train": [], "gsm8k_test": [], "aime24": []},
        "prompts": {},
    }
    record = json.loads((tmp_path / "made" / "provenance.json").read_text())
    for name in ("gsm8k_train", "gsm8k_test", "aime24"):
        assert str(tmp_path / f"{name}.jsonl") in record["inputs"]
    problems = read_problems(tmp_path / "made" / "aime24.jsonl")
    records = evaluate_problems(
        problems, Parrot(), tokenizer, math_reward, samples=2, temperature=1.0, max_tokens=9, seed=0
    )
    assert [problem_scores(record, [1])["pass@1"] for record in records] == [1.0, 0.0]


@pytest.mark.slow
def test_a_missing_file_stops_prepare_data_with_one_line(tmp_path):
    ran = prepare(tmp_path, data_config(tmp_path, ["gsm8k_train"], ["aime24"], 1))
    assert ran.returncode == 1
    assert ran.stderr.strip().startswith(f"error: {tmp_path}: no data set 'gsm8k_train'")
    assert len(ran.stderr.strip().splitlines()) == 1


# The real files


BENCHMARKS = {
    "gsm8k_test": 1319,
    "math500": 500,
    "aime24": 30,
    "amc23": 40,
    "minerva": 272,
    "olympiadbench": 675,
}


@pytest.mark.skipif(not REAL.is_dir(), reason="SSPO_BENCHMARK_DATA names no folder")
def test_real_golds_verify_and_real_train_loses_its_near_copies(math_reward):
    config = MathDataConfig(
        source=str(REAL),
        revisions={},
        train=("gsm8k_train",),
        benchmarks=tuple(BENCHMARKS),
        validation=256,
        seed=0,
        prompt=PROMPT,
    )
    splits, report = make_math_splits(config, math_reward, ANY_LENGTH)
    assert {name: len(splits[name]) for name in BENCHMARKS} == BENCHMARKS
    assert report.rows["gsm8k_train"] == 7473
    assert report.unverifiable == 0 and not any(report.repeated.values())
    dropped = {name: tuple(counts.values()) for name, counts in report.dropped.items()}
    assert dropped == {
        **dict.fromkeys(BENCHMARKS, (0, 0)),
        "gsm8k_test": (0, 4),
        "validation": (0, 2),
    }
    assert report.shared == {"math500 & olympiadbench": 1}


@pytest.mark.skipif(not REAL.is_dir(), reason="SSPO_BENCHMARK_DATA names no folder")
def test_a_real_train_set_with_the_real_test_set_in_it_loses_all_of_it(tmp_path):
    train, test = (read_jsonl(REAL / f"gsm8k_{split}.jsonl") for split in ("train", "test"))
    splits, report = make(tmp_path, {"gsm8k_train": train + test}, {"gsm8k_test": test})
    assert report.dropped["gsm8k_test"] == {"exact": 1319, "near": 4}
    assert overlap(splits["train"], splits["gsm8k_test"]) == []
