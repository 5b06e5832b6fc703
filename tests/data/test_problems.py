"""Problems from files: errors that name the place, overlap, and the order of the data."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter

import numpy as np
import pytest

from sspo.config.errors import ConfigError
from sspo.data.batching import batches, distinct, micro_batches
from sspo.data.overlap import overlap
from sspo.data.problems import read_jsonl, read_problems, write_jsonl

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


def test_overlap_ignores_case_and_white_space():
    first = [{"prompt": "What is 2 + 2?"}, {"prompt": "Straße"}, {"prompt": "only here"}]
    second = [{"prompt": " what IS\n2+2?\t"}, {"prompt": "STRASSE"}, {"prompt": "only there"}]
    assert overlap(first, second) == ["strasse", "whatis2+2?"]


def test_overlap_of_different_prompts_is_empty_and_symmetric():
    first, second = [{"prompt": "1+2="}], [{"prompt": "1+3="}, {"prompt": "1+2"}]
    assert overlap(first, second) == overlap(second, first) == []
    assert overlap(first, first) == ["1+2="]


# Batches


@pytest.mark.parametrize("count, size", [(10, 4), (7, 7), (5, 12), (9, 1), (1, 3)])
def test_every_epoch_covers_every_item_exactly_once(count, size):
    epochs = 12
    stream = itertools.chain.from_iterable(batches(count, size, seed=3))
    for _ in range(epochs):
        assert sorted(itertools.islice(stream, count)) == list(range(count))


def test_batches_are_full_and_endless_and_span_epochs():
    drawn = list(itertools.islice(batches(10, 4, seed=0), 200))
    assert {len(batch) for batch in drawn} == {4}
    assert set(Counter(itertools.chain.from_iterable(drawn)).values()) == {80}


def test_every_epoch_has_a_fresh_order():
    stream = itertools.chain.from_iterable(batches(20, 5, seed=0))
    epochs = {tuple(itertools.islice(stream, 20)) for _ in range(10)}
    assert len(epochs) == 10
    assert tuple(range(20)) not in epochs


def test_batches_are_a_function_of_the_arguments_alone():
    def drawn(seed):
        return list(itertools.islice(batches(30, 8, seed), 20))

    first = drawn(0)
    np.random.seed(7)
    random.seed(7)
    assert drawn(0) == first
    assert drawn(1) != first
    resumed = batches(30, 8, 0)
    for _ in range(11):
        next(resumed)
    assert list(itertools.islice(resumed, 9)) == first[11:]


def test_a_problem_that_occurs_again_in_a_rollout_gets_samples_of_its_own():
    records = [{"id": name, "prompt": "p"} for name in "abaa"]
    found = distinct(records)
    assert [r["id"] for r in found] == ["a", "b", "a (2)", "a (3)"]
    assert {r["prompt"] for r in found} == {"p"} and records[2]["id"] == "a"


# Micro-batches


@pytest.mark.parametrize("size", [1, 3, 8, 100])
def test_micro_batches_hold_every_row_once_longest_first(size):
    rng = random.Random(0)
    lengths = [rng.randint(1, 12) for _ in range(29)]
    groups = micro_batches(lengths, size)
    rows = [row for group in groups for row in group]
    assert sorted(rows) == list(range(29))
    assert [lengths[row] for row in rows] == sorted(lengths, reverse=True)
    assert [len(group) for group in groups[:-1]] == [min(size, 29)] * (len(groups) - 1)
    assert 1 <= len(groups[-1]) <= size


def test_a_token_budget_counts_padding_and_leaves_no_row_out():
    lengths = [3, 9, 30, 4, 9, 2, 5]
    groups = micro_batches(lengths, 4, tokens=20)
    assert groups == [[2], [1, 4], [6, 3, 0, 5]]  # 30 alone; 2 x 9; 4 x 5
    assert micro_batches(lengths, 4, tokens=0) == micro_batches(lengths, 4)


def test_micro_batches_keep_the_order_of_equal_lengths():
    assert micro_batches([5, 9, 5, 9, 5], 2) == [[1, 3], [0, 2], [4]]
    assert micro_batches([], 4) == []
