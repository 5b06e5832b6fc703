"""Real data sets: rows in their published schema become problems, and what does not fit is named."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import subprocess
import sys
from types import ModuleType

import pytest

from sspo.config.errors import ConfigError
from sspo.data.problems import write_jsonl
from sspo.data.sources import DATA_SETS, HUB, load_data_set, local_files, source_files

# One row of every data set in the columns that it is published with.
ROWS = {
    "gsm8k_train": {
        "question": "How many clips?",
        "answer": "She sold 48/2 = <<48/2=24>>24 clips.\n#### 72",
    },
    "gsm8k_test": {"question": "How many dollars?", "answer": "2 * 9 = $<<2*9=18>>18\n#### 1,018"},
    "deepmath": {
        "question": "Evaluate the limit.",
        "final_answer": r"\dfrac{2}{3}",
        "difficulty": 6.0,
        "topic": "Calculus",
        "r1_solution_1": "...",
        "r1_solution_2": "...",
        "r1_solution_3": "...",
    },
    "dapo": {
        "prompt": "In triangle $ABC$, find $DE$.",
        "solution": "34",
        "data_source": "math_dapo",
        "source_prompt": [{"content": "Solve the following ...", "role": "user"}],
        "ability": "MATH",
        "reward_model": {"ground_truth": "34", "style": "rule-lighteval/MATH_v2"},
        "extra_info": {"index": "9a9b"},
    },
    "math_lvl3to5": {
        "problem": "How many vertical asymptotes?",
        "solution": r"... $\boxed{2}$.",
        "answer": "2",
        "subject": "Algebra",
        "level": 3,
        "unique_id": "train/algebra/1.json",
    },
    "math500": {
        "problem": "Convert $(0,3)$ to polar coordinates.",
        "solution": "...",
        "answer": r"\left( 3, \frac{\pi}{2} \right)",
        "subject": "Precalculus",
        "level": 2,
        "unique_id": "test/precalculus/807.json",
    },
    "aime24": {"id": 60, "problem": "Find the walk.", "solution": "...", "answer": "025"},
    "aime25": {"problem": "Find the bases.", "answer": "70", "id": "0"},
    "amc23": {"id": 0, "question": "How many miles?", "answer": 27.0, "url": "..."},
    "minerva": {"question": "Estimate the wavelength.", "answer": "9.6"},
    "olympiadbench": {
        "id": 1606,
        "question": "Find all $x$.",
        "final_answer": ["$69$,$84$"],
        "is_multiple_answer": True,
        "unit": None,
        "answer_type": "Numerical",
        "modality": "Text-only",
    },
}
ANSWERS = {
    "gsm8k_train": "72",
    "gsm8k_test": "1,018",
    "deepmath": r"\dfrac{2}{3}",
    "dapo": "34",
    "math_lvl3to5": "2",
    "math500": r"\left( 3, \frac{\pi}{2} \right)",
    "aime24": "25",
    "aime25": "70",
    "amc23": "27",
    "minerva": "9.6",
    "olympiadbench": "69,84",
}


def load(folder, name, rows):
    write_jsonl(folder / f"{name}.jsonl", rows)
    return load_data_set(name, str(folder), {})


def refusal(call, *arguments) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Rows


def test_every_data_set_has_a_row_to_test():
    assert ROWS.keys() == ANSWERS.keys() == DATA_SETS.keys()


@pytest.mark.parametrize("name", DATA_SETS)
def test_a_row_in_its_published_schema_becomes_a_problem(tmp_path, name):
    problems, rows = load(tmp_path, name, [ROWS[name]])
    text = next(ROWS[name][c] for c in ("problem", "question", "prompt") if c in ROWS[name])
    assert problems == [{"id": f"{name}-00000", "problem": text, "answer": ANSWERS[name]}]
    assert rows == 1


@pytest.mark.parametrize(
    "name, answer, gold",
    [
        ("aime24", "025", "25"),
        ("aime24", 25, "25"),
        ("amc23", 142.0, "142"),
        ("amc23", "142.0", "142"),
        ("amc23", -1.0, "-1"),
        ("amc23", 0.5, "0.5"),
        ("math500", "025.50", "025.50"),
        ("math500", r"\$18.90", r"\$18.90"),
        ("math500", " [-2,7]\n", "[-2,7]"),
        ("minerva", ["9.6\n"], "9.6"),
        ("minerva", ["0.01\n", "0.02\n"], "0.01"),
    ],
)
def test_an_answer_is_written_plainly(tmp_path, name, answer, gold):
    problems, _ = load(tmp_path, name, [{**ROWS[name], "answer": answer}])
    assert problems[0]["answer"] == gold


@pytest.mark.parametrize(
    "answer, gold",
    [
        ("$(1,8,19), (2,7,13)$", "(1,8,19), (2,7,13)"),
        ("$f(x)=x$,$f(x)=2-x$", "f(x)=x,f(x)=2-x"),
        ("$221,$8$", "221,8"),
        (r"$(-\infty, 0) \cup\{1\}$.", r"(-\infty, 0) \cup\{1\}."),
    ],
)
def test_dollars_around_the_parts_of_an_answer_go(tmp_path, answer, gold):
    problems, _ = load(
        tmp_path, "olympiadbench", [{**ROWS["olympiadbench"], "final_answer": [answer]}]
    )
    assert problems[0]["answer"] == gold


@pytest.mark.parametrize(
    "name, column, value",
    [
        ("gsm8k_test", "answer", "The answer is 18"),
        ("gsm8k_test", "answer", ["#### 18"]),
        ("gsm8k_test", "answer", "no number ####"),
        ("olympiadbench", "final_answer", ["1", "2"]),
        ("olympiadbench", "final_answer", []),
        ("minerva", "answer", []),
        ("aime25", "answer", None),
        ("aime25", "answer", " $ $ "),
        ("aime25", "answer", True),
        ("aime25", "answer", {"value": 3}),
    ],
)
def test_what_is_no_answer_is_refused_with_file_row_and_column(tmp_path, name, column, value):
    message = refusal(load, tmp_path, name, [ROWS[name], {**ROWS[name], column: value}])
    assert message.startswith(f"{tmp_path / name}.jsonl: row 2: {column} = ")
    assert "fix the row" in message


@pytest.mark.parametrize("problem", [None, "", " \n", ["a"]])
def test_a_row_without_a_problem_is_refused_with_file_and_row(tmp_path, problem):
    message = refusal(load, tmp_path, "aime25", [{"problem": problem, "answer": "70"}])
    assert message.startswith(f"{tmp_path}/aime25.jsonl: row 1: the problem")


def test_a_column_that_is_missing_is_named_with_those_that_are_there(tmp_path):
    message = refusal(load, tmp_path, "olympiadbench", [{"text": "Find x.", "final_answer": ["1"]}])
    for fragment in ("olympiadbench.jsonl: row 1", "question or problem", "text, final_answer"):
        assert fragment in message


def test_only_levels_3_to_5_of_math_are_used_and_ids_still_name_the_row(tmp_path):
    levels = [1, 2, 3, 4, 5, "Level 1", "Level 4", "5", "Level ?"]
    rows = [{**ROWS["math_lvl3to5"], "level": level} for level in levels]
    problems, read = load(tmp_path, "math_lvl3to5", rows)
    assert [p["id"] for p in problems] == [f"math_lvl3to5-{i:05d}" for i in (2, 3, 4, 6, 7)]
    assert read == len(levels)


def test_a_level_that_is_none_is_refused(tmp_path):
    row = {**ROWS["math_lvl3to5"], "level": "hard"}
    assert "row 1: level = 'hard'" in refusal(load, tmp_path, "math_lvl3to5", [row])


def test_dapo_s_own_answer_format_does_not_reach_the_model(tmp_path):
    dressed = (
        "Solve the following math problem step by step. The last line of your response should be of "
        "the form Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n"
        'Find $DE$.\n\nRemember to put your answer on its own line after "Answer:".'
    )
    problems, _ = load(tmp_path, "dapo", [{**ROWS["dapo"], "prompt": dressed}])
    assert problems[0]["problem"] == "Find $DE$."


# Folders


def test_a_folder_may_hold_jsonl_plain_or_compressed(tmp_path):
    rows = [{"problem": f"Problem {i}", "answer": str(i)} for i in range(3)]
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (tmp_path / "aime24.jsonl").write_bytes(text)
    (tmp_path / "aime25.jsonl.gz").write_bytes(gzip.compress(text))
    expected = [(f"Problem {i}", str(i)) for i in range(3)]
    for name in ("aime24", "aime25"):
        problems, read = load_data_set(name, str(tmp_path), {})
        assert [(p["problem"], p["answer"]) for p in problems] == expected
        assert read == 3


def test_parquet_files_are_read_in_order_and_rows_are_counted_on(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [ROWS["olympiadbench"] | {"question": f"Problem {i}"} for i in range(3)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "olympiadbench.parquet")
    (tmp_path / "deepmath").mkdir()
    for shard in (0, 1):
        rows = [ROWS["deepmath"] | {"question": f"Problem {shard}{i}"} for i in range(2)]
        file = tmp_path / "deepmath" / f"train-{shard:05d}-of-00002.parquet"
        parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    single, _ = load_data_set("olympiadbench", str(tmp_path), {})
    assert [(p["problem"], p["answer"]) for p in single] == [
        (f"Problem {i}", "69,84") for i in range(3)
    ]
    sharded, read = load_data_set("deepmath", str(tmp_path), {})
    assert [p["problem"] for p in sharded] == [f"Problem {i}" for i in ("00", "01", "10", "11")]
    assert [p["id"] for p in sharded] == [f"deepmath-{i:05d}" for i in range(4)]
    assert read == 4


def test_a_damaged_parquet_file_is_one_line(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "aime25.parquet").write_bytes(b"PAR1 nothing")
    message = refusal(load_data_set, "aime25", str(tmp_path), {})
    assert message.startswith(f"{tmp_path}/aime25.parquet: not a Parquet file")


def test_parquet_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "aime25.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert ".[paper]" in refusal(load_data_set, "aime25", str(tmp_path), {})


def test_a_data_set_that_is_not_in_the_folder_is_named_with_the_files_to_put_there(tmp_path):
    message = refusal(local_files, tmp_path, "aime25")
    for fragment in (str(tmp_path), "'aime25'", "aime25.jsonl", "aime25.parquet", "math-ai/aime25"):
        assert fragment in message


def test_two_copies_of_a_data_set_are_refused_because_one_would_win_silently(tmp_path):
    for ending in ("jsonl", "parquet"):
        (tmp_path / f"aime25.{ending}").write_bytes(b"")
    assert "more than one copy" in refusal(local_files, tmp_path, "aime25")


def test_files_of_a_folder_are_inputs_and_the_hub_has_none(tmp_path):
    write_jsonl(tmp_path / "aime25.jsonl", [ROWS["aime25"]])
    assert source_files(str(tmp_path), ["aime25"]) == [tmp_path / "aime25.jsonl"]
    assert source_files(HUB, ["aime25"]) == []


# The hub

PIN = "0" * 40


def hub(monkeypatch, load_dataset):
    module = ModuleType("datasets")
    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)


@pytest.mark.parametrize("name", DATA_SETS)
def test_the_hub_is_asked_for_exactly_one_commit(monkeypatch, name):
    asked = []

    def load_dataset(*arguments, **named):
        asked.append((arguments, named))
        return [ROWS[name]]

    hub(monkeypatch, load_dataset)
    problems, rows = load_data_set(name, HUB, {DATA_SETS[name].hub: PIN})
    entry = DATA_SETS[name]
    assert asked == [((entry.hub, entry.config), {"split": entry.split, "revision": PIN})]
    assert rows == 1 and problems[0]["answer"] == ANSWERS[name]


def test_a_hub_that_cannot_be_reached_is_one_line_that_says_what_to_do(monkeypatch):
    def load_dataset(*_, **__):
        raise ConnectionError("Couldn't reach the hub\nmore\nlines")

    hub(monkeypatch, load_dataset)
    message = refusal(load_data_set, "aime25", HUB, {"math-ai/aime25": PIN})
    for fragment in ("math-ai/aime25", PIN, "Couldn't reach the hub", "aime25.jsonl", "revisions"):
        assert fragment in message


def test_a_hub_row_that_does_not_fit_is_named_with_commit_and_row(monkeypatch):
    hub(monkeypatch, lambda *_, **__: [ROWS["aime25"], {"problem": "x", "answer": None}])
    message = refusal(load_data_set, "aime25", HUB, {"math-ai/aime25": PIN})
    assert message.startswith(f"math-ai/aime25 at {PIN}: row 2: answer")


def test_the_hub_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    message = refusal(load_data_set, "aime25", HUB, {"math-ai/aime25": PIN})
    assert "math-ai/aime25" in message and ".[paper]" in message


@pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="needs the extra paper")
def test_the_real_library_off_line_is_one_line_too(tmp_path):
    program = (
        "from sspo.data.sources import load_data_set\n"
        f"load_data_set('aime25', 'hub', {{'math-ai/aime25': '{PIN}'}})"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    last = ran.stderr.strip().splitlines()[-1]
    assert last.startswith("sspo.config.errors.ConfigError: math-ai/aime25 at ")
    assert "math_data.source" in last
