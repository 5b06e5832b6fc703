r"""Golds are answers: no missing value, no list written as text, no text that a program has broken."""

from __future__ import annotations

import gzip
import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sspo.config.errors import ConfigError
from sspo.config.settings import RewardConfig
from sspo.data.golds import first_answer, marked_answer, plain_answer, unquoted_list
from sspo.data.problems import read_problems
from sspo.data.sources import DATA_SETS, load_data_set
from sspo.rewards.base import state_answer
from sspo.rewards.factory import make_reward

MISSING = [math.nan, math.inf, -math.inf, np.float64("nan"), None, [], [math.nan], [None]]
WRITTEN = ["nan", "NaN", "NAN", "-nan", "inf", "-inf", "+Inf", "None", "null", "<NA>", "NaT", "[]"]


def refusal(folder, name: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_data_set(name, str(folder), {})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rows_of(name: str, answers: list) -> list[dict]:
    data_set = DATA_SETS[name]
    level = {"level": 3} if data_set.levels else {}
    return [
        {data_set.problem[0]: f"Find {i}.", data_set.answer[0]: answer, **level}
        for i, answer in enumerate(answers)
    ]


# Missing and infinite values


@pytest.mark.parametrize(
    "value", [*MISSING, *WRITTEN, f" {WRITTEN[0]}\n", "$nan$", ["nan"]], ids=repr
)
def test_a_missing_or_infinite_value_is_no_answer(value):
    assert plain_answer(value) is None
    assert first_answer(value) is None
    assert marked_answer(f"so\n#### {value}") is None


@pytest.mark.parametrize(
    "text",
    [r"\text{None}", r"\infty", "none", "Infinity", "banana", "information", r"-\infty", "[0]"],
)
def test_words_that_only_look_like_missing_values_are_answers(text):
    assert plain_answer(text) == text


@pytest.mark.parametrize("name", DATA_SETS)
@pytest.mark.parametrize("written", ["NaN", "Infinity", "-Infinity", "null", '"nan"'])
def test_json_without_a_value_is_refused_with_file_row_and_column(tmp_path, name, written):
    right = "#### 3" if name.startswith("gsm8k") else "3"
    good, bad = rows_of(name, [right, "@"])
    text = "\n".join([json.dumps(good), json.dumps(bad).replace('"@"', written)])
    (tmp_path / f"{name}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    message = refusal(tmp_path, name)
    assert message.startswith(f"{tmp_path}/{name}.jsonl.gz: row 2: {DATA_SETS[name].answer[0]} = ")
    assert "fix the row" in message


@pytest.mark.parametrize("value", [math.nan, math.inf, None], ids=repr)
def test_a_column_of_pandas_with_a_gap_is_refused_at_its_row(tmp_path, value):
    frame = pd.DataFrame({"problem": ["a", "b", "c"], "answer": [1.0, 2.0, value]})
    pytest.importorskip("pyarrow")
    frame.to_parquet(tmp_path / "aime25.parquet")
    message = refusal(tmp_path, "aime25")
    assert message.startswith(f"{tmp_path}/aime25.parquet: row 3: answer = ")


def test_a_column_of_pandas_without_gaps_keeps_its_numbers(tmp_path):
    pytest.importorskip("pyarrow")
    answers = [1.0, 0.5, 1e-05, 1e16, -2.0]
    frame = pd.DataFrame({"problem": [*"abcde"], "answer": answers, "level": [3.0] * 5})
    for name in ("aime25", "math_lvl3to5"):
        frame.to_parquet(tmp_path / f"{name}.parquet")
        problems, _ = load_data_set(name, str(tmp_path), {})
        golds = [p["answer"] for p in problems]
        assert golds == ["1", "0.5", "0.00001", "10000000000000000", "-2"]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_finite_number_keeps_its_value_and_has_no_exponent(value):
    text = plain_answer(value)
    assert float(text) == value
    assert "e" not in text


@pytest.mark.parametrize("problem", ["nan", "None", "<NA>"])
def test_a_problem_that_is_a_missing_value_is_refused(tmp_path, problem):
    rows = [{"problem": problem, "answer": "3"}]
    (tmp_path / "aime25.jsonl").write_text(json.dumps(rows[0]))
    assert refusal(tmp_path, "aime25").startswith(f"{tmp_path}/aime25.jsonl: row 1: the problem")


# Lists written as text


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"['9.6\n']", "9.6"),
        ("['9.6\n']", "9.6"),
        ('["9.6"]', "9.6"),
        ('[ "9.6\\n" ]\n', "9.6"),
        (str(["9.6\n"]), "9.6"),
        (json.dumps([r"8.7 \times 10^{8}"]), r"8.7 \times 10^{8}"),
        (str([r"\frac{1}{2}\n"]), r"\frac{1}{2}\n"),
        (str([r"\text{it's}"]), r"\text{it's}"),
        (str(["$7$"]), "7"),
        (str(["027"]), "27"),
    ],
)
def test_a_list_of_one_text_that_was_written_out_is_that_text(text, answer):
    assert plain_answer(text) == first_answer(text) == answer


@given(st.text(alphabet=r"ab1 \{}^_$'" + '"', min_size=1).filter(lambda t: t.strip(" $")))
def test_what_python_and_json_write_for_a_list_is_read_back(item):
    for text in (str([item]), json.dumps([item])):
        assert unquoted_list(text) == [item]
        assert plain_answer(text) == plain_answer([item])


