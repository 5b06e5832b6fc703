"""The real data sets: where each one is published, and how its rows become problems.

The names of columns come from public code that loads these data sets, because the hub could not be
reached when this was written. A row that does not fit is refused with its place; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sspo.config.errors import ConfigError, first_line
from sspo.data.golds import first_answer, is_missing, marked_answer, plain_answer
from sspo.data.problems import Record, is_text, read_jsonl

HUB = "hub"  # the source that is not a folder

PACKAGE_MISSING = "install it: pip install -c requirements.txt --editable '.[paper]'"

# This text surrounds DAPO's problems where they were not cleaned. It contradicts any prompt of ours.
_HEAD = (
    "Solve the following math problem step by step. The last line of your response should be of the "
    "form Answer: $Answer (without quotes) where $Answer is the answer to the problem."
)
_TAIL = 'Remember to put your answer on its own line after "Answer:".'


@dataclass(frozen=True)
class DataSet:
    """An entry of ``DATA_SETS``.

    Attributes:
        hub: id on the Hugging Face hub.
        config: name of the configuration there; None where there is only one.
        split: name of the split there.
        problem: columns that may hold the problem, most official first.
        answer: columns that may hold the answer, most official first.
        read: value of the answer column -> gold answer, or None if it is no answer.
        levels: values of the column ``level`` whose rows are used; empty if all rows are used.
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
    # Its 12,000 training rows are MATH without MATH-500. Dr. GRPO and GMPO use the 8.5k of levels 3 to 5.
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
        ConfigError: none of these is there, or more than one.
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
    """The files that data sets are read from; there are none if the source is the hub.

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
        revisions: hub id -> commit, which only the hub needs.

    Raises:
        ConfigError: rows cannot be loaded, or one does not fit; the message names the place and the fix.
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
        if not is_text(problem) or is_missing(problem):
            raise ConfigError(
                f"{where}: the problem must be a non-empty string that UTF-8 can hold, not a missing "
                "value; fix the row"
            )
        column = _column(row, data_set.answer, where)
        answer = data_set.read(row[column])
        if answer is None or not is_text(answer):
            raise ConfigError(
                f"{where}: {column} = {str(row[column])[:80]!r} is not in the form of {name}'s answers; "
                "fix the row: write one answer, as a text or a finite number"
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
    """The number in ``4``, ``"4"`` and ``"Level 4"``; 0 for MATH's ``"Level ?"``, which nothing selects."""
    value = row[_column(row, ("level",), where)]
    text = (plain_answer(value) or str(value)).removeprefix("Level ")  # pandas makes 4.0 of 4
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
        table = parquet.read_table(path)
    except (OSError, ValueError) as error:  # pyarrow raises subclasses of both
        raise ConfigError(f"{path}: not a Parquet file ({error}); fetch it again") from None
    try:
        return table.to_pylist()
    except UnicodeDecodeError as error:
        place, rows = 0, iter(table.to_batches(1))
        with suppress(UnicodeDecodeError):
            while next(rows).to_pylist():
                place += 1
        raise ConfigError(f"{path}: row {place + 1}: not UTF-8 ({error}); fix the row") from None


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
    except Exception as error:  # the hub's libraries raise errors of many types
        raise ConfigError(
            f"{data_set.hub} at {revision}: cannot be loaded ({first_line(error)}); check the network and "
            f"math_data.revisions, or set math_data.source to a folder that holds {name}.jsonl or "
            f"{name}.parquet"
        ) from None
