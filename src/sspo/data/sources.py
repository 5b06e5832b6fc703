"""The real data sets: where each one is published and how its rows become problems.

Columns were read off public code that loads these data sets, not off the hub, which could not be
reached when this was written. A row that does not fit is refused with its place, never guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sspo.config.errors import ConfigError, first_line
from sspo.data.problems import Record, read_jsonl
from sspo.rewards.answers import MARK

HUB = "hub"  # as a source, not a folder

PACKAGE_MISSING = "install it: pip install -c requirements.txt --editable '.[paper]'"

# Stands around DAPO's problems where they were not cleaned, and contradicts any prompt of ours.
_HEAD = (
    "Solve the following math problem step by step. The last line of your response should be of the "
    "form Answer: $Answer (without quotes) where $Answer is the answer to the problem."
)
_TAIL = 'Remember to put your answer on its own line after "Answer:".'

_WHOLE = re.compile(r"([+-]?[0-9]{1,18})(\.0+)?")
_DOLLAR = re.compile(r"(?<!\\)\$")


def plain_answer(value: object) -> str | None:
    r"""An answer as text: no ``$``, whole numbers plain (``025`` -> 25, 142.0 -> 142); else None."""
    if isinstance(value, list):
        return plain_answer(value[0]) if len(value) == 1 else None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = " ".join(_DOLLAR.sub("", str(value)).split())
    whole = _WHOLE.fullmatch(text)
    return str(int(whole[1])) if whole else text or None


def marked_answer(value: object) -> str | None:
    """What follows GSM8K's last ``####``; None without one."""
    if not isinstance(value, str) or MARK not in value:
        return None
    return plain_answer(value.rpartition(MARK)[2])


def first_answer(value: object) -> str | None:
    """The first of several answers that are alternatives (a copy of Minerva lists them)."""
    return plain_answer(value[0] if isinstance(value, list) and value else value)


@dataclass(frozen=True)
class DataSet:
    """An entry of ``DATA_SETS``.

    Attributes:
        hub: id on the Hugging Face hub.
        config: configuration there, None for the only one.
        split: split there.
        problem: columns that may hold the problem, most official first.
        answer: columns that may hold the answer, most official first.
        read: answer column -> gold answer, None for what is no answer.
        levels: the values of the column ``level`` that are used; empty where all rows are.
    """

    hub: str
    config: str | None
    split: str
    problem: tuple[str, ...] = ("problem",)
    answer: tuple[str, ...] = ("answer",)
    read: Callable[[object], str | None] = plain_answer
    levels: tuple[int, ...] = ()


_EITHER = ("question", "problem")

DATA_SETS: dict[str, DataSet] = {
    "gsm8k_train": DataSet("openai/gsm8k", "main", "train", ("question",), read=marked_answer),
    "gsm8k_test": DataSet("openai/gsm8k", "main", "test", ("question",), read=marked_answer),
    "deepmath": DataSet("zwhe99/DeepMath-103K", None, "train", ("question",), ("final_answer",)),
    "dapo": DataSet("open-r1/DAPO-Math-17k-Processed", "en", "train", ("prompt",), ("solution",)),
    # 12,000 training rows: MATH without MATH-500. Levels 3 to 5 are the 8.5k of Dr. GRPO and GMPO.
    "math_lvl3to5": DataSet("nlile/hendrycks-MATH-benchmark", None, "train", levels=(3, 4, 5)),
    "math500": DataSet("math-ai/math500", None, "test"),
    "aime24": DataSet("HuggingFaceH4/aime_2024", None, "train"),
    "aime25": DataSet("math-ai/aime25", None, "test"),
    "amc23": DataSet("math-ai/amc23", None, "test", _EITHER),
    "minerva": DataSet("math-ai/minervamath", None, "test", _EITHER, read=first_answer),
    "olympiadbench": DataSet(
        "math-ai/olympiadbench", None, "test", _EITHER, ("final_answer", "answer")
    ),
}


def local_files(folder: str | Path, name: str) -> list[Path]:
    """The files that hold one data set: ``NAME.jsonl``, ``.jsonl.gz``, ``.parquet`` or ``NAME/*.parquet``.

    Raises:
        ConfigError: none is there, or more than one of these.
    """
    folder = Path(folder)
    single = [folder / f"{name}{ending}" for ending in (".jsonl", ".jsonl.gz", ".parquet")]
    found = [[file] for file in single if file.is_file()]
    found += [shards] if (shards := sorted((folder / name).glob("*.parquet"))) else []
    if len(found) != 1:
        problem = "no data set" if not found else "more than one copy of the data set"
        raise ConfigError(
            f"{folder}: {problem} {name!r}; put exactly one of {name}.jsonl, {name}.jsonl.gz, "
            f"{name}.parquet and {name}/*.parquet there ({DATA_SETS[name].hub} on the hub)"
        )
    return found[0]


