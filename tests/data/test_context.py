"""Prompts that leave no room for a response are found when data are prepared, by the models' tokenizers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sspo.config.errors import ConfigError
from sspo.config.profile import check_profile
from sspo.data.context import Reader, Room, describe_prompts, load_reader
from sspo.data.problems import check_lengths, read_problems, write_jsonl
from sspo.experiment.expand import expand_profile
from sspo.models.policy import load_tokenizer
from sspo.pipeline.closure import code_files
from support.math_data import PROMPT, data_config, gsm8k, ids, make, prepare, word_problem
from support.paths import ROOT
from support.profiles import expand, merge, pinned, read
from support.published import END, adding_tokenizer, edit_json, saved

BOS = "<|im_start|>"
FRAME = "q: {problem} a:"  # its characters are tokens of the tokenizer


def reader(context: int, front: str = "", back: str = "", name: str = "base") -> Reader:
    """A model whose tokens are characters."""
    return Reader(Path(name), adding_tokenizer(front, back), context)


def problem(length: int, number: int = 0) -> dict[str, str]:
    """A row whose prompt has so many characters."""
    stem = f"find x{number} "
    text = stem.ljust(length - len(FRAME) + len("{problem}"), "y")
    assert len(FRAME.replace("{problem}", text)) == length
    return {"problem": text, "answer": "3"}


def questions(*lengths: int) -> list[dict[str, str]]:
    return [{**problem(n, i), "level": 3} for i, n in enumerate(lengths)]


def splits_of(folder, room, train, benchmark, **changes):
    return make(
        folder,
        {"math_lvl3to5": train},
        {"aime24": benchmark},
        prompt=FRAME,
        room=room,
        **changes,
    )


SHORT = questions(40, 41, 42)


def test_a_training_prompt_may_fill_the_context_up_to_the_response_and_not_by_a_token_more(
    tmp_path,
):
    room = Room([reader(100)], 30)
    train = questions(70, 71, 50, 300, 69)
    splits, report = splits_of(tmp_path, room, train, [problem(40, 9)])
    assert sorted(ids(splits["train"] + splits["validation"])) == [
        f"math_lvl3to5-0000{i}" for i in (0, 2, 4)
    ]
    assert report.too_long == {"train": ["math_lvl3to5-00001", "math_lvl3to5-00003"], "aime24": []}


def test_a_benchmark_prompt_needs_room_for_one_token_as_longer_responses_end_at_the_context(
    tmp_path,
):
    room = Room([reader(100)], 30)
    splits, report = splits_of(tmp_path, room, SHORT, questions(70, 99, 100, 101))
    assert ids(splits["aime24"]) == ["aime24-00000", "aime24-00001"]
    assert report.too_long["aime24"] == ["aime24-00002", "aime24-00003"]
    assert report.too_long["train"] == []


@pytest.mark.parametrize(("front", "back", "extra"), [(BOS, "", 1), ("", END, 0), (BOS, END, 1)])
def test_what_the_tokenizer_puts_in_front_counts_and_what_it_would_append_does_not(
    tmp_path, front, back, extra
):
    room = Room([reader(100, front, back)], 30)
    _, report = splits_of(tmp_path, room, questions(69, 70, 71, 50, 51), [problem(40, 9)])
    kept = 70 - extra
    long = [i for i, length in enumerate((69, 70, 71, 50, 51)) if length > kept]
    assert report.too_long["train"] == [f"math_lvl3to5-{i:05d}" for i in long]


def test_problems_are_those_that_every_model_can_read(tmp_path):
    room = Room([reader(100), reader(90, name="bases/small"), reader(200)], 30)
    _, report = splits_of(tmp_path, room, questions(60, 61, 71, 40), [problem(40, 9)])
    assert report.too_long["train"] == ["math_lvl3to5-00001", "math_lvl3to5-00002"]


def test_without_the_long_ones_the_splits_are_what_they_would_be_without_their_rows(tmp_path):
    train = questions(*range(30, 60))
    room = Room([reader(100)], 30)
    for folder in ("with", "without"):
        (tmp_path / folder).mkdir()
    bare, _ = splits_of(tmp_path / "without", room, train, SHORT, validation=8)
    more, report = splits_of(
        tmp_path / "with", room, [*train, *questions(*[90] * 5)], SHORT, validation=8
    )
    assert more == bare
    assert len(report.too_long["train"]) == 5


def test_a_training_problem_that_is_a_benchmark_problem_too_long_to_ask_is_not_trained_on(tmp_path):
    # The benchmark's text fills the context; a near copy that is a word shorter does not.
    words = word_problem(7).lower()
    rows = [{"problem": f"{words} now", "answer": "3"}, *SHORT]
    train = [{"problem": words, "answer": "3", "level": 3}, *questions(30, 31)]
    longest = len(FRAME.replace("{problem}", f"{words} now"))
    splits, report = splits_of(tmp_path, Room([reader(longest)], 1), train, rows)
    assert report.too_long == {"train": [], "aime24": ["aime24-00000"]}
    assert report.dropped["aime24"] == {"exact": 0, "near": 1}
    assert "math_lvl3to5-00000" not in ids(splits["train"] + splits["validation"])


def refusal(*arguments, **named) -> str:
    with pytest.raises(ConfigError) as caught:
        splits_of(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_training_set_of_long_prompts_alone_names_the_key_to_change(tmp_path):
    message = refusal(tmp_path, Room([reader(100)], 95), SHORT, [problem(40, 9)])
    for fragment in ("math_data.train", "none of 3 prompts", "95 tokens", "base (100 tokens)"):
        assert fragment in message
    assert "lower rollout.max_response_tokens" in message


def test_a_benchmark_of_long_prompts_alone_is_named(tmp_path):
    message = refusal(tmp_path, Room([reader(60)], 10), SHORT, questions(60, 70))
    assert message.startswith("math_data.benchmarks: aime24: none of 2 prompts")
    assert "take aime24 out" in message and "math_data.prompt" in message


def test_too_few_problems_that_are_left_for_validation_say_how_many_were_too_long(tmp_path):
    room = Room([reader(100)], 30)
    message = refusal(tmp_path, room, questions(40, 80, 90), [problem(40, 9)])
    assert "1 problems are left (without 2 that leave no room for a response of 30 tok" in message


def test_what_a_model_reads_is_described_for_the_record():
    records = [{"prompt": "1 + 1"}, {"prompt": f"{BOS}user"}]
    assert describe_prompts(reader(90), records) == {
        "context": 90, "longest": 5, "front": [], "left_out": [],
    }  # fmt: skip
    assert describe_prompts(reader(90, BOS, END), records) == {
        "context": 90, "longest": 6, "front": [BOS], "left_out": [END],
    }  # fmt: skip
    assert describe_prompts(reader(90, BOS), records[1:])["longest"] == 5


# The configuration


def real_profile(folder) -> dict:
    saved(folder / "mine")
    changes = {
        "checkpoint": {"source": str(folder / "mine"), "revision": ""},
        "math_data": {"source": str(folder)},
    }
    return merge(read("paper.yaml"), {**changes, "rollout": {"engine": "torch"}})


def data_of(config: dict) -> dict:
    merged = merge(read("default.yaml"), config)
    return expand_profile(check_profile(merged, "mine.yaml"), "mine.yaml")["data"]


def test_data_know_the_longest_response_of_all_methods_and_regimes(tmp_path):
    config = real_profile(tmp_path)
    config["evaluation"]["engine"] = "torch"
    assert data_of(config)["max_response_tokens"] == 3000
    by_method = {"methods": {"sspo": {"rollout": {"max_response_tokens": 3500}}}}
    assert data_of(merge(config, by_method))["max_response_tokens"] == 3500
    regime = {"bases": ["base"], "seeds": [0], "tuned": False}
    regime["rollout"] = {"max_response_tokens": 3200}
    assert data_of(merge(config, {"regimes": {"long": regime}}))["max_response_tokens"] == 3200
    shorter = {"regimes": {"short": {**regime, "rollout": {"max_response_tokens": 100}}}}
    assert data_of(merge(config, shorter))["max_response_tokens"] == 3000


def test_data_that_no_published_model_reads_have_the_config_of_the_task_alone():
    assert expand()["data"] == pinned()["task"]
    code = code_files(ROOT / "workflow/scripts/prepare_data.py", config=expand()["data"])
    assert not [file for file in code if "models/policy" in str(file)]


def test_a_task_that_a_published_model_reads_is_measured_for_it(tmp_path):
    saved(tmp_path / "mine")
    checkpoint = {"source": str(tmp_path / "mine"), "revision": ""}
    config = merge(pinned(), {"bases": {"mine": {"checkpoint": checkpoint}}})
    shared = expand_profile(check_profile(config, "x"), "x")
    assert shared["data"] == {**pinned()["task"], "max_response_tokens": 96}
    config["bases"]["mine"]["task"] = {"name": "count"}
    own = expand_profile(check_profile(config, "x"), "x")
    assert own["data"] == pinned()["task"]
    assert own["bases/mine/data"]["max_response_tokens"] == 96


# The whole script


@pytest.mark.slow
def test_prepare_data_leaves_out_long_prompts_by_id_so_that_training_and_evaluation_find_none(
    tmp_path,
):
    saved(tmp_path / "model", "qwen3")
    prompts = [PROMPT.replace("{problem}", word_problem(number)) for number in range(12)]
    longest = max(map(len, load_tokenizer(tmp_path / "model")(prompts)["input_ids"]))
    edit_json(tmp_path / "model" / "config.json", max_position_embeddings=longest + 20)
    long, longer = f"{word_problem(11)}!", word_problem(40) * 2
    train = [*gsm8k(*range(12)), {"question": long, "answer": "#### 3"}]
    write_jsonl(tmp_path / "gsm8k_train.jsonl", train)
    aime = [{"problem": "Find $x$.", "answer": "025"}, {"problem": longer, "answer": "026"}]
    write_jsonl(tmp_path / "aime24.jsonl", aime)
    config = data_config(tmp_path, ["gsm8k_train"], ["aime24"], 3)
    ran = prepare(tmp_path, config, tmp_path / "model")
    assert ran.returncode == 0, ran.stderr
    made = tmp_path / "made"
    summary = json.loads((made / "summary.json").read_text())
    assert summary["too_long"] == {"train": ["gsm8k_train-00012"], "aime24": ["aime24-00001"]}
    assert summary["problems"] == {"train": 9, "validation": 3, "aime24": 1}
    assert "train: left out 1 problems with too long prompts: gsm8k_train-00012" in ran.stdout
    reads = summary["prompts"][str(tmp_path / "model")]
    assert (reads["longest"], reads["context"]) == (longest, longest + 20)
    inputs = json.loads((made / "provenance.json").read_text())["inputs"]
    assert str(tmp_path / "model" / "tokenizer.json") in inputs
    # What stopped a run before: the same checks, on the prepared files.
    model = load_reader(tmp_path / "model")
    for name, response in (("train", 20), ("validation", 20), ("aime24", 1)):
        file = made / f"{name}.jsonl"
        check_lengths(read_problems(file), model.tokenizer, model.context, response, file)


@pytest.mark.slow
def test_prepare_data_refuses_a_task_whose_prompts_are_too_long_for_a_published_model(tmp_path):
    saved(tmp_path / "model")
    split = {"size": 4, "min_operations": 2, "max_operations": 4}
    names = ("test", "hard", "validation", "train", "warmup")
    task = {**pinned()["task"], "splits": dict.fromkeys(names, split)}
    fits = prepare(tmp_path, {**task, "max_response_tokens": 300}, tmp_path / "model")
    assert fits.returncode == 0, fits.stderr
    ran = prepare(tmp_path, {**task, "max_response_tokens": 315}, tmp_path / "model")
    assert ran.returncode == 1
    (line,) = [row for row in ran.stderr.splitlines() if row.startswith("error: ")]
    for fragment in (
        "task.splits.test",
        "test-0000",
        "315 tokens",
        "max_operations",
        "(320 tokens)",
    ):
        assert fragment in line
