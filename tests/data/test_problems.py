"""Files of problems: what is read is what was written, and a bad line is named with its number."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sspo.config.errors import ConfigError
from sspo.data.problems import check_lengths, read_jsonl, read_problems, write_jsonl
from support.supervised_runs import PROBLEMS

GOOD = {"id": "a-0", "prompt": "7+8=", "answer": "15"}


def refusal(read, path) -> str:
    with pytest.raises(ConfigError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


# Files


def test_records_survive_writing_and_reading(tmp_path):
    records = [
        {"id": "é", "prompt": 'a\nb\t"c"\\', "answer": "\u2192 \U0001f600", "n": 3, "x": None},
        {**GOOD, "nested": {"list": [1, 2.5, True]}},
    ]
    write_jsonl(tmp_path / "x.jsonl", records)
    assert read_jsonl(tmp_path / "x.jsonl") == records
    text = (tmp_path / "x.jsonl").read_text(encoding="utf-8")
    assert text.count("\n") == 2 and "é" in text


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\r\n", "\r"])
def test_unicode_line_separators_inside_a_text_split_no_record(tmp_path, separator):
    records = [{**GOOD, "prompt": f"one{separator}two"}]
    write_jsonl(tmp_path / "x.jsonl", records)
    assert read_problems(tmp_path / "x.jsonl") == records


def test_a_missing_file_is_named(tmp_path):
    path = tmp_path / "none.jsonl"
    assert refusal(read_jsonl, path) == f"{path}: file missing; run the rule that makes it"


@pytest.mark.parametrize("read", [read_jsonl, read_problems])
def test_an_empty_file_is_an_empty_split(tmp_path, read):
    path = tmp_path / "x.jsonl"
    path.write_text("")
    assert refusal(read, path) == f"{path}: the split is empty; raise its size"


@pytest.mark.parametrize("bad", [b'{"id": "a-1", "pro', b"", b"[1, 2]", b'"text"', b"\xff\xfe{}"])
@pytest.mark.parametrize("read", [read_jsonl, read_problems])
def test_a_bad_line_is_named_with_its_file_and_number(tmp_path, read, bad):
    path = tmp_path / "x.jsonl"
    good = json.dumps(GOOD).encode()
    path.write_bytes(b"\n".join([good, good, bad, good, b""]))
    assert refusal(read, path).startswith(f"{path}:3: ")


@pytest.mark.parametrize("key", ["id", "prompt", "answer"])
@pytest.mark.parametrize("value", [None, "", 15, ["15"]])
def test_a_problem_without_a_usable_field_is_named_with_file_line_and_field(tmp_path, key, value):
    path = tmp_path / "x.jsonl"
    write_jsonl(path, [GOOD, {**GOOD, key: value}])
    assert refusal(read_problems, path).startswith(f"{path}:2: field {key!r}")


@pytest.mark.parametrize("key", ["id", "prompt", "answer"])
def test_a_problem_that_lacks_a_field_is_named_with_file_line_and_field(tmp_path, key):
    path = tmp_path / "x.jsonl"
    write_jsonl(path, [GOOD, {k: v for k, v in GOOD.items() if k != key}])
    assert refusal(read_problems, path).startswith(f"{path}:2: field {key!r}")


def test_a_blank_answer_is_refused_because_a_bare_mark_would_earn_it(tmp_path):
    path = tmp_path / "x.jsonl"
    write_jsonl(path, [{**GOOD, "answer": " \n"}])
    assert refusal(read_problems, path).startswith(f"{path}:1: field 'answer'")


def test_an_id_used_twice_is_refused(tmp_path):
    path = tmp_path / "x.jsonl"
    write_jsonl(path, [GOOD, {**GOOD, "prompt": "another"}])
    assert refusal(read_problems, path).startswith(f"{path}:2: id ")


# Overlap


def test_a_prompt_longer_than_the_context_names_file_and_problem(tokenizer):
    check_lengths(PROBLEMS, tokenizer, 128, 128 - 12, Path("train.jsonl"))
    with pytest.raises(ConfigError, match=r"train.jsonl: problem b has 12 prompt tokens"):
        check_lengths(PROBLEMS, tokenizer, 128, 128 - 11, Path("train.jsonl"))