def source_files(source: str, names: Iterable[str]) -> list[Path]:
    """The files that data sets are read from; none from the hub.

    Raises:
        ConfigError: as ``local_files``.
    """
    return [] if source == HUB else [file for n in names for file in local_files(source, n)]


def load_data_set(name: str, source: str, revisions: Mapping[str, str]) -> tuple[list[Record], int]:
    """A data set's problems (``id``, ``problem``, ``answer``), and how many rows were read.

    An id names the data set and the row, counted from 0 before any filter.

    Args:
        name: key of ``DATA_SETS``.
        source: "hub", or a folder for ``local_files``.
        revisions: hub id -> commit; used for the hub alone.

    Raises:
        ConfigError: rows that cannot be had, or one that does not fit; names the place and the fix.
    """
    if source == HUB:
        hub = DATA_SETS[name].hub
        tables = [(f"{hub} at {revisions[hub]}", _read_hub(DATA_SETS[name], revisions[hub], name))]
    else:
        tables = [(str(file), _read_file(file)) for file in local_files(source, name)]
    problems: list[Record] = []
    first = 0
    for place, rows in tables:
        problems += _problems(name, rows, place, first)
        first += len(rows)
    return problems, first


def _problems(name: str, rows: Iterable[Record], place: str, first: int) -> list[Record]:
    data_set = DATA_SETS[name]
    problems = []
    for number, row in enumerate(rows):
        where = f"{place}: row {number + 1}"
        if data_set.levels and _level(row, where) not in data_set.levels:
            continue
        problem = row[_column(row, data_set.problem, where)]
        if not isinstance(problem, str) or not problem.strip():
            raise ConfigError(f"{where}: the problem must be a non-empty string; fix the row")
        column = _column(row, data_set.answer, where)
        answer = data_set.read(row[column])
        if answer is None:
            raise ConfigError(
                f"{where}: {column} = {str(row[column])[:80]!r} is no answer as {name} has them; "
                "fix the row"
            )
        text = problem.strip().removeprefix(_HEAD).removesuffix(_TAIL).strip()
        identifier = f"{name}-{first + number:05d}"
        problems.append({"id": identifier, "problem": text, "answer": answer})
    return problems


def _column(row: Record, names: Sequence[str], where: str) -> str:
    for name in names:
        if name in row:
            return name
    raise ConfigError(
        f"{where}: no column {' or '.join(names)}, only {', '.join(row)}; rename it, or adapt "
        "DATA_SETS in src/sspo/data/sources.py"
    )


def _level(row: Record, where: str) -> int:
    """The number in ``4``, ``"4"`` and ``"Level 4"``; 0 for MATH's ``"Level ?"``, which no set uses."""
    text = str(row[_column(row, ("level",), where)]).removeprefix("Level ")
    if text not in {"1", "2", "3", "4", "5", "?"}:
        raise ConfigError(f"{where}: level = {text!r}: expected 1 to 5; fix the row")
    return 0 if text == "?" else int(text)


def _read_file(path: Path) -> list[Record]:
    if path.suffix != ".parquet":
        return read_jsonl(path)
    try:
        from pyarrow import parquet
    except ImportError:
        raise ConfigError(f"{path}: needs the package pyarrow; {PACKAGE_MISSING}") from None
    try:
        return parquet.read_table(path).to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's errors are both
        raise ConfigError(f"{path}: not a Parquet file ({error}); fetch it again") from None


def _read_hub(data_set: DataSet, revision: str, name: str) -> list[Record]:
    try:
        import datasets
    except ImportError:
        raise ConfigError(
            f"{data_set.hub}: needs the package datasets; {PACKAGE_MISSING}"
        ) from None
    try:
        return list(
            datasets.load_dataset(
                data_set.hub, data_set.config, split=data_set.split, revision=revision
            )
        )
    except Exception as error:  # the hub's libraries raise many types
        raise ConfigError(
            f"{data_set.hub} at {revision}: cannot be loaded ({first_line(error)}); check the network and "
            f"math_data.revisions, or set math_data.source to a folder that holds {name}.jsonl or "
            f"{name}.parquet"
        ) from None