def test_of_several_texts_the_reader_of_the_data_set_decides_as_for_a_real_list():
    for value in (["3", "4"], "['3', '4']", '["3", "4"]'):
        assert plain_answer(value) is None
        assert first_answer(value) == "3"


@pytest.mark.parametrize(
    "text",
    [
        "['3' '4']",  # NumPy; to Python this is one text, 34
        "['3'\n '4']",
        "array(['3'], dtype=object)",
        "('3',)",
        "{'3'}",
        "[['3']]",
        "['3', None]",
        "[b'3']",
        "['3'",
        "['3'] + ['4']",
        "['__import__(\"os\").system(\"touch pwned\")' for _ in '1']",
        "['" + "[" * 100_000,
        r"['\text{no}']",  # a tab to Python
        r"['\frac{1}{2}']",
        r"['x \neq 3']",
        r"['\nu']",
        r"['\pi']",
        r'["\frac{1}{2}"]',
        r'["\theta"]',
    ],
)
def test_a_list_that_cannot_be_read_without_a_guess_is_no_answer(text):
    assert plain_answer(text) is None
    assert first_answer(text) is None


@pytest.mark.parametrize(
    "text", ["[1,2]", "[0, 1)", "[x', y']", r"\left[ 3, 4 \right]", "f'(x)", "{1, 2}", "(3,4)"]
)
def test_intervals_points_and_sets_are_no_lists(text):
    assert plain_answer(text) == text


def test_the_golds_of_a_copy_of_minerva_with_its_lists_written_out_can_be_earned(tmp_path):
    lists = [["9.6\n"], [r"8.7 \times 10^{8}"], ["0.01\n", "0.02\n"], [r"\frac{1}{2}"]]
    frames = {"lists": lists, "texts": [*map(str, lists)], "json": [*map(json.dumps, lists)]}
    golds = {}
    for kind, answers in frames.items():
        folder = tmp_path / kind
        folder.mkdir()
        rows = [{"question": f"Estimate {i}.", "answer": a} for i, a in enumerate(answers)]
        (folder / "minerva.jsonl").write_text("\n".join(map(json.dumps, rows)))
        problems, _ = load_data_set("minerva", str(folder), {})
        golds[kind] = [p["answer"] for p in problems]
    assert golds["texts"] == golds["json"] == golds["lists"]
    assert golds["lists"] == ["9.6", r"8.7 \times 10^{8}", "0.01", r"\frac{1}{2}"]
    reward = make_reward(
        RewardConfig(name="math", time_limit=5.0, memory_mb=1024, max_characters=1000)
    )
    try:
        for gold, right in zip(
            golds["texts"], ["9.6", r"8.7\times 10^8", "0.01", "0.5"], strict=True
        ):
            assert reward(gold, state_answer(right)).value == 1.0
            assert reward(gold, state_answer("7.1")).value == 0.0
    finally:
        reward.close()


# Broken texts


@pytest.mark.parametrize("eaten", ["\frac{1}{2}", "\beta", "\alpha", "\vec{x}", "3\x00", "\x7f"])
def test_an_answer_whose_backslash_a_program_took_for_an_escape_is_no_answer(eaten):
    assert any(ord(c) < 32 or ord(c) == 127 for c in eaten)
    assert plain_answer(eaten) is None


@pytest.mark.parametrize("half", [r"\ud83d", r"\udc00", r"a \uD800 b", r"\udc00\ud800"])
@pytest.mark.parametrize("column", ["problem", "answer"])
def test_half_of_a_surrogate_pair_is_refused_with_file_and_row(tmp_path, half, column):
    good = {"problem": "Find x.", "answer": "3"}
    lines = [json.dumps(good), json.dumps({**good, column: "@"}).replace("@", half)]
    (tmp_path / "aime25.jsonl").write_text("\n".join(lines))
    message = refusal(tmp_path, "aime25")
    assert message.startswith(f"{tmp_path}/aime25.jsonl: row 2: ")
    assert column in message and "fix the row" in message
    message.encode()  # or the message itself could not be printed


def test_a_whole_surrogate_pair_is_a_character(tmp_path):
    (tmp_path / "aime25.jsonl").write_text(r'{"problem": "\ud83d\ude00", "answer": "3"}')
    problems, _ = load_data_set("aime25", str(tmp_path), {})
    assert problems[0]["problem"] == "\N{GRINNING FACE}"


@pytest.mark.parametrize("key", ["id", "prompt", "answer"])
def test_half_of_a_surrogate_pair_in_prepared_problems_is_refused_with_file_and_line(tmp_path, key):
    file = tmp_path / "train.jsonl"
    good = {"id": "a", "prompt": "1+1=", "answer": "2"}
    bad = json.dumps({**good, "id": "b", key: "@"}).replace("@", r"\ud800")
    file.write_text(f"{json.dumps(good)}\n{bad}\n")
    with pytest.raises(ConfigError, match=rf"train\.jsonl:2: field '{key}' .* UTF-8 can hold"):
        read_problems(file)


def test_parquet_bytes_that_are_no_utf8_are_refused_at_their_row(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    texts = pyarrow.array([b"a", b"b", b"\xed\xa0\x80", b"d"]).view(pyarrow.utf8())
    table = pyarrow.table({"problem": texts, "answer": ["1"] * 4})
    parquet.write_table(table, tmp_path / "aime25.parquet")
    message = refusal(tmp_path, "aime25")
    assert message.startswith(f"{tmp_path}/aime25.parquet: row 3: not UTF-8")
