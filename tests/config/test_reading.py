"""Settings read from dictionaries and files: a mistake is one line that names file, key and what fits."""

from __future__ import annotations

import json

import pytest

from sspo.config import reading
from sspo.config.errors import ConfigError
from sspo.config.reading import load_json, parse, plain
from sspo.config.run import RunConfig
from sspo.config.settings import ComputeConfig, ModelConfig, SupervisedConfig
from sspo.config.study import EvaluationConfig
from sspo.config.yaml_files import read_yaml
from support.profiles import expand


def test_a_key_given_twice_is_refused_with_its_line(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("train:\n  steps: 3\n  steps: 4\n")
    with pytest.raises(ConfigError, match=r"'steps' is given twice; remove one.* line 3"):
        read_yaml(file)


# Sections

COMPUTE = {"device": "cpu", "dtype": "float32", "threads": 1}
EVALUATION = {
    "splits": ["a", "b"],
    "pools": {"both": ["a", "b"]},
    "engine": "torch",
    "vllm_memory": 0.9,
    "samples": 8,
    "temperature": 1,
    "pass_at": [1, 8],
    "seed": 0,
}


def mistake(kind, data, where="") -> str:
    with pytest.raises(ConfigError) as caught:
        parse(kind, data, where)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_parse_builds_what_plain_takes_apart():
    evaluation = parse(EvaluationConfig, EVALUATION)
    assert evaluation == EvaluationConfig(
        splits=("a", "b"),
        pools={"both": ("a", "b")},
        engine="torch",
        vllm_memory=0.9,
        samples=8,
        temperature=1.0,
        pass_at=(1, 8),
        seed=0,
    )
    assert parse(EvaluationConfig, plain(evaluation)) == evaluation
    assert parse(EvaluationConfig, json.loads(json.dumps(plain(evaluation)))) == evaluation


def test_an_integer_is_a_number_and_becomes_a_float():
    temperature = parse(EvaluationConfig, EVALUATION).temperature
    assert isinstance(temperature, float) and temperature == 1.0


@pytest.mark.parametrize("key", EVALUATION)
def test_a_missing_key_is_named(key):
    data = {k: v for k, v in EVALUATION.items() if k != key}
    assert f"evaluation.{key}: missing; add it" in mistake(EvaluationConfig, data, "evaluation.")


def test_an_unknown_key_is_named_with_the_known_ones():
    message = mistake(ComputeConfig, {**COMPUTE, "cores": 2}, "compute.")
    assert message == "compute.cores: unknown key; known keys: device, dtype, threads"


@pytest.mark.parametrize(
    "key, value, expected",
    [
        ("samples", True, "integer"),
        ("samples", 8.5, "integer"),
        ("samples", "8", "integer"),
        ("samples", None, "integer"),
        ("temperature", True, "number"),
        ("temperature", "1", "number; YAML takes 1e-4 for text, write 1.0e-4"),
        ("splits", "ab", "array"),
        ("pass_at", 1, "array"),
        ("splits", {"a": 1}, "array"),
    ],
)
def test_a_value_of_another_type_is_named_with_the_type_it_should_have(key, value, expected):
    message = mistake(EvaluationConfig, {**EVALUATION, key: value}, "x.")
    assert f"x.{key} = {value!r}: Input should be a valid {expected}" in message


def test_entries_of_a_list_are_checked_one_by_one():
    message = mistake(EvaluationConfig, {**EVALUATION, "pass_at": [1, 2.5]})
    assert message.startswith("pass_at[1] = 2.5: Input should be a valid integer")


@pytest.mark.parametrize("betas", [[0.9], [0.9, 0.99, 0.999], [0.9, "x"], 0.9])
def test_betas_are_two_numbers(betas):
    data = expand()["base"]["supervised"]
    assert mistake(SupervisedConfig, {**data, "betas": betas}).startswith("betas")


def test_a_choice_is_named_with_what_can_be_chosen():
    message = mistake(ComputeConfig, {**COMPUTE, "dtype": "float16"})
    assert message.startswith("dtype = 'float16': Input should be 'float32' or 'bfloat16' (")


def test_errors_inside_nested_configs_give_the_whole_path():
    data = expand()["runs/sspo-s0"]
    message = mistake(RunConfig, {**data, "train": {**data["train"], "steps": "3"}})
    assert message == "train.steps = '3': Input should be a valid integer (rollouts)"
    assert mistake(RunConfig, {**data, "train": 3}).startswith(
        "train = 3: Input should be an object"
    )


def test_a_run_whose_updates_cannot_share_its_prompts_is_refused():
    data = expand()["runs/sspo-s0"]
    message = mistake(RunConfig, {**data, "rollout": {**data["rollout"], "prompts_per_step": 6}})
    for fragment in ("prompts_per_step = 6", "updates_per_rollout = 4"):
        assert fragment in message


# JSON files


def test_read_names_the_file_once_and_the_key(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(COMPUTE))
    assert reading.read(ComputeConfig, path) == ComputeConfig(
        device="cpu", dtype="float32", threads=1
    )
    path.write_text(json.dumps({**COMPUTE, "threads": "1"}))
    with pytest.raises(ConfigError) as caught:
        reading.read(ComputeConfig, path)
    assert str(caught.value).startswith(f"{path}: threads = '1': Input should be a valid integer")


@pytest.mark.parametrize("content", [None, "", '{"a": 1', "[1]", "3", b"\xff\xfe"])
@pytest.mark.parametrize("load", [load_json, lambda path: reading.read(ModelConfig, path)])
def test_a_file_that_is_no_json_object_is_one_line_that_names_it_once(tmp_path, content, load):
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.count(str(path)) == 1
    assert "\n" not in message
